"""Two stores that hold the same objects as one: read from the second where the first fails, also in mid-object."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TypeVar

from storage.errors import Invalid, NotFound, Unavailable
from storage.objects import Body, ObjectMeta, ObjectStore, Source

_T = TypeVar("_T")
_READ_BYTES = 8 << 20


class FallbackStore:
    """An ObjectStore that is `primary`, but read from `second` where `primary` is Unavailable or lacks an object.

    `primary` is asked first each time: a store over a network is one that fails at once while it is away (see
    `breaker`). NotFound is raised only when both say so. Everything but reading is `primary` alone.
    """

    def __init__(self, primary: ObjectStore, second: ObjectStore) -> None:
        self._primary = primary
        self._second = second

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        """See `ObjectStore`."""
        return _either(lambda: self._guarded(key, span), lambda: self._second.get(key, span))

    def head(self, key: str) -> ObjectMeta:
        """See `ObjectStore`."""
        return _either(lambda: self._primary.head(key), lambda: self._second.head(key))

    def _guarded(self, key: str, span: tuple[int, int] | None) -> Body:
        body = self._primary.get(key, span)
        offset = 0 if span is None else span[0]
        return GuardedBody(body, lambda done: self._second.get(key, (offset + done, body.length - done)))

    def put(self, key: str, source: Source, *, if_absent: bool = True) -> ObjectMeta:
        """See `ObjectStore`."""
        return self._primary.put(key, source, if_absent=if_absent)

    def delete(self, names: Iterable[str]) -> None:
        """See `ObjectStore`."""
        self._primary.delete(names)

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectMeta]:
        """See `ObjectStore`."""
        return self._primary.scan(prefix, after=after)

    def check(self) -> None:
        """See `ObjectStore`."""
        self._primary.check()


def _either(first: Callable[[], _T], second: Callable[[], _T]) -> _T:
    try:
        return first()
    except NotFound:
        return second()
    except Unavailable as error:
        try:
            return second()
        except NotFound:
            raise error from None  # it may well be in the first


class GuardedBody(Body):
    """`body`, or from where it is `broken` what `rest` opens after so many bytes."""

    def __init__(self, body: Body, rest: Callable[[int], Body], *, broken: type[Unavailable] = Unavailable) -> None:
        self._body = body
        self._rest = rest
        self._broken = broken

    @property
    def length(self) -> int:
        return self._body.length

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        done = 0
        try:
            for chunk in self._body.chunks(size):
                done += len(chunk)
                yield chunk
        except self._broken as error:
            try:
                rest = self._rest(done)
            except (NotFound, Invalid, Unavailable):
                raise error from None
            with closing(rest):
                yield from rest.chunks(size)
        finally:
            self.close()

    def read(self) -> bytes:
        pieces = list(self.chunks(_READ_BYTES))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        self._body.close()
