"""Empties the journal of an index again and again, so that what was deleted does not stay in it."""

import time
from collections.abc import Callable

from gateway import log, metrics

_REST_SECONDS = 5.0  # however often a deletion wakes the workers
_TRIES, _PAUSE_SECONDS = 20, 0.1  # readers and writers take milliseconds: between two of them nobody is in the way
_LATE_SECONDS = 3600.0
_log = log.get(__name__)


class JournalEmptier:
    """Calls `empty`, which says False when others were in the way, some times in short steps until it succeeds."""

    def __init__(
        self,
        empty: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._empty = empty
        self._clock = clock
        self._pause = pause
        self._emptied_at = clock()
        self._due_at = clock()
        self._told = False

    def run_once(self) -> bool:
        """Empty it, unless that was done seconds ago; to be called each minute and after a deletion.

        Never is there more to do.

        Raises Exhausted, Unavailable.
        """
        if self._clock() >= self._due_at and self._try():
            self._emptied_at, self._due_at = self._clock(), self._clock() + _REST_SECONDS
            self._told = False
        seconds = self._clock() - self._emptied_at
        metrics.journal_kept(seconds)
        if seconds > _LATE_SECONDS and not self._told:
            _log.warning("the journal of the index could not be emptied: what was deleted is still in it")
            self._told = True
        return False

    def _try(self) -> bool:
        for _ in range(_TRIES):
            if self._empty():
                return True
            self._pause(_PAUSE_SECONDS)
        return False
