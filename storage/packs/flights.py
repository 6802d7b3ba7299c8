"""One flight for many: what several threads want at the same moment is fetched by the first of them."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from storage.objects.breaker import Gate

_WAITING_PLACES = 8
_SLOW_SECONDS = 3.0
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flights(Generic[K, T]):
    """Work by key, done once at a time. Safe under threads; waits as long as the work takes, but not everybody does
    when that is long (see Gate).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = Gate(_WAITING_PLACES, slow_seconds=_SLOW_SECONDS)
        self._under_way: dict[K, Future[T]] = {}

    def join(self, key: K, work: Callable[[], T]) -> T:
        """What `work` gives, or what the same work gives that another thread has begun; or raises what it raises.

        Raises Passing when too many wait already.
        """
        with self._lock:
            flight = self._under_way.get(key)
            if flight is None:
                own = self._under_way[key] = Future()
        if flight is not None:
            with self._waiting.place():
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
