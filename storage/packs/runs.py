"""Reads many spans of one pack, as they follow each other, through few long requests."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from storage.objects import Body, ObjectStore
from storage.objects.spans import checked_span
from storage.packs import BLOCK_BYTES, Blocks
from storage.packs.stream import BlockStream, SpanBody, span_of

_MAX_GAP = 1  # blocks between two spans that are read and passed over
_MAX_RUN = 512  # blocks of one request, unless a single span has more


class RunReader:
    """An Opener of spans of the pack `key`, best asked for in rising order; every block is verified.

    `wanted` says which spans will be asked for, so that a request ends where no more are. Others, and those out of
    order, are read too, by further requests. Holds one block. For one thread; close it.
    """

    def __init__(self, store: ObjectStore, key: str, blocks: Blocks, wanted: Iterable[tuple[int, int]]) -> None:
        self._store = store
        self._key = key
        self._blocks = blocks
        self._runs = _runs(sorted(wanted))
        self._stream: BlockStream | None = None
        self._held: tuple[int, bytes] | None = None

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        """See `ObjectStore`; ValueError for another key."""
        if key != self._key:
            raise ValueError("a run is read of one object")
        offset, length = checked_span(span, self._blocks.length)
        if not length:
            return SpanBody((), 0)
        first, after = offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES)
        if not self._holds(first):
            self._reach(first, after)
        return SpanBody(span_of(self._between(first, after), offset % BLOCK_BYTES, length), length)

    def _between(self, first: int, after: int) -> Iterator[bytes]:
        for number in range(first, after):
            yield self._block(number, after)

    def _block(self, number: int, after: int) -> bytes:
        while not self._holds(number):
            stream = self._reach(number, after)
            self._held = (stream.next, next(stream))
        assert self._held is not None
        return self._held[1]

    def _holds(self, number: int) -> bool:
        return self._held is not None and self._held[0] == number

    def _reach(self, number: int, after: int) -> BlockStream:
        """A stream that gives this block soon: the present one when it does, else one from there to its run's end."""
        stream = self._stream
        if stream is None or not stream.next <= number <= stream.next + _MAX_GAP or number >= stream.after:
            self.close()
            stream = BlockStream(self._store, self._key, self._blocks, number, max(after, self._end(number)))
            self._stream = stream
        return stream

    def _end(self, number: int) -> int:
        """The block after the run that this one is in; 0 when it is in none."""
        at = bisect_right(self._runs, (number, self._blocks.length)) - 1
        return self._runs[at][1] if at >= 0 else 0

    def close(self) -> None:
        """Give up what is still to come."""
        if self._stream is not None:
            self._stream.close()
        self._stream, self._held = None, None


def _runs(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """First and after-last block of each run of spans that one request reads."""
    runs: list[tuple[int, int]] = []
    for offset, length in spans:
        first, after = offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES)
        if runs and first <= runs[-1][1] + _MAX_GAP and after - runs[-1][0] <= _MAX_RUN:
            runs[-1] = (runs[-1][0], max(after, runs[-1][1]))
        elif length:
            runs.append((first, after))
    return runs
