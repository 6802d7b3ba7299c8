"""How elements and items are written in Explicit VR Little Endian (PS3.5 7.1.2, 6.2.2, 7.5)."""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from storage.dicom.elements import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED
from storage.dicom.values import BY_NAME

MAX_SHORT = 0xFFFE  # bytes of a value whose length has 16 bits
OPEN_ITEM = struct.pack("<HHI", ITEM >> 16, ITEM & 0xFFFF, UNDEFINED)
CLOSE_ITEM = struct.pack("<HHI", ITEM_END >> 16, ITEM_END & 0xFFFF, 0)
CLOSE_SEQUENCE = struct.pack("<HHI", SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0)

_NUL_PADDED = frozenset({"UI", *(vr.name for vr in BY_NAME.values() if vr.decoded is None)})
_short = struct.Struct("<HH2sH").pack
_long = struct.Struct("<HH2sHI").pack
_item = struct.Struct("<HHI").pack


class Streamed(NamedTuple):
    """The element whose value is not looked at, because it is streamed; `vr` as stored."""

    tag: int
    vr: str
    encapsulated: bool
    start: int  # of its value


@dataclass(slots=True)
class Elements:
    """Elements of one data set or item, each a tag and its bytes, in the order in which they were stored."""

    tags: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    streamed: Streamed | None = None
    fragmented: set[int] = field(default_factory=set)  # tags of those that hold values in fragments
    creators: dict[int, str] = field(default_factory=dict)  # private creators, by group and number of the block
    signed: bool = False  # Pixel Representation

    def add(self, tag: int, piece: bytes) -> None:
        """One more, behind all others."""
        self.tags.append(tag)
        self.pieces.append(piece)

    def sort(self) -> None:
        """Put them in ascending order; of two with one tag the first is kept, as the metadata has it."""
        if any(map(int.__ge__, self.tags, self.tags[1:])):
            first = dict(reversed(list(zip(self.tags, self.pieces, strict=True))))
            self.tags = sorted(first)
            self.pieces = [first[tag] for tag in self.tags]


def long_header(tag: int, vr: str, length: int) -> bytes:
    """What goes before the value of an element whose length has 32 bits."""
    return _long(tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, length)


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One element: its value made even; as UN when its VR has no room for such a length (PS3.5 6.2.2)."""
    if len(value) % 2:
        value += b"\0" if vr in _NUL_PADDED else b" "
    known = BY_NAME.get(vr)
    if known is None or known.long:
        return long_header(tag, vr, len(value)) + value
    if len(value) > MAX_SHORT:
        return long_header(tag, "UN", len(value)) + value
    return _short(tag >> 16, tag & 0xFFFF, vr.encode("ascii"), len(value)) + value


def item_header(length: int) -> bytes:
    """What goes before an item, or a fragment, of so many bytes."""
    return _item(ITEM >> 16, ITEM & 0xFFFF, length)
