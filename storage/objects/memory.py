"""Objects in memory: for tests, and the plainest example of what an ObjectStore is."""

import threading
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

from storage.errors import Conflict, NotFound, Unavailable
from storage.objects import Body, ObjectMeta, Source, keys
from storage.objects.spans import checked_span


class MemoryStore:
    """An ObjectStore that forgets everything when the process ends. Safe under threads."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, int]] = {}  # and when it was written
        self._lock = threading.Lock()

    def put(self, key: str, source: Source, *, if_absent: bool = True) -> ObjectMeta:
        """See `ObjectStore`."""
        keys.checked(key)
        data = _file(source) if isinstance(source, Path) else b"".join(source)
        with self._lock:
            if if_absent and key in self._objects:
                raise Conflict("an object with this key is there already")
            self._objects[key] = data, time.time_ns() // 1000
        return ObjectMeta(key, len(data))

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        """See `ObjectStore`."""
        data, _ = self._object(key)
        offset, length = checked_span(span, len(data))
        return _MemoryBody(data[offset : offset + length])

    def head(self, key: str) -> ObjectMeta:
        """See `ObjectStore`."""
        data, written_at = self._object(key)
        return ObjectMeta(key, len(data), written_at)

    def _object(self, key: str) -> tuple[bytes, int]:
        keys.checked(key)
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            raise NotFound("there is no such object")
        return found

    def delete(self, names: Iterable[str]) -> None:
        """See `ObjectStore`."""
        for key in names:
            keys.checked(key)
            with self._lock:
                self._objects.pop(key, None)

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectMeta]:
        """See `ObjectStore`; as it was when the first object is asked for."""
        with self._lock:
            found = [
                ObjectMeta(key, len(data), written_at)
                for key, (data, written_at) in sorted(self._objects.items())
                if key.startswith(prefix)
            ]
        yield from found[bisect_right(found, after, key=lambda meta: meta.key) :]

    def check(self) -> None:
        """See `ObjectStore`: memory is always there."""


class _MemoryBody(Body):
    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def length(self) -> int:
        return len(self._data)

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        for offset in range(0, len(self._data), size):
            yield self._data[offset : offset + size]

    def read(self) -> bytes:
        return self._data

    def close(self) -> None:
        """Nothing is held."""


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(f"the file to be stored cannot be read: {error.strerror}") from error
