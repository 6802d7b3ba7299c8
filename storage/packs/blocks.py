"""Reads spans of remote packs block by block, each verified, and kept for the next who wants it."""

import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from itertools import chain, islice

from storage.objects import Body, ObjectStore
from storage.objects.spans import checked_span
from storage.packs import BLOCK_BYTES, Blocks
from storage.packs.cache import BlockCache
from storage.packs.flights import Flights
from storage.packs.stream import BlockStream, SpanBody, count_of, span_of

_MAX_TOGETHER = 8  # blocks that are fetched and held at once; more are streamed
_MAX_REMEMBERED = 1024  # objects of which it is known how far they were read


class BlockReader:
    """Spans of objects in `store`, of which every byte handed on was verified. Safe under threads.

    With a `cache`, whoever reads on where the last one stopped finds ever more blocks (up to eight) fetched ahead.
    """

    def __init__(self, store: ObjectStore, cache: BlockCache | None = None) -> None:
        self._store = store
        self._cache = cache
        self._flights: Flights[tuple[str, int], list[bytes]] = Flights()
        self._lock = threading.Lock()
        self._ahead: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def get(self, key: str, span: tuple[int, int], blocks: Blocks) -> Body:
        """A span of an object; neighbouring blocks that are not cached take one request.

        The first block is read now: raises NotFound, Damaged, Unavailable; Invalid for a span outside the object.
        """
        offset, length = checked_span(span, blocks.length)
        if not length:
            return SpanBody((), 0)
        reading = self._blocks(key, blocks, offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES))
        first = next(reading)
        return SpanBody(span_of(chain((first,), reading), offset % BLOCK_BYTES, length), length, reading.close)

    def cached(self) -> list[str]:
        """The objects of which something is cached, maybe by other processes."""
        return self._cache.keys() if self._cache is not None else []

    def forget(self, key: str) -> None:
        """Leave nothing of an object in the cache: it was deleted."""
        if self._cache is not None:
            self._cache.forget(key)

    def _blocks(self, key: str, blocks: Blocks, first: int, after: int) -> Generator[bytes, None, None]:
        number = first
        while number < after:
            block = self._cache.get(key, number, blocks) if self._cache is not None else None
            if block is not None:
                yield block
                number += 1
                continue
            end = self._end_of_missing(key, number, after)
            if end - number > _MAX_TOGETHER:
                yield from self._streamed(key, blocks, number, end)
                number = end
                continue
            for block in islice(self._together(key, blocks, number, end), after - number):
                yield block
                number += 1

    def _end_of_missing(self, key: str, number: int, after: int) -> int:
        """The first block behind `number` that is cached, or `after`."""
        if self._cache is None:
            return after
        return next((other for other in range(number + 1, after) if self._cache.has(key, other)), after)

    def _streamed(self, key: str, blocks: Blocks, first: int, after: int) -> Iterator[bytes]:
        with BlockStream(self._store, key, blocks, first, after) as stream:
            for number, block in enumerate(stream, first):
                self._keep(key, number, block)
                yield block

    def _together(self, key: str, blocks: Blocks, first: int, after: int) -> list[bytes]:
        """Blocks from `first` on: up to `after`, or more, or fewer when another thread is fetching those already."""
        return self._flights.join((key, first), lambda: self._fetch(key, blocks, first, after))

    def _fetch(self, key: str, blocks: Blocks, first: int, after: int) -> list[bytes]:
        if self._cache is not None:
            if self._cache.has(key, first):  # somebody else has fetched it since it was missed
                block = self._cache.get(key, first, blocks)
                if block is not None:
                    return [block]
            after = self._end_of_missing(key, first, self._run(key, first, after, count_of(blocks)))
        found = list(BlockStream(self._store, key, blocks, first, after))
        for number, block in enumerate(found, first):
            self._keep(key, number, block)
        return found

    def _run(self, key: str, first: int, after: int, count: int) -> int:
        """How far to fetch: twice as far as the last time when this goes on where that ended."""
        with self._lock:
            expected, run = self._ahead.pop(key, (-1, 0))
            run = min(2 * run, _MAX_TOGETHER) if first == expected else 1
            end = min(max(after, first + run), count)
            self._ahead[key] = (end, run)
            if len(self._ahead) > _MAX_REMEMBERED:
                self._ahead.popitem(last=False)
        return end

    def _keep(self, key: str, number: int, block: bytes) -> None:
        if self._cache is not None:
            self._cache.put(key, number, block)
