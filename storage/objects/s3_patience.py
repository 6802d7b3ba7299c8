"""How long to try again: by time, not by count, with pauses that grow and differ from caller to caller."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from storage.objects.s3_errors import Passing

_T = TypeVar("_T")
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 4.0


def patiently(seconds: float, act: Callable[[], _T]) -> _T:
    """What `act` gives, called again while it raises Passing and the budget of `seconds` is not used up."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return act()
        except Passing:
            wait = random.uniform(pause / 2, pause)
            if time.monotonic() + wait > deadline:
                raise
        time.sleep(wait)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
