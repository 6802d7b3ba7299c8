"""A piece of an answer that has one part (RFC 9110 14; PS3.18 8.6.1)."""

import re
from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple

from starlette.requests import Request

from gateway.archive.chunks import cut
from gateway.web.errors import Refused
from storage.dicom.frames import Span

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*", re.ASCII | re.IGNORECASE)


class Piece(NamedTuple):
    """Bytes from `first` to `last` of the `length` that there are."""

    first: int
    last: int
    length: int

    @property
    def size(self) -> int:
        """How many."""
        return self.last - self.first + 1

    @property
    def content_range(self) -> str:
        """The value of Content-Range."""
        return f"bytes {self.first}-{self.last}/{self.length}"

    def of(self, chunks: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
        """This piece of the bytes in `chunks`."""
        with closing(chunks):
            yield from cut(chunks, [Span(self.first, self.size)])


def asked(request: Request, length: int) -> Piece | None:
    """What a GET wants of `length` bytes; None for all of them: several ranges, and what is no range, are ignored.

    So is a range with If-Range, as nothing here says that the bytes are those of before. Raises Refused (416).
    """
    header = request.headers.get("range")
    if header is None or request.method != "GET" or "if-range" in request.headers:
        return None
    match = _ONE_RANGE.fullmatch(header)
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        first, last = max(length - int(match[2]), 0), length - 1
    else:
        first, last = int(match[1]), int(match[2] or length - 1)
        if match[2] and last < first:
            return None
    if first >= length:
        raise Refused(416, "range", f"there are {length} bytes", {"Content-Range": f"bytes */{length}"})
    return Piece(first, min(last, length - 1), length)
