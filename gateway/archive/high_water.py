"""The mark up to which instances may wait to be sealed: beyond it nothing more is taken in."""

import threading
import time
from collections.abc import Callable

from storage.errors import Exhausted
from storage.index import Backlog

LOOK_SECONDS = 1.0


class HighWater:
    """Asks for the backlog at most once in LOOK_SECONDS. Safe under threads."""

    def __init__(
        self, backlog: Callable[[], Backlog], max_bytes: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backlog = backlog
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._bytes = 0

    def check(self) -> None:
        """Raise Exhausted while `max_bytes` or more wait; 0 is no bound. Raises Unavailable."""
        if not self._max_bytes:
            return
        with self._lock:
            if self._clock() >= self._until:
                self._bytes = self._backlog().bytes
                self._until = self._clock() + LOOK_SECONDS
            full = self._bytes >= self._max_bytes
        if full:
            raise Exhausted("the spool is full: as much waits to be sealed as may; try again later")
