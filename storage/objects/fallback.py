"""Two stores that hold the same objects as one: read from the second where the first fails, also in mid-object."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from types import TracebackType
from typing import Self, TypeVar

from storage.errors import Invalid, NotFound, Unavailable
from storage.objects import Body, ObjectMeta, ObjectStore, Source

_T = TypeVar("_T")
_READ_BYTES = 8 << 20


class FallbackStore:
    """An ObjectStore that is `primary`, but read from `second` where `primary` is Unavailable or lacks an object.

    After it was Unavailable `primary` is not asked for `pause_seconds`, unless `second` fails as well. NotFound is
    raised only when both say so. Everything but reading is `primary` alone.
    """

    def __init__(self, primary: ObjectStore, second: ObjectStore, *, pause_seconds: float = 10.0) -> None:
        self._primary = primary
        self._second = second
        self._pause_seconds = pause_seconds
        self._resume_at = 0.0

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        """See `ObjectStore`."""
        return self._either(lambda: self._guarded(key, span), lambda: self._second.get(key, span))

    def head(self, key: str) -> ObjectMeta:
        """See `ObjectStore`."""
        return self._either(lambda: self._primary.head(key), lambda: self._second.head(key))

    def _either(self, first: Callable[[], _T], second: Callable[[], _T]) -> _T:
        if time.monotonic() < self._resume_at:
            try:
                return second()
            except (NotFound, Unavailable):
                return self._watched(first)
        try:
            return self._watched(first)
        except NotFound:
            return second()
        except Unavailable as error:
            try:
                return second()
            except NotFound:
                raise error from None  # it may well be in the first

    def _watched(self, act: Callable[[], _T]) -> _T:
        try:
            return act()
        except Unavailable:
            self._pause()
            raise

    def _pause(self) -> None:
        self._resume_at = time.monotonic() + self._pause_seconds

    def _guarded(self, key: str, span: tuple[int, int] | None) -> Body:
        body = self._primary.get(key, span)
        offset = 0 if span is None else span[0]

        def rest(done: int) -> Body:
            self._pause()
            return self._second.get(key, (offset + done, body.length - done))

        return _GuardedBody(body, rest)

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


class _GuardedBody:
    """`body`, or from where it breaks what `rest` opens after so many bytes."""

    def __init__(self, body: Body, rest: Callable[[int], Body]) -> None:
        self._body = body
        self._rest = rest

    @property
    def length(self) -> int:
        return self._body.length

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        done = 0
        try:
            for chunk in self._body.chunks(size):
                done += len(chunk)
                yield chunk
        except Unavailable as error:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
