"""multipart/related on its way out (RFC 2046 5.1, RFC 2387; PS3.18 8.6.1.2.1)."""

import secrets
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

from gateway.archive import Part
from gateway.web import media
from gateway.web.accept import Offer
from gateway.web.address import url
from gateway.web.delivery import released


def _new_boundary() -> str:
    """48 random hexadecimal digits: that they occur in a body is as likely as guessing a key."""
    return secrets.token_hex(24)


@dataclass(frozen=True, slots=True)
class Multipart:
    """How the parts of one answer are framed, each with its own type, length and URL (PS3.18 Table 8.6.1-1)."""

    offer: Offer
    base: str  # of the URLs in Content-Location
    boundary: str = field(default_factory=_new_boundary)

    @property
    def content_type(self) -> str:
        """The Content-Type of the whole answer."""
        return f'multipart/related; type="{self.offer.media_type}"; boundary={self.boundary}'

    def header(self, part: Part) -> bytes:
        """What precedes the bytes of `part`."""
        return (
            f"--{self.boundary}\r\n"
            f"Content-Type: {part_type(self.offer, part)}\r\n"
            f"Content-Length: {part.length}\r\n"
            f"Content-Location: {url(self.base, part.identity, part.place)}\r\n\r\n"
        ).encode()

    @property
    def end(self) -> bytes:
        """What follows the last part."""
        return f"--{self.boundary}--\r\n".encode()

    def length_of_one(self, part: Part) -> int:
        """The length of an answer that consists of this part alone."""
        return len(self.header(part)) + part.length + len(b"\r\n") + len(self.end)

    def chunks(self, parts: Iterator[Part]) -> Generator[bytes, None, None]:
        """The whole answer; closing it closes the part that is being sent and gives up the rest."""
        with released(parts):
            for part in parts:
                yield self.header(part)
                yield from part.chunks()
                yield b"\r\n"
            yield self.end


def single(parts: Iterator[Part]) -> Generator[bytes, None, None]:
    """The bytes of the one part there is."""
    with released(parts):
        for part in parts:
            yield from part.chunks()


def part_type(offer: Offer, part: Part) -> str:
    """The Content-Type of a part, with the transfer syntax that it really has (PS3.18 8.7.3.4)."""
    if offer.transfer_syntax is None:
        return offer.media_type
    if offer.media_type == media.DICOM:
        return f"{media.DICOM}; transfer-syntax={part.transfer_syntax}"
    syntax = part.transfer_syntax
    return f"{media.frame_type(syntax)}; transfer-syntax={media.frame_syntax(syntax)}"


class Peeked:
    """Parts of which the first two have been taken already, so that it is known whether there is more than one."""

    def __init__(self, parts: Iterator[Part]) -> None:
        self._rest = parts
        self._taken: deque[Part] = deque()
        try:
            self._taken.extend(islice(parts, 2))
        except BaseException:
            self.close()
            raise
        self.first = self._taken[0]
        self.alone = len(self._taken) == 1

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Part:
        return self._taken.popleft() if self._taken else next(self._rest)

    def close(self) -> None:
        """Give up every part that was not handed out."""
        with released(self._rest):
            while self._taken:
                self._taken.popleft().close()
