"""Reads many spans of one pack, as they follow each other, through few long requests."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from storage.errors import NotFound, Unavailable
from storage.objects import Body
from storage.objects.spans import checked_span
from storage.packs import BLOCK_BYTES, Blocks, Damaged
from storage.packs.stream import SpanBody, span_of
from storage.packs.supply import Stream, Supply

_MAX_GAP = 1  # blocks between two spans that are read and passed over
_MAX_RUN = 512  # blocks of one request, unless a single span has more
_MIN_CACHED = 64  # blocks in a row that are cached end a request: fewer cost less than another one


class RunReader:
    """An Opener of spans of the pack `key`, best asked for in rising order; every block is verified.

    `wanted` says which spans will be asked for, so that a request ends where no more are. Others, and those out of
    order, are read too, by further requests. What is cached is read from there. Holds one block, or eight while too
    many requests last. For one thread; close it.
    """

    def __init__(self, supply: Supply, key: str, blocks: Blocks, wanted: Iterable[tuple[int, int]]) -> None:
        self._supply = supply
        self._key = key
        self._blocks = blocks
        self._runs = _runs(sorted(wanted))
        self._stream: Stream | None = None
        self._held: tuple[int, bytes] | None = None

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        """See `ObjectStore`; ValueError for another key. The first block is read now."""
        if key != self._key:
            raise ValueError("a run is read of one object")
        offset, length = checked_span(span, self._blocks.length)
        if not length:
            return SpanBody((), 0)
        first, after = offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES)
        self._block(first, after)
        return SpanBody(span_of(self._between(first, after), offset % BLOCK_BYTES, length), length)

    def _between(self, first: int, after: int) -> Iterator[bytes]:
        try:
            for number in range(first, after):
                yield self._block(number, after)
        except NotFound as error:  # it was there a moment ago: what was promised cannot be kept
            raise Unavailable("an object has gone while it was read") from error

    def _block(self, number: int, after: int) -> bytes:
        while self._held is None or self._held[0] != number:
            if not self._passes(number):
                block = self._supply.cached(self._key, number, self._blocks)
                if block is not None:
                    self._held = (number, block)
                    break
                self._open(number, after)
            assert self._stream is not None
            try:
                self._held = (self._stream.next, next(self._stream))
            except Damaged:
                self.close()  # what is wanted next may lie behind the block that is wrong
                raise
        return self._held[1]

    def _passes(self, number: int) -> bool:
        """Whether the request that is open gives this block soon."""
        stream = self._stream
        return stream is not None and stream.next <= number <= stream.next + _MAX_GAP and number < stream.after

    def _open(self, number: int, after: int) -> None:
        self.close()
        end = self._end_of_missing(number, max(after, self._end(number)))
        self._stream = self._supply.stream(self._key, self._blocks, number, end)

    def _end(self, number: int) -> int:
        """The block after the run that this one is in; 0 when it is in none."""
        at = bisect_right(self._runs, (number, self._blocks.length)) - 1
        return self._runs[at][1] if at >= 0 else 0

    def _end_of_missing(self, number: int, after: int) -> int:
        """The first block behind `number` from which on many are cached, or all up to `after`."""
        cached = 0
        for other in range(number + 1, after):
            cached = cached + 1 if self._supply.has(self._key, other) else 0
            if cached == _MIN_CACHED:
                return other + 1 - cached
        return after - cached

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
