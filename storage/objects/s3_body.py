"""The body of an S3 answer: never shorter than it should be, and read on over a new connection when one breaks."""

import time
from collections.abc import Callable, Iterator

from urllib3 import BaseHTTPResponse

from storage.errors import Unavailable
from storage.objects import Body
from storage.objects.s3_errors import Passing, translated
from storage.objects.s3_wire import release

_MAX_BREAKS = 8  # of connections in a row, none of which brought _PROGRESS bytes
_PROGRESS = 1 << 20
_READ_BYTES = 8 << 20  # lost at most when a connection breaks while all is read at once
_ONCE = 1 << 18  # asked of the system at once
_LEAST_BYTES = 1 << 16  # that come within the time that an answer may take, or the connection is as good as broken


class S3Body(Body):
    """A Body of `length` bytes; `resume(done)` opens it again from there on.

    A connection that brings less than 64 KiB while it was waited for `slow_seconds` is given up as one that broke.
    What came is told to `moved` when it is closed.
    """

    def __init__(
        self,
        answer: BaseHTTPResponse | None,
        length: int,
        resume: Callable[[int], BaseHTTPResponse],
        *,
        slow_seconds: float = 30.0,
        moved: Callable[[str, int], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answer = answer
        self._length = length
        self._resume = resume
        self._slow_seconds = slow_seconds
        self._moved = moved
        self._clock = clock
        self._untold = 0  # bytes that came
        self._begin()

    def _begin(self) -> None:
        self._waited, self._came = 0.0, 0

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
                    self._begin()
                    continue
                done += len(data)
                yield data
        finally:
            self.close()

    def _read(self, size: int) -> bytes:
        """`size` bytes; those that came are lost when the connection breaks."""
        pieces: list[bytes] = []
        missing = size
        while missing:
            pieces.append(self._read_once(min(missing, _ONCE)))
            missing -= len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_once(self, most: int) -> bytes:
        if self._answer is None:
            raise Unavailable("the object was closed before it was read")
        begun = self._clock()
        with translated("read"):
            data = self._answer.read1(most)
        if not data:
            raise Passing("the S3 store ended an object too early")
        self._untold += len(data)
        self._watch(len(data), self._clock() - begun)
        return data

    def _watch(self, came: int, waited: float) -> None:
        """Only time spent in waiting for the store counts: whoever reads here may be slow."""
        self._came += came
        self._waited += waited
        if self._waited >= self._slow_seconds:
            if self._came < _LEAST_BYTES:
                raise Passing("the S3 store gives an object too slowly")
            self._begin()

    def read(self) -> bytes:
        """See `Body`."""
        pieces = list(self.chunks(_READ_BYTES))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """See `Body`; may be called again."""
        answer, self._answer = self._answer, None
        if answer is not None:
            release(answer)
            came, self._untold = self._untold, 0
            self._moved("received", came)

    def __del__(self) -> None:
        self.close()
