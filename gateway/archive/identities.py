"""Tells by the identity that lies in an object store whether it is the one that the index means.

A mount that was lost is so not taken for an empty store, nor a folder of this machine for the spool that several
gateways share. The identity is an object as any other: it moves with a store that is copied whole.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator

from storage.errors import Conflict, NotFound, Unavailable
from storage.index import KnownStores
from storage.objects import Body, ObjectMeta, ObjectStore, Source, keys

_BYTES = 16
_IDENTITY = re.compile(rb"[0-9a-f]{32}\n?")
_AGAIN_SECONDS = 60.0  # between two looks whether it is still the same store
_LEASE_SECONDS = 60.0
_ROUNDS, _PAUSE_SECONDS = 900, 0.1
_REMEDY = (
    "Is its disk mounted, is its URL right? Gateways that share an index share one spool, one archive and one copy. If "
    "it was moved or replaced, stop the gateways and run `gateway reindex --resume`"
)


class WrongStore(Unavailable):
    """It is not the object store that the index means."""


def recognise(name: str, store: ObjectStore, index: KnownStores) -> None:
    """Raise WrongStore unless this is the store that the index means by `name`; one that is met first is remembered.

    Raises Unavailable, and what the store raises when it does not answer.
    """
    known = index.known_store(name) or _met(name, store, index)
    found = identity_of(store)
    if found is None:
        raise WrongStore(f"the {name} is empty or another than the index knows: it has no `{keys.STORE_ID}`. {_REMEDY}")
    if found != known:
        raise WrongStore(f"the {name} is another than the index knows. {_REMEDY}")


def take_over(name: str, store: ObjectStore, index: KnownStores) -> None:
    """Let the index mean this store by `name` from now on. Raises as `recognise`."""
    index.replace_store(name, _identity(store))


def identity_of(store: ObjectStore) -> str | None:
    """Which store this is; None when it was not told yet. Raises WrongStore when what lies there is no identity."""
    try:
        with store.get(keys.STORE_ID) as body:
            if body.length > 2 * _BYTES + 1:
                raise _unreadable()
            found = body.read()
    except NotFound:
        return None
    if not _IDENTITY.fullmatch(found):
        raise _unreadable()
    return found.decode().strip()


def _unreadable() -> WrongStore:
    return WrongStore(f"`{keys.STORE_ID}` in an object store is damaged: remove it, and run `gateway reindex --resume`")


def _identity(store: ObjectStore) -> str:
    """That of the store, or one that it gets now."""
    found = identity_of(store)
    if found is not None:
        return found
    made = secrets.token_hex(_BYTES)
    try:
        store.put(keys.STORE_ID, [made.encode() + b"\n"])
    except Conflict:  # a gateway with another index was faster
        return identity_of(store) or made
    return made


def _met(name: str, store: ObjectStore, index: KnownStores) -> str:
    """The identity of a store that the index meets first. Of gateways that start at once one makes it."""
    lease, holder = f"meet/{name}", secrets.token_hex(8)
    for _ in range(_ROUNDS):
        if index.lease(lease, holder, _LEASE_SECONDS):
            try:
                return index.known_store(name) or index.meet_store(name, _identity(store))
            finally:
                index.release(lease, holder)
        time.sleep(_PAUSE_SECONDS)
    raise Unavailable(f"another gateway is about to tell the index of the {name}, and does not come to an end")


class KnownStore:
    """An ObjectStore that is used only when it is the one that the index means; until that is known, each call asks.

    `index` gives the index, which may be opened after the stores. All calls raise as `recognise`. Safe under threads.
    """

    def __init__(
        self,
        name: str,
        inner: ObjectStore,
        index: Callable[[], KnownStores],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner = inner
        self._name = name
        self._index = index
        self._clock = clock
        self._is_known = False
        self._seen_at = 0.0

    def recognise(self) -> None:
        """Ask, also when it is known."""
        try:
            recognise(self._name, self.inner, self._index())
        except WrongStore:
            self._is_known = False
            raise
        self._is_known = True
        self._seen_at = self._clock()

    def _known(self) -> ObjectStore:
        if not self._is_known:
            self.recognise()
        return self.inner

    def put(self, key: str, source: Source, *, if_absent: bool = True) -> ObjectMeta:
        """See `ObjectStore`."""
        return self._known().put(key, source, if_absent=if_absent)

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        """See `ObjectStore`."""
        return self._known().get(key, span)

    def head(self, key: str) -> ObjectMeta:
        """See `ObjectStore`."""
        return self._known().head(key)

    def delete(self, names: Iterable[str]) -> None:
        """See `ObjectStore`."""
        self._known().delete(names)

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectMeta]:
        """See `ObjectStore`."""
        return self._known().scan(prefix, after=after)

    def check(self) -> None:
        """See `ObjectStore`; asks again when that was a minute ago: its disk may have been taken away."""
        self.inner.check()
        if not self._is_known or self._clock() - self._seen_at >= _AGAIN_SECONDS:
            self.recognise()
