"""How long to try again: by time, not by count, with pauses that grow and differ from caller to caller."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

from storage.errors import Unavailable
from storage.objects.breaker import Breaker, Gate
from storage.objects.s3_errors import Passing

_T = TypeVar("_T")
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 4.0
_READING_PLACES = 16  # of the 40 threads that the web door reads in
_SLOW_SECONDS = 3.0
_REST_SECONDS = 5.0


class Patience:
    """Calls one store again while it raises Passing, within a budget of `seconds`, or of `reading_seconds`.

    Safe under threads; share one.
    """

    def __init__(self, seconds: float, reading_seconds: float = 3.0) -> None:
        self._seconds = seconds
        self._reading_seconds = min(seconds, reading_seconds)
        self._breaker = Breaker(rest_seconds=min(_REST_SECONDS, seconds))
        self._gate = Gate(_READING_PLACES, slow_seconds=_SLOW_SECONDS)
        self._closed = threading.Event()

    def __call__(self, act: Callable[[], _T], *, reading: bool = False) -> _T:
        """What `act` gives. With `reading` the budget is small, and only so many wait at once (see Gate).

        Raises what `act` raises; Passing at once while the store is known to be away; Unavailable once it was closed.
        """
        budget = self._reading_seconds if reading else self._seconds
        with self._gate.place() if reading else nullcontext(), self._breaker.call(reading=reading) as probing:
            return self._again(act, 0.0 if probing else budget, reading)

    def _again(self, act: Callable[[], _T], budget: float, reading: bool) -> _T:
        deadline = time.monotonic() + budget
        pause = _FIRST_PAUSE_SECONDS
        while not self._closed.is_set():
            try:
                return act()
            except Passing:
                wait = random.uniform(pause / 2, pause)
                if time.monotonic() + wait > deadline or (reading and self._breaker.is_open):
                    raise
            self._closed.wait(wait)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        raise Unavailable("the S3 store was closed: the gateway stops")

    @property
    def is_away(self) -> bool:
        """Whether the store was away when it was last asked."""
        return self._breaker.is_open

    def close(self) -> None:
        """Let nobody try again."""
        self._closed.set()
