"""Pictures that were made, kept in bounded memory; what several ask for at once is made once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import NamedTuple

from storage.errors import Unavailable

_WAIT_SECONDS = 120.0  # for what another thread is making; that has bounds of its own
_OVERHEAD_BYTES = 512  # of a key and its entry


class Picture(NamedTuple):
    """Bytes of a rendered media type, and what a caller should know about them (without patient data)."""

    body: bytes
    media_type: str
    warnings: tuple[str, ...] = ()


class Pictures:
    """The pictures used last, `max_bytes` at most. Safe under threads.

    A key must name all that a picture depends on, the version of its instance included: what is here is never stale.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, Picture] = OrderedDict()
        self._bytes = 0
        self._being_made: dict[Hashable, Future[Picture]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Picture]) -> Picture:
        """The picture under `key`, made by `make` when it is not here; raises what that raises, to all who wait."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
            others = self._being_made.get(key)
            if others is None:
                own = self._being_made[key] = Future()
        return self._made(key, make, own) if others is None else _awaited(others)

    def _made(self, key: Hashable, make: Callable[[], Picture], flight: "Future[Picture]") -> Picture:
        try:
            picture = make()
        except BaseException as error:
            with self._lock:
                del self._being_made[key]
            flight.set_exception(error)
            raise
        with self._lock:
            del self._being_made[key]
            self._keep(key, picture)
        flight.set_result(picture)
        return picture

    def _keep(self, key: Hashable, picture: Picture) -> None:
        if _size(picture) > self._max_bytes // 4:  # it would drive out too many others
            return
        self._kept[key] = picture
        self._bytes += _size(picture)
        while self._bytes > self._max_bytes:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= _size(gone)


def _awaited(flight: "Future[Picture]") -> Picture:
    try:
        return flight.result(_WAIT_SECONDS)
    except TimeoutError:
        raise Unavailable("the picture is still being made; try again later") from None


def _size(picture: Picture) -> int:
    return len(picture.body) + _OVERHEAD_BYTES
