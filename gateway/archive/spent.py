"""Removes tombstones that have nothing left to hold down. In doubt they stay: a few bytes each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from threading import Event

from gateway import log
from gateway.archive import tombstones
from gateway.archive.clock import SECOND, microseconds
from gateway.archive.places import ARCHIVE, COPY, SPOOL
from gateway.archive.steps import Stopped
from gateway.archive.tombstones import Tombstone
from storage.dicom.identity import Identity, Scope
from storage.index import PackingIndex
from storage.objects import ObjectMeta, ObjectStore
from storage.packs import Pack

_AT_LEAST_SECONDS = 24 * 3600  # longer than any copying, sweeping or rebuilding that may be under way
_AT_ONCE = 100

_log = log.get(__name__)


class SpentTombstones:
    """Looks through the tombstones of `stores["archive"]`, some at a time, from the first to the last and round again.

    One is spent when no object of its study, in any store, holds what it covers: every object there is a pack that the
    index names, from which nothing was removed, and of whose instances it covers none.
    """

    def __init__(
        self,
        index: PackingIndex,
        stores: Mapping[str, ObjectStore],
        *,
        stop: Event | None = None,
        clock: Callable[[], int] = microseconds,
    ) -> None:
        self._index = index
        self._archive = stores[ARCHIVE]
        self._stores = stores
        self._stop = stop or Event()
        self._clock = clock
        self._after = ""

    def run_once(self) -> int:
        """Look at up to 100; how many were removed. Raises Unavailable, and Stopped."""
        seen = list(islice(tombstones.scan(self._archive, after=self._after), _AT_ONCE))
        self._after = seen[-1][0] if len(seen) == _AT_ONCE else ""
        places = [(store, custodians(store)) for name, store in self._stores.items() if name in (ARCHIVE, COPY)]
        spent = []
        for key, stone in seen:
            if self._stop.is_set():
                raise Stopped
            if self._is_spent(stone, places):
                spent.append(key)
        if spent:
            self._archive.delete(spent)
            _log.info("tombstones removed", count=len(spent))
        return len(spent)

    def _is_spent(self, stone: Tombstone, places: Sequence[tuple[ObjectStore, Sequence[str]]]) -> bool:
        study_uid = stone.scope.study_uid
        if self._clock() - stone.at < _AT_LEAST_SECONDS * SECOND:
            return False
        if any(self._stores[SPOOL].scan(f"spool/{study_uid}/")):
            return False
        there = {meta.key for store, found in places for name in found for meta in _packs(store, name, study_uid)}
        named = {pack.location.key: pack for pack in self._index.packs(Scope(study_uid))}
        return there <= named.keys() and not any(_may_hold(pack, stone) for pack in named.values())


def custodians(store: ObjectStore) -> list[str]:
    """Whose packs lie in the store; one request for each."""
    found: list[str] = []
    while True:
        after = f"packs/{found[-1]}0" if found else ""  # "0" follows "/"
        first = next(store.scan("packs/", after=after), None)
        if first is None:
            return found
        found.append(first.key.split("/")[1])


def _packs(store: ObjectStore, custodian: str, study_uid: str) -> Iterator[ObjectMeta]:
    return store.scan(f"packs/{custodian}/{study_uid}/")


def _may_hold(pack: Pack, stone: Tombstone) -> bool:
    """Whether the object holds something that the tombstone covers, be it that the index does not list it any more."""
    return pack.positions is not None or any(
        stone.covers(
            Identity(pack.study_uid, pack.series_uid, packed.sop_uid, packed.sop_class),
            packed.digest,
            packed.received_at,
        )
        for packed in pack.instances
    )
