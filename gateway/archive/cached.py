"""Removes from the local cache what is left of packs that are gone: another machine's sweeper cannot reach it."""

import time
from collections.abc import Callable
from threading import Event

from gateway.archive.steps import Stopped
from storage.index import PackingIndex
from storage.objects import keys
from storage.packs.blocks import BlockReader


class GoneBlocks:
    """Looks through the cache of `blocks` for packs that `index` does not name, at most once in `every_seconds`.

    A block may also have been cached by a reader that was at it while the pack was swept.
    """

    def __init__(
        self,
        index: PackingIndex,
        blocks: BlockReader,
        *,
        every_seconds: float = 0.0,
        stop: Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._index = index
        self._blocks = blocks
        self._every_seconds = every_seconds
        self._stop = stop or Event()
        self._clock = clock
        self._due = float("-inf")

    def run_once(self) -> bool:
        """Forget what is gone, unless the last look was just now; False: nothing is left to do. Raises Unavailable."""
        if self._clock() < self._due:
            return False
        for key in self._blocks.cached():
            if self._stop.is_set():
                raise Stopped
            if keys.series_of_pack(key) is not None and not self._index.names(key):
                self._blocks.forget(key)
        self._due = self._clock() + self._every_seconds
        return False
