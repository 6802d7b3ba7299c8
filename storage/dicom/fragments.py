"""Encapsulated pixel data: its fragments, and which of them make up each frame (PS3.5 A.4; PS3.3 C.7.6.3.1.8)."""

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from storage.dicom.elements import HEADER_BYTES, ITEM, SEQUENCE_END, UNDEFINED, Encoding, malformed
from storage.dicom.frames import FrameTable, Span
from storage.errors import Fault, Invalid

_FORGET_BYTES = 16 << 20
# A code stream of JPEG, JPEG-LS, JPEG XL, JPEG 2000 or HTJ2K starts so, raw or in its file format.
_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\x0a", b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL ")
_END = b"\xff\xd9"  # EOI of JPEG and EOC of JPEG 2000 alike
_LONGEST_START = 8
_TAIL_BYTES = 4  # the end mark, a padding byte, and one more that some encoders add

Forget = Callable[[int, int], None]


class Fragments(NamedTuple):
    """The items of one encapsulated value: the basic offset table and the fragments, as positions in the bytes."""

    offset_table: Span
    items: list[Span]


def read_fragments(
    view: memoryview, position: int, end: int, encoding: Encoding, limit: int, forget: Forget
) -> tuple[Fragments, int]:
    """The items from `position` to their delimiter, and where that ends. Their content is not looked at.

    Raises Invalid (MALFORMED) when items are cut short or something else lies among them, TOO_LARGE when they are
    more than `limit`. `forget` is told which part will not be read again.
    """
    items: list[Span] = []
    forgotten = position
    while True:
        tag, length = encoding.item(view, position, end)
        position += HEADER_BYTES
        if tag == SEQUENCE_END:
            break
        if tag != ITEM or length == UNDEFINED:
            raise malformed("something that is no fragment lies in encapsulated pixel data", position - HEADER_BYTES)
        if position + length > end:
            raise malformed(f"a fragment of {length} bytes is cut short, it begins", position)
        items.append(Span(position, length))
        if len(items) > limit + 1:
            raise Invalid(Fault.TOO_LARGE, f"encapsulated pixel data has too many fragments: more than {limit}")
        position += length
        if position - forgotten > _FORGET_BYTES:
            forget(forgotten, position)
            forgotten = position
    if not items:
        return Fragments(Span(position, 0), []), position
    return Fragments(items[0], items[1:]), position


def frame_table(
    view: memoryview, found: Fragments, base: int, frames: int, extended: Span | None, *, one_per_frame: bool
) -> tuple[FrameTable, str | None]:
    """The frames that the fragments make up, and a warning when that is not what `frames` promised.

    `base` is where the data set begins; `extended` is the value of the Extended Offset Table, `one_per_frame` is
    true of RLE. Offset tables are believed only where they name the beginnings of fragments.
    """
    items = found.items
    spans = [Span(item.offset - base, item.length) for item in items]
    if not items:
        return FrameTable.none(), "encapsulated pixel data has no fragments"
    if frames == 1:
        return FrameTable.fragments(spans, [0]), None
    for firsts in _tables(view, found, extended):
        if len(firsts) == frames:
            return FrameTable.fragments(spans, firsts), None
    if len(items) == frames:
        return FrameTable.fragments(spans), None
    if len(items) < frames or one_per_frame:
        return FrameTable.fragments(spans[:frames]), f"{len(items)} fragments for {frames} frames"
    for firsts in (_by_starts(view, items), _by_ends(view, items)):
        if len(firsts) == frames:
            return FrameTable.fragments(spans, firsts), None
    for firsts in _tables(view, found, extended):
        return FrameTable.fragments(spans, firsts), f"the offset table names {len(firsts)} frames instead of {frames}"
    return FrameTable.none(), f"{frames} frames cannot be told apart in {len(items)} fragments"


def _tables(view: memoryview, found: Fragments, extended: Span | None) -> Iterator[list[int]]:
    """For each offset table that is true to the fragments: the number of the first fragment of each frame."""
    if extended is not None and extended.length % 8 == 0:
        firsts = _checked(_offsets(view, extended, "Q", 8), found.items)
        if firsts:
            yield firsts
    if found.offset_table.length % 4 == 0:
        firsts = _checked(_offsets(view, found.offset_table, "I", 4), found.items)
        if firsts:
            yield firsts


def _offsets(view: memoryview, table: Span, code: str, size: int) -> Sequence[int]:
    return struct.unpack_from(f"<{table.length // size}{code}", view, table.offset)


def _checked(offsets: Sequence[int], items: Sequence[Span]) -> list[int]:
    """The numbers of the fragments that begin at `offsets`; nothing when one does not, or they do not ascend from 0."""
    if not items or not offsets or offsets[0] != 0:
        return []
    origin = items[0].offset
    number_at = {item.offset - origin: number for number, item in enumerate(items)}
    firsts = [number_at.get(offset, -1) for offset in offsets]
    ascending = all(before < after for before, after in pairwise(firsts))
    return firsts if ascending else []


def _by_starts(view: memoryview, items: Sequence[Span]) -> list[int]:
    """The fragments that begin with the start of a code stream."""
    firsts = [number for number, item in enumerate(items) if _head(view, item).startswith(_STARTS)]
    return firsts if firsts[:1] == [0] else []


def _by_ends(view: memoryview, items: Sequence[Span]) -> list[int]:
    """The fragments after one that ends with the end of a code stream, and the first."""
    ends = [number for number, item in enumerate(items) if _END in _tail(view, item)]
    return [0, *(number + 1 for number in ends if number + 1 < len(items))]


def _head(view: memoryview, item: Span) -> bytes:
    return view[item.offset : item.offset + min(item.length, _LONGEST_START)].tobytes()


def _tail(view: memoryview, item: Span) -> bytes:
    after = item.offset + item.length
    return view[after - min(item.length, _TAIL_BYTES) : after].tobytes()
