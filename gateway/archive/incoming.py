"""Bytes on their way in: in memory while few, then in a file, so that an object of gigabytes costs no memory."""

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from storage.errors import Exhausted, Fault, Invalid
from storage.objects import Buffer, Source


class Incoming:
    """One instance being received. Not thread-safe; `close` removes whatever is left of it."""

    def __init__(self, folder: Path, *, memory_bytes: int, max_bytes: int) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def write(self, data: Buffer) -> None:
        """Append `data`. Raises Invalid (TOO_LARGE) over the limit, Exhausted when the disk is full."""
        self._length += len(data)
        if self._length > self._max_bytes:
            raise Invalid(Fault.TOO_LARGE, f"the instance is larger than the limit of {self._max_bytes} bytes")
        if self._file is None and self._length > self._memory_bytes:
            self._spill()
        if self._file is None:
            self._buffer += data
        else:
            self._to_file(data)

    def _spill(self) -> None:
        try:
            handle, name = tempfile.mkstemp(suffix=".part", dir=self._folder)
        except OSError as error:
            raise Exhausted(f"cannot receive into {self._folder}: {error.strerror}") from error
        self._file, self._path = os.fdopen(handle, "wb", buffering=0), Path(name)
        self._to_file(self._buffer)
        self._buffer = bytearray()

    def _to_file(self, data: Buffer) -> None:
        assert self._file is not None
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise Exhausted(f"cannot receive into {self._folder}: {error.strerror}") from error

    @contextmanager
    def view(self) -> Iterator[memoryview | mmap.mmap]:
        """All bytes received so far, to be read in place."""
        if self._file is None:
            with memoryview(self._buffer) as view:
                yield view
            return
        assert self._path is not None
        with open(self._path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped

    @property
    def source(self) -> Source:
        """What an object store can take: the bytes, or the path of the file that holds them."""
        return [self._buffer] if self._path is None else self._path

    def close(self) -> None:
        """Forget the bytes; what a store has linked or copied stays."""
        self._buffer = bytearray()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None
