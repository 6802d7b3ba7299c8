"""One flight for many: what several threads want at the same moment is fetched by the first of them."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flights(Generic[K, T]):
    """Work by key, done once at a time. Safe under threads; waits as long as the work takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[K, Future[T]] = {}

    def join(self, key: K, work: Callable[[], T]) -> T:
        """What `work` gives, or what the same work gives that another thread has begun; or raises what it raises."""
        with self._lock:
            flight = self._under_way.get(key)
            if flight is None:
                own = self._under_way[key] = Future()
        if flight is not None:
            return flight.result()
        try:
            result = work()
        except BaseException as error:
            self._land(key)
            own.set_exception(error)
            raise
        self._land(key)
        own.set_result(result)
        return result

    def _land(self, key: K) -> None:
        with self._lock:
            del self._under_way[key]
