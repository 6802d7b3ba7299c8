"""Connections to read with, lent to whatever thread asks: a bounded number, kept open between two loans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from storage.errors import Exhausted, Unavailable


class Closable(Protocol):
    """What is lent, as far as it matters here."""

    def close(self) -> None: ...


_C = TypeVar("_C", bound=Closable)


class Lending(Generic[_C]):
    """Lends `most` at once; who finds none left waits for `wait_seconds`. Safe under threads."""

    def __init__(self, *, most: int, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._free = threading.BoundedSemaphore(most)
        self._idle: list[_C] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def place(self) -> Iterator[None]:
        """Around the whole loan of one. Raises Exhausted."""
        if not self._free.acquire(timeout=self._wait_seconds):
            raise Exhausted("too many searches at once; try again later")
        try:
            yield
        finally:
            self._free.release()

    def take(self) -> _C | None:
        """One that was given back, None when a new one is to be opened. Raises Unavailable once it is closed."""
        with self._lock:
            if self._closed:
                raise Unavailable("the index is closed")
            return self._idle.pop() if self._idle else None

    def give_back(self, connection: _C) -> None:
        """Keep it for the next one who asks; it must be in no transaction."""
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
