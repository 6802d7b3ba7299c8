"""What happens at every read, but is worth a line in the log once a minute only."""

import threading
import time
from collections.abc import Callable

EVERY_SECONDS = 60.0
_MAX_TOLD = 1024  # keys that are remembered


class Seldom:
    """Remembers of which keys was told. Safe under threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told_at: dict[str, float] = {}

    def is_due(self, key: str) -> bool:
        """Whether nothing was told of `key` within the last minute; from now on something was."""
        now = self._clock()
        with self._lock:
            if now - self._told_at.get(key, float("-inf")) < EVERY_SECONDS:
                return False
            if len(self._told_at) >= _MAX_TOLD:
                self._told_at.clear()
            self._told_at[key] = now
            return True
