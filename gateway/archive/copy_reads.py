"""What is read from the copy because the archive is away, has lost it or gives it damaged: counted and told."""

import time
from collections.abc import Callable

from gateway import log, metrics
from gateway.archive.seldom import Seldom

_log = log.get(__name__)


class CopyReads:
    """Called with the key of each object that is read from the copy; a warning a key and minute. Safe under threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._seldom = Seldom(clock)

    def __call__(self, key: str) -> None:
        metrics.copy_read()
        if self._seldom.is_due(key):
            _log.warning("read from the copy", key=key)
