"""What is put, as the pieces that go over the wire and the digests that S3 servers check."""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.errors import Unavailable
from storage.objects import Buffer, Source

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Payload:
    """The body of one request. `pieces` gives it again for each attempt; `sha256` is empty where it is not signed."""

    length: int
    md5: bytes
    sha256: str
    pieces: Callable[[], Iterator[Buffer]]

    @property
    def check(self) -> dict[str, str]:
        """The header by which a server refuses what arrives other than it was sent."""
        return {"Content-MD5": base64.b64encode(self.md5).decode()}


@dataclass(frozen=True, slots=True)
class Whole:
    """An open source of `length` bytes; `pieces(offset, length)` reads a part of it."""

    length: int
    pieces: Callable[[int, int], Iterator[Buffer]]

    def payload(self, offset: int, length: int, *, signed: bool) -> Payload:
        """A part of it, read once for its digests."""
        md5 = hashlib.md5(usedforsecurity=False)
        sha256 = hashlib.sha256()
        for piece in self.pieces(offset, length):
            md5.update(piece)
            if signed:
                sha256.update(piece)
        return Payload(length, md5.digest(), sha256.hexdigest() if signed else "", lambda: self.pieces(offset, length))


@contextmanager
def opened(source: Source) -> Iterator[Whole]:
    """`source` to read parts of; a file is never held in memory. Raises Unavailable when it cannot be read."""
    if not isinstance(source, Path):
        views = [memoryview(buffer).cast("B") for buffer in source if len(buffer)]
        yield Whole(sum(map(len, views)), lambda offset, length: _of_views(views, offset, length))
        return
    try:
        file = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"the file to be stored cannot be read: {error.strerror}") from error
    try:
        yield Whole(os.fstat(file).st_size, lambda offset, length: _of_file(file, offset, length))
    finally:
        os.close(file)


def _of_views(views: Sequence[memoryview], offset: int, length: int) -> Iterator[Buffer]:
    end = offset + length
    position = 0
    for view in views:
        first, last = max(offset - position, 0), min(end - position, len(view))
        if first < last:
            yield view[first:last]
        position += len(view)


def _of_file(file: int, offset: int, length: int) -> Iterator[Buffer]:
    end = offset + length
    while offset < end:
        try:
            piece = os.pread(file, min(_PIECE, end - offset), offset)
        except OSError as error:
            raise Unavailable(f"the file to be stored cannot be read: {error.strerror}") from error
        if not piece:
            raise Unavailable("the file to be stored has become shorter")
        yield piece
        offset += len(piece)
