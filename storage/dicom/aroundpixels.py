"""A Part 10 file written around its pixel data, which whoever sends it streams between head and tail (PS3.5 A.4, 8.1).

The bytes of frames never pass through here: their lengths are enough. A large document may be streamed likewise.
"""

import struct
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import accumulate

from storage.dicom.dictionary import vr_of
from storage.dicom.elements import UNDEFINED
from storage.dicom.explicit import CLOSE_SEQUENCE, element, item_header, long_header
from storage.dicom.frames import FrameTable, Span
from storage.dicom.jsonmodel import PIXEL_DATA, PIXEL_TAGS
from storage.dicom.values import BY_NAME, UN
from storage.errors import Fault, Invalid

# Tables and lengths that speak of one encapsulation, and are wrong beside any other (PS3.3 C.7.6.3.1.8).
OF_ENCAPSULATION = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00003})

_MAX_LENGTH = UNDEFINED - 1


@dataclass(frozen=True, slots=True)
class Native:
    """A value of `length` bytes that is not in fragments: pixel data, or the element `tag` of the data set itself.

    Its VR is what it was, when None.
    """

    length: int
    vr: str | None = None
    tag: int | None = None

    @property
    def tags(self) -> Container[int]:
        """The elements of which one is meant."""
        return PIXEL_TAGS if self.tag is None else (self.tag,)


@dataclass(frozen=True, slots=True)
class Encapsulated:
    """Compressed pixel data in fragments. The caller sends each as `fragment_header`, its bytes, `fragment_padding`.

    `lengths` are those of the fragments, without padding. `first_of_frame` is, for each frame, the number of its first
    fragment (from 0); None: each fragment is a frame; empty: that is not known. When the lengths are not known before
    the fragments are made, they are None: then the offset table is empty, and so is the length of the whole.
    """

    lengths: Sequence[int] | None
    first_of_frame: Sequence[int] | None = None

    @property
    def tags(self) -> Container[int]:
        """The elements of which one is meant."""
        return PIXEL_TAGS


Pixels = Native | Encapsulated


@dataclass(frozen=True, slots=True)
class AroundPixels:
    """A Part 10 file is `head`, then the pixel bytes, then `tail`; `length` is that of the whole, when it is known."""

    head: bytes
    tail: bytes
    length: int | None


def as_stored(frames: FrameTable, fragments: Sequence[Span]) -> Encapsulated:
    """Compressed pixel data of a stored instance, whose fragments are sent as they are."""
    return Encapsulated([fragment.length for fragment in fragments], frames.first_fragments())


def fragment_header(length: int) -> bytes:
    """What goes before a fragment of so many bytes."""
    return item_header(_even(length))


def fragment_padding(length: int) -> bytes:
    """What goes behind it: fragments have even lengths (PS3.5 A.4)."""
    return b"\0" * (length % 2)


def fragment(data: bytes) -> bytes:
    """One fragment whole."""
    return fragment_header(len(data)) + data + fragment_padding(len(data))


def around(before: bytes, after: bytes, pixels: Pixels) -> AroundPixels:
    """The file in which the pixel data stands between the elements `before` (with preamble and meta) and `after`.

    Raises Invalid (TOO_LARGE) when native pixel data or a fragment has no room in its length field.
    """
    if isinstance(pixels, Native):
        return _around_native(before, after, pixels)
    if pixels.lengths and _even(max(pixels.lengths)) > _MAX_LENGTH:
        raise Invalid(Fault.TOO_LARGE, "a fragment of 4 GiB or more cannot be written")
    basic, extended = _offset_tables(pixels)
    head = before + extended + long_header(PIXEL_DATA, "OB", UNDEFINED) + fragment(basic)
    tail = CLOSE_SEQUENCE + after
    if pixels.lengths is None:
        return AroundPixels(head, tail, None)
    return AroundPixels(head, tail, len(head) + sum(8 + _even(length) for length in pixels.lengths) + len(tail))


def _around_native(before: bytes, after: bytes, pixels: Native) -> AroundPixels:
    if _even(pixels.length) > _MAX_LENGTH:
        raise Invalid(Fault.TOO_LARGE, "a value of 4 GiB or more that is not in fragments cannot be written")
    tag = pixels.tag or PIXEL_DATA
    vr = pixels.vr or vr_of(tag, {}, signed=False)
    head = before + long_header(tag, vr if BY_NAME[vr].long else UN.name, _even(pixels.length))
    tail = b"\0" * (pixels.length % 2) + after
    return AroundPixels(head, tail, len(head) + pixels.length + len(tail))


def _offset_tables(pixels: Encapsulated) -> tuple[bytes, bytes]:
    """The value of the Basic Offset Table, and the elements of an extended one when the basic one has no room.

    Both are empty when the frames are not known; an extended one needs each frame to be a single fragment.
    """
    lengths, firsts = pixels.lengths, pixels.first_of_frame
    if not lengths or (firsts is not None and not firsts):
        return b"", b""
    offsets = [0, *accumulate(8 + _even(length) for length in lengths)]
    frames = [offsets[first] for first in firsts] if firsts is not None else offsets[:-1]
    if frames[-1] < UNDEFINED:
        return struct.pack(f"<{len(frames)}I", *frames), b""
    if len(frames) != len(lengths):
        return b"", b""
    table, sizes = (struct.pack(f"<{len(frames)}Q", *numbers) for numbers in (frames, lengths))
    return b"", element(0x7FE00001, "OV", table) + element(0x7FE00002, "OV", sizes)


def _even(length: int) -> int:
    return length + length % 2
