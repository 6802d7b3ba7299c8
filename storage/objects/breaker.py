"""Keeps callers from waiting for a store that is away: one call at a time finds out whether it is back."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from storage.errors import Exhausted, StorageError
from storage.objects.s3_errors import Away, Passing

_IN_SUCCESSION = 3  # one failure may be that of one object; so many without an answer between are the store's


class Breaker:
    """Opens when a call that reads found the store Away, or several calls in succession ended in Passing.

    While it is open calls fail at once, but for one each `rest_seconds` that tries. Any answer closes it. Safe under
    threads.
    """

    def __init__(self, *, rest_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rest_seconds = rest_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._trouble: Passing | None = None  # the last one, while open
        self._resume_at = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the store was away when it was last asked."""
        return self._trouble is not None

    @contextmanager
    def call(self, *, reading: bool) -> Iterator[bool]:
        """Around one call: whether it is the one that tries. Raises at once what was wrong while it is open.

        One that writes does not open it alone: it may be its bytes that do not come through.
        """
        probing = self._admitted()
        try:
            yield probing
        except Passing as error:
            self._failed(error, reading)
            raise
        except Exhausted:  # of room, or of our connections: says nothing of the store
            raise
        except StorageError:
            self._answered()
            raise
        else:
            self._answered()
        finally:
            if probing:
                self._probing = False

    def _admitted(self) -> bool:
        with self._lock:
            if self._trouble is None:
                return False
            if self._probing or self._clock() < self._resume_at:
                raise type(self._trouble)(str(self._trouble))
            self._probing = True
            return True

    def _failed(self, error: Passing, reading: bool) -> None:
        with self._lock:
            self._failures += 1
            away = reading and isinstance(error, Away)
            if away or self._trouble is not None or self._failures >= _IN_SUCCESSION:
                self._trouble = error
                self._resume_at = self._clock() + self._rest_seconds

    def _answered(self) -> None:
        with self._lock:
            self._failures = 0
            self._trouble = None


class Gate:
    """Lets so many callers at once wait for answers. Others wait for a place, as long as answers come.

    When all places are taken by callers of whom the first has waited for `slow_seconds`, everybody else is refused at
    once (Passing), so that a store that hangs cannot take every thread there is.
    """

    def __init__(self, places: int, *, slow_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._slow_seconds = slow_seconds
        self._clock = clock
        self._changed = threading.Condition()
        self._numbers = count()
        self._begun: dict[int, float] = {}  # oldest first

    @contextmanager
    def place(self) -> Iterator[None]:
        """Around one call. Raises Passing when there is no place."""
        with self._changed:
            while len(self._begun) >= self._places:
                patience = next(iter(self._begun.values())) + self._slow_seconds - self._clock()
                if patience <= 0:
                    raise Passing("the object store is slow, and as many wait for it already as may")
                self._changed.wait(patience)
            number = next(self._numbers)
            self._begun[number] = self._clock()
        try:
            yield
        finally:
            with self._changed:
                del self._begun[number]
                self._changed.notify()
