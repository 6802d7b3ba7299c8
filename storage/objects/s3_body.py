"""The body of an S3 answer: never shorter than it should be, and read on over a new connection when one breaks."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from urllib3 import BaseHTTPResponse

from storage.errors import Unavailable
from storage.objects.s3_errors import Passing, translated
from storage.objects.s3_wire import release

_MAX_BREAKS = 8  # of connections in a row, none of which brought _PROGRESS bytes
_PROGRESS = 1 << 20
_READ_BYTES = 8 << 20  # lost at most when a connection breaks while all is read at once


class S3Body:
    """A Body of `length` bytes; `resume(done)` opens it again from there on."""

    def __init__(self, answer: BaseHTTPResponse | None, length: int, resume: Callable[[int], BaseHTTPResponse]) -> None:
        self._answer = answer
        self._length = length
        self._resume = resume

    @property
    def length(self) -> int:
        """See `Body`."""
        return self._length

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """See `Body`."""
        done, since, breaks = 0, 0, 0
        try:
            while done < self._length:
                try:
                    data = self._read(min(size, self._length - done))
                except Passing:
                    breaks = breaks + 1 if done - since < _PROGRESS else 1
                    if breaks > _MAX_BREAKS:
                        raise
                    since = done
                    self.close()
                    self._answer = self._resume(done)
                    continue
                done += len(data)
                yield data
        finally:
            self.close()

    def _read(self, size: int) -> bytes:
        if self._answer is None:
            raise Unavailable("the object was closed before it was read")
        with translated("read"):
            data = self._answer.read(size)
        if not data:
            raise Passing("the S3 store ended an object too early")
        return data

    def read(self) -> bytes:
        """See `Body`."""
        pieces = list(self.chunks(_READ_BYTES))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """See `Body`; may be called again."""
        answer, self._answer = self._answer, None
        if answer is not None:
            release(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
