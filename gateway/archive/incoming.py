"""Bytes on their way in: in memory while few, then in a file, so that an object of gigabytes costs no memory."""

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from storage.errors import Fault, Invalid, StorageError
from storage.objects import Buffer, Source
from storage.objects.disk_errors import translated


class Incoming:
    """One instance being received. Not thread-safe; `close` (or leaving the context) removes whatever is left of it.

    Once a write has failed, what is here is not whole: every further use raises the same error. `check_room` is asked
    before each write to the file, and raises Exhausted when there should be no more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        memory_bytes: int,
        max_bytes: int,
        check_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._check_room = check_room
        self._memory_bytes = memory_bytes
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._file = -1
        self._path: Path | None = None
        self._length = 0
        self._failure: StorageError | None = None

    def __len__(self) -> int:
        return self._length

    def write(self, data: Buffer) -> None:
        """Append `data`. Raises Invalid (TOO_LARGE) over the limit, Exhausted when the disk is full, Unavailable."""
        self._raise_failure()
        self._length += len(data)
        try:
            if self._length > self._max_bytes:
                raise Invalid(Fault.TOO_LARGE, f"the instance is larger than the limit of {self._max_bytes} bytes")
            if self._path is None and self._length > self._memory_bytes:
                self._spill()
            if self._path is None:
                self._buffer += data
            else:
                self._to_file(data)
        except StorageError as error:
            self._failure = error
            raise

    def _spill(self) -> None:
        with translated("write"):
            self._file, name = tempfile.mkstemp(suffix=".part", dir=self._folder)
        self._path = Path(name)
        self._to_file(self._buffer)
        self._buffer = bytearray()

    def _to_file(self, data: Buffer) -> None:
        self._check_room()
        with translated("write"), memoryview(data) as view:
            written = 0
            while written < len(view):
                written += os.write(self._file, view[written:])

    @contextmanager
    def view(self) -> Iterator[memoryview | mmap.mmap]:
        """All bytes received so far, to be read in place; nothing may be written meanwhile."""
        self._raise_failure()
        if self._path is None:
            with memoryview(self._buffer) as view:
                yield view
            return
        with translated("read"):
            mapped = mmap.mmap(self._file, 0, prot=mmap.PROT_READ)
        try:
            yield mapped
        finally:
            # An exception on its way up may hold views of it in its frames; then it is unmapped when they are gone.
            with suppress(BufferError):
                mapped.close()

    def chunks(self, size: int = 1 << 20, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The same from byte `start` on (up to `end`), in pieces of at most `size`, read rather than mapped: memory
        stays flat, however large it is. Once all is written, several threads may read.
        """
        self._raise_failure()
        end = self._length if end is None else end
        for offset in range(start, end, size):
            length = min(size, end - offset)
            if self._path is None:
                yield bytes(self._buffer[offset : offset + length])
            else:
                with translated("read"):
                    yield os.pread(self._file, length, offset)

    def preceded_by(self, preface: bytes, *, start: int = 0) -> "Incoming":
        """A copy of the bytes from `start` on that begins with `preface`, to be closed on its own. Raises Exhausted,
        Unavailable.
        """
        limit = len(preface) + self._length
        copy = Incoming(self._folder, memory_bytes=self._memory_bytes, max_bytes=limit, check_room=self._check_room)
        try:
            copy.write(preface)
            for chunk in self.chunks(start=start):
                copy.write(chunk)
        except StorageError:
            copy.close()
            raise
        return copy

    @property
    def source(self) -> Source:
        """What an object store can take: the bytes, or the path of the file that holds them."""
        self._raise_failure()
        return [self._buffer] if self._path is None else self._path

    def close(self) -> None:
        """Forget the bytes; what a store has linked or copied stays. May be called again."""
        self._buffer = bytearray()
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)
        if self._path is not None:
            path, self._path = self._path, None
            path.unlink(missing_ok=True)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
