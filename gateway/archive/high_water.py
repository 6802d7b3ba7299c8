"""The mark up to which instances may wait to be sealed: beyond it nothing more is taken in."""

import threading
import time
from collections.abc import Callable

from storage.errors import Exhausted
from storage.index import Backlog

LOOK_SECONDS = 1.0


class HighWater:
    """Asks for the backlog at most once in LOOK_SECONDS, and adds what has landed here since. Safe under threads."""

    def __init__(
        self, backlog: Callable[[], Backlog], max_bytes: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backlog = backlog
        self._max_bytes = max_bytes
        self._clock = clock
        self._looking = threading.Lock()
        self._until = float("-inf")
        self._bytes = 0
        self._counting = threading.Lock()
        self._landed = 0

    def check(self) -> None:
        """Raise Exhausted while `max_bytes` or more wait; 0 is no bound. Raises Unavailable."""
        if not self._max_bytes:
            return
        with self._looking:
            if self._clock() >= self._until:
                self._look()
            full = self._bytes + self._landed >= self._max_bytes
        if full:
            raise Exhausted("the spool is full: as much waits to be sealed as may; try again later")

    def count(self, length: int) -> None:
        """So many bytes have landed: the index names them, and they wait to be sealed."""
        with self._counting:
            self._landed += length

    def _look(self) -> None:
        """What lands while the index is asked may be in its answer or not: it counts until the next look."""
        before = self._landed
        self._bytes = self._backlog().bytes
        self.count(-before)
        self._until = self._clock() + LOOK_SECONDS
