"""An open file, or a span of one, as the Body of an object."""

import os
import stat
from collections.abc import Callable, Iterator

from storage.errors import NotFound, Unavailable
from storage.objects import Body
from storage.objects.disk_errors import translated
from storage.objects.spans import checked_span


class FileBody(Body):
    """A Body that reads a descriptor by position and owns it. Closed at the latest when nobody holds it any more."""

    __slots__ = ("_file", "_length", "_offset")

    def __init__(self, file: int, span: tuple[int, int] | None) -> None:
        """Take over `file`. Raises NotFound when it is no regular file, Invalid for a span outside it."""
        self._file = file
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise NotFound("there is no such object")
        self._offset, self._length = checked_span(span, found.st_size)

    @property
    def length(self) -> int:
        """See `Body`."""
        return self._length

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """See `Body`."""
        try:
            done = 0
            while done < self._length:
                data = self._pread(done, min(size, self._length - done))
                done += len(data)
                yield data
        finally:
            self.close()

    def part(self, span: tuple[int, int] | None) -> "FileBody":
        """A span of the whole file as a Body of its own, which outlives this one. Raises Invalid, Exhausted."""
        with translated("read"):
            return FileBody(os.dup(self._file), span)

    def read(self) -> bytes:
        """See `Body`."""
        pieces = list(self.chunks(max(self._length, 1)))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _pread(self, done: int, size: int) -> bytes:
        try:
            data = os.pread(self._file, size, self._offset + done)
        except OSError as error:
            raise Unavailable(f"the object store cannot be read: {error.strerror}") from error
        if not data:
            raise Unavailable("the object store cannot be read: an object has become shorter")
        return data

    def close(self, close: Callable[[int], None] = os.close) -> None:  # bound now: at exit `os` may be gone first
        """See `Body`; may be called again."""
        if self._file >= 0:
            file, self._file = self._file, -1
            close(file)

    def __del__(self) -> None:
        self.close()
