"""What is read from the copy because the archive is away, has lost it or gives it damaged: counted and told."""

import threading
import time
from collections.abc import Callable

from gateway import log, metrics

_EVERY_SECONDS = 60.0
_MAX_TOLD = 1024  # keys that are remembered

_log = log.get(__name__)


class CopyReads:
    """Called with the key of each object that is read from the copy; a warning a key and minute. Safe under threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told_at: dict[str, float] = {}

    def __call__(self, key: str) -> None:
        metrics.copy_read()
        if self._is_due(key):
            _log.warning("read from the copy", key=key)

    def _is_due(self, key: str) -> bool:
        now = self._clock()
        with self._lock:
            if now - self._told_at.get(key, float("-inf")) < _EVERY_SECONDS:
                return False
            if len(self._told_at) >= _MAX_TOLD:
                self._told_at.clear()
            self._told_at[key] = now
            return True
