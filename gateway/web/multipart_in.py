"""multipart/related on its way in (RFC 2046 5.1): a parser without I/O that is fed bytes as they arrive.

It tolerates what senders really do: a preamble, an epilogue, white space after a delimiter, parts without headers,
nothing after the closing delimiter. It never keeps more than a delimiter, or the headers of one part.
"""

import re
from dataclasses import dataclass, field
from enum import Enum, auto

from gateway.web.errors import Refused

MAX_HEADER_BYTES = 16384
MAX_PREAMBLE_BYTES = 1 << 20
MAX_PADDING = 256  # white space after a delimiter
# After a delimiter: the end of the message, or white space and the end of the line.
_AFTER_DELIMITER = re.compile(rb"(--)|[ \t]{0,%d}(?=\r\n)" % MAX_PADDING)
# What may still become one of the two when more bytes come.
_UNDECIDED = re.compile(rb"-?|[ \t]{0,%d}\r?" % MAX_PADDING)
_HEADERS_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class PartBegun:
    """A part has begun; its headers by lower-case name."""

    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartData:
    """Some bytes of the part that has begun."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The part is whole: the delimiter after it has been seen."""


Event = PartBegun | PartData | PartEnded


class _State(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    BODY = auto()
    EPILOGUE = auto()


class MultipartParser:
    """Feed it the body in pieces of any size: how it is cut changes nothing but the cut of the data events."""

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._buffer = b"\r\n"  # the first delimiter may have no line before it
        self._state = _State.PREAMBLE
        self._preamble_bytes = 0
        self._not_body = 0  # how many bytes from here on belong to the empty line before the body

    @property
    def finished(self) -> bool:
        """Whether the closing delimiter has been seen; what comes after it means nothing."""
        return self._state is _State.EPILOGUE

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises Refused (400) when headers or preamble are endless."""
        events: list[Event] = []
        if not self.finished:
            self._buffer += data
            while self._step(events):
                pass
        return events

    def _step(self, events: list[Event]) -> bool:
        """Do what the buffer allows; True when there may be more to do."""
        if self._state is _State.HEADERS:
            return self._headers(events)
        return self._state is not _State.EPILOGUE and self._up_to_delimiter(events)

    def _up_to_delimiter(self, events: list[Event]) -> bool:
        buffer, search_from = self._buffer, 0
        while (at := buffer.find(self._delimiter, search_from)) >= 0:
            after = _AFTER_DELIMITER.match(buffer, at + len(self._delimiter))
            if after is not None:
                self._passed(buffer[:at], events)
                if self._state is _State.BODY:
                    events.append(PartEnded())
                self._state = _State.EPILOGUE if after[1] else _State.HEADERS
                self._buffer = b"" if after[1] else buffer[after.end() :]
                return True
            if _UNDECIDED.fullmatch(buffer, at + len(self._delimiter)):
                break
            search_from = at + 1  # bytes that begin like a delimiter
        keep_from = at if at >= 0 else max(0, len(buffer) - len(self._delimiter) + 1)
        self._passed(buffer[:keep_from], events)
        self._buffer = buffer[keep_from:]
        return False

    def _passed(self, data: bytes, events: list[Event]) -> None:
        """`data` came before any delimiter that follows."""
        if self._state is _State.BODY:
            body = data[self._not_body :]
            self._not_body -= len(data) - len(body)
            if body:
                events.append(PartData(body))
        elif self._state is _State.PREAMBLE:
            self._preamble_bytes += len(data)
            if self._preamble_bytes > MAX_PREAMBLE_BYTES:
                raise Refused(400, "multipart", "the body does not begin with the boundary that Content-Type names")

    def _headers(self, events: list[Event]) -> bool:
        """The buffer begins with the end of the delimiter's line: headers follow it, up to an empty line."""
        end = self._buffer.find(_HEADERS_END)
        if end > MAX_HEADER_BYTES or (end < 0 and len(self._buffer) > MAX_HEADER_BYTES):
            raise Refused(400, "multipart", f"the headers of a part are longer than {MAX_HEADER_BYTES} bytes")
        if end < 0:
            return False
        events.append(PartBegun(_parsed(self._buffer[:end])))
        # The end of the empty line stays: in a part without a body the next delimiter begins with it.
        self._buffer = self._buffer[end + 2 :]
        self._not_body = 2
        self._state = _State.BODY
        return True


def _parsed(block: bytes) -> dict[str, str]:
    """Headers by lower-case name; a continued line belongs to the one before, a line without colon to none."""
    headers: dict[str, str] = {}
    name = ""
    for line in block.decode("latin-1").split("\r\n"):
        if line[:1] in (" ", "\t") and name:
            headers[name] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if colon:
            headers[name] = value.strip()
        else:
            name = ""
    return headers
