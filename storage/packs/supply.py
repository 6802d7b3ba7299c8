"""Where blocks of remote packs come from: the cache, a request that lasts as long as its reader, or short ones."""

import threading
import weakref
from collections import deque
from types import TracebackType
from typing import Self

from storage.objects import ObjectStore
from storage.packs import Blocks, Damaged
from storage.packs.cache import BlockCache
from storage.packs.recent import RecentBlocks
from storage.packs.stream import BlockStream

MAX_TOGETHER = 8  # blocks that are fetched and held at once; more are streamed
MAX_STREAMS = 32  # half of the connections of an S3 store as it is by default
_AHEAD_IN_MEMORY = 4  # blocks: there is less room than in a folder, and many may read at once


class Supply:
    """Blocks of objects in `store`, or in `second` where they are wrong, each verified, and kept in `cache`. What that
    does not keep, as it is full or there is none, stays in memory for a while, up to `recent_bytes` of it.

    Safe under threads. A reader may take as long as it likes, so at most `max_streams` requests last as long as one
    does. Whoever comes then is given blocks that are fetched eight at a time, and holds no connection in between.
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
        self._store = store
        self._second = second
        self._cache = cache
        self._is_kept = cache is not None
        self._recent = RecentBlocks(recent_bytes) if recent_bytes else None
        self._streams = threading.Semaphore(max_streams)

    @property
    def ahead(self) -> int:
        """How many blocks can be fetched before they are wanted and still be there then."""
        if self._is_kept:
            return MAX_TOGETHER
        return _AHEAD_IN_MEMORY if self._recent is not None else 0

    def cached(self, key: str, number: int, blocks: Blocks) -> bytes | None:
        """Block `number` if it is in memory or in the cache."""
        found = self._recent.get(key, number, blocks) if self._recent is not None else None
        if found is None and self._cache is not None:
            found = self._cache.get(key, number, blocks)
        return found

    def has(self, key: str, number: int) -> bool:
        """Whether the block seems to be in memory or in the cache."""
        if self._recent is not None and self._recent.has(key, number):
            return True
        return self._cache is not None and self._cache.has(key, number)

    def keys(self) -> list[str]:
        """The objects of which there are blocks in memory or in the cache."""
        return list(set[str]().union(*(kept.keys() for kept in (self._recent, self._cache) if kept is not None)))

    def forget(self, key: str) -> None:
        """Leave nothing of an object."""
        for kept in (self._recent, self._cache):
            if kept is not None:
                kept.forget(key)

    def fetch(self, key: str, blocks: Blocks, first: int, after: int) -> list[bytes]:
        """The blocks from `first` up to `after`, by one request; up to a damaged one if that is not the first.

        Raises NotFound, Damaged, Unavailable.
        """
        found: list[bytes] = []
        try:
            with BlockStream(self._store, key, blocks, first, after, second=self._second) as stream:
                for block in stream:
                    found.append(block)
        except Damaged:
            if not found:
                raise
        for number, block in enumerate(found, first):
            if not self.keep(key, number, block) and self._recent is not None:
                self._recent.put(key, number, block, blocks)
        return found

    def stream(self, key: str, blocks: Blocks, first: int, after: int) -> "Stream":
        """The same, one after another."""
        return Stream(self, key, blocks, first, after)

    def keep(self, key: str, number: int, block: bytes) -> bool:
        """Put a block into the cache; whether it is there."""
        if self._cache is None:
            return False
        is_kept = self._cache.has(key, number) or self._cache.put(key, number, block)
        self._is_kept = is_kept
        return is_kept

    def begin(self, key: str, blocks: Blocks, first: int, after: int) -> BlockStream | None:
        """A request that may last, whose end is told by `ended`; None while too many last already."""
        if not self._streams.acquire(blocking=False):
            return None
        try:
            return BlockStream(self._store, key, blocks, first, after, second=self._second)
        except BaseException:
            self.ended()
            raise

    def ended(self) -> None:
        """One of the requests that last is over."""
        self._streams.release()


class Stream:
    """Gives blocks in order, as an iterator; what is wrong with the first request is raised at once.

    For one thread. Close it, or read it to its end. Raises NotFound, Damaged, Unavailable.
    """

    def __init__(self, supply: Supply, key: str, blocks: Blocks, first: int, after: int) -> None:
        self._supply = supply
        self._key = key
        self._blocks = blocks
        self.next = first
        self.after = after
        self._held: deque[bytes] = deque()
        self._lasting = supply.begin(key, blocks, first, after) if after - first > MAX_TOGETHER else None
        if self._lasting is None:
            self._fetch()
        else:
            self._ended = weakref.finalize(self, supply.ended)  # also when it is forgotten without having been closed

    def _fetch(self) -> None:
        end = min(self.next + MAX_TOGETHER, self.after)
        self._held.extend(self._supply.fetch(self._key, self._blocks, self.next, end))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self.next == self.after:
            raise StopIteration
        if self._lasting is not None:
            block = next(self._lasting)
            self._supply.keep(self._key, self.next, block)
        else:
            if not self._held:
                self._fetch()
            block = self._held.popleft()
        self.next += 1
        if self.next == self.after:
            self.close()
        return block

    def close(self) -> None:
        """Give up what is still to come; nothing more may be asked for."""
        self.next = self.after
        self._held.clear()
        if self._lasting is not None:
            self._lasting.close()
            self._lasting = None
            self._ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
