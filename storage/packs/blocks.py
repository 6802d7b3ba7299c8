"""Reads spans of remote packs block by block, each verified, and kept for the next who wants it."""

import threading
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from itertools import chain, islice
from typing import NamedTuple

from storage.errors import NotFound, Unavailable
from storage.objects import Body, ObjectStore
from storage.objects.breaker import Gate
from storage.objects.spans import checked_span
from storage.packs import BLOCK_BYTES, Blocks
from storage.packs.ahead import ReadAhead
from storage.packs.cache import BlockCache
from storage.packs.runs import RunReader
from storage.packs.stream import SpanBody, count_of, span_of
from storage.packs.supply import MAX_STREAMS, MAX_TOGETHER, Supply

_WAITING_PLACES = 8  # of those who wait for what another fetches, once that takes long; others are refused then
_SLOW_SECONDS = 3.0


class _Flight(NamedTuple):
    """Blocks that are being fetched; fewer may come."""

    first: int
    after: int
    blocks: "Future[list[bytes]]"


class BlockReader:
    """Spans of objects in `store`, of which every byte handed on was verified. Safe under threads.

    Blocks that are wrong there, also when fetched again, are read from `second`, which holds the same objects. Where
    they are kept, in a `cache` or else in memory for up to `recent_bytes`, whoever reads on where the last one stopped
    finds ever more blocks (up to eight) fetched ahead. At most `max_streams` requests last as long as their readers do.
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: BlockCache | None = None,
        *,
        recent_bytes: int = 0,
        second: ObjectStore | None = None,
        max_streams: int = MAX_STREAMS,
    ) -> None:
        self._supply = Supply(store, cache, recent_bytes=recent_bytes, second=second, max_streams=max_streams)
        self._ahead = ReadAhead()
        self._lock = threading.Lock()
        self._waiting = Gate(_WAITING_PLACES, slow_seconds=_SLOW_SECONDS)
        self._flights: defaultdict[str, list[_Flight]] = defaultdict(list)

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

    def run(self, key: str, blocks: Blocks, wanted: Iterable[tuple[int, int]]) -> RunReader:
        """For many spans of one object, one after another."""
        return RunReader(self._supply, key, blocks, wanted)

    def cached(self) -> list[str]:
        """The objects of which something is cached, maybe by other processes."""
        return self._supply.keys()

    def forget(self, key: str) -> None:
        """Leave nothing of an object in the cache: it was deleted."""
        self._supply.forget(key)

    def _blocks(self, key: str, blocks: Blocks, first: int, after: int) -> Generator[bytes, None, None]:
        number = first
        while number < after:
            block = self._supply.cached(key, number, blocks)
            if block is not None:
                yield block
                number += 1
                continue
            end = self._end_of_missing(key, number, after)
            if end - number > MAX_TOGETHER:
                yield from self._streamed(key, blocks, number, end)
                number = end
                continue
            for block in islice(self._together(key, blocks, number, end), after - number):
                yield block
                number += 1

    def _end_of_missing(self, key: str, number: int, after: int) -> int:
        """The first block behind `number` that is cached, or `after`."""
        return next((other for other in range(number + 1, after) if self._supply.has(key, other)), after)

    def _streamed(self, key: str, blocks: Blocks, first: int, after: int) -> Iterator[bytes]:
        with self._supply.stream(key, blocks, first, after) as stream:
            yield next(stream)
            try:
                yield from stream
            except NotFound as error:  # it was there a moment ago: what was promised cannot be kept
                raise Unavailable("an object has gone while it was read") from error

    def _together(self, key: str, blocks: Blocks, first: int, after: int) -> list[bytes]:
        """Blocks from `first` on: up to `after`, or more, or fewer (even none) when others fetch some already."""
        with self._lock:
            flights = self._flights[key]
            flight = next((one for one in flights if one.first <= first < one.after), None)
            if flight is None:
                if self._supply.ahead:
                    after = self._ahead.end(key, first, after, count_of(blocks), most=self._supply.ahead)
                after = min((one.first for one in flights if first < one.first < after), default=after)
                own = _Flight(first, after, Future())
                flights.append(own)
        if flight is not None:
            with self._waiting.place():
                found = flight.blocks.result()
            return found[first - flight.first :]
        try:
            found = self._fetch(key, blocks, first, after)
        except BaseException as error:
            self._land(key, own)
            own.blocks.set_exception(error)
            raise
        self._land(key, own)
        own.blocks.set_result(found)
        return found

    def _land(self, key: str, flight: _Flight) -> None:
        with self._lock:
            self._flights[key].remove(flight)
            if not self._flights[key]:
                del self._flights[key]

    def _fetch(self, key: str, blocks: Blocks, first: int, after: int) -> list[bytes]:
        if self._supply.has(key, first):  # somebody else has fetched it since it was missed
            block = self._supply.cached(key, first, blocks)
            if block is not None:
                return [block]
        return self._supply.fetch(key, blocks, first, self._end_of_missing(key, first, after))
