"""Where the frames of an instance lie in its data set, so that one frame is one ranged read (PS3.5 A.4, 8.1)."""

import struct
import sys
from array import array
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Self

from storage.errors import NotFound


class Span(NamedTuple):
    """`length` bytes from `offset`, counted from the first byte of the data set."""

    offset: int
    length: int


class Layout(IntEnum):
    """How pixel data is laid out; the number is part of the stored form."""

    NONE = 0  # no pixel data
    NATIVE = 1  # frames of equal length one after another, each of whole bytes
    BITS = 2  # frames of equal length in bits, packed without padding between them (BitsAllocated 1)
    FRAGMENTS = 3  # encapsulated: each frame is one or more fragments
    STREAM = 4  # encapsulated video: one stream that has no separable frames


# The stored form, little endian: layout, grouping, count of frames, then two numbers of the layout's own:
# offset and bits a frame (NATIVE, BITS), or the count of fragments and nothing (FRAGMENTS, STREAM). The fragments
# follow as pairs of offset and length, and, when GROUPED, the number of each frame's first fragment and one past the
# last. All of fixed width, so that a frame is found without reading those before it.
_HEAD = struct.Struct("<BB6xQQQ")
_PAIR = struct.Struct("<QQ")
_SINGLE, _GROUPED = 0, 1
_WORD = 8


class FrameTable:
    """The frames of one instance: how many, and the spans of each. Immutable, equal when the frames are."""

    __slots__ = ("_data", "_first", "_grouping", "_second", "count", "layout")

    def __init__(self, data: bytes) -> None:
        if len(data) < _HEAD.size:
            raise ValueError("not a frame table: too short")
        numbers: tuple[int, int, int, int, int] = _HEAD.unpack_from(data)
        layout, self._grouping, self.count, self._first, self._second = numbers
        self.layout = Layout(layout)
        self._data = data
        if len(data) != self._expected_length():
            raise ValueError("not a frame table: wrong length")

    def _expected_length(self) -> int:
        if self.layout not in (Layout.FRAGMENTS, Layout.STREAM):
            return _HEAD.size
        groups = (self.count + 1) * _WORD if self._grouping == _GROUPED else 0
        return _HEAD.size + self._first * _PAIR.size + groups

    @classmethod
    def none(cls) -> Self:
        """The table of an instance without pixel data, or whose frames cannot be told apart."""
        return cls(_HEAD.pack(Layout.NONE, _SINGLE, 0, 0, 0))

    @classmethod
    def native(cls, offset: int, frame_bits: int, count: int) -> Self:
        """`count` frames of `frame_bits` each, packed one after another from `offset` (PS3.5 8.1.1)."""
        layout = Layout.BITS if frame_bits % 8 else Layout.NATIVE
        return cls(_HEAD.pack(layout, _SINGLE, count, offset, frame_bits))

    @classmethod
    def fragments(cls, spans: Sequence[Span], first_of_frame: Sequence[int] | None = None) -> Self:
        """One frame a fragment, or, for each frame, the number of its first fragment (from 0; PS3.5 A.4)."""
        if first_of_frame is None:
            return cls(_HEAD.pack(Layout.FRAGMENTS, _SINGLE, len(spans), len(spans), 0) + _packed(spans))
        head = _HEAD.pack(Layout.FRAGMENTS, _GROUPED, len(first_of_frame), len(spans), 0)
        return cls(head + _packed(spans) + _words([*first_of_frame, len(spans)]))

    @classmethod
    def stream(cls, spans: Sequence[Span], count: int) -> Self:
        """A video of `count` frames in one stream, cut into `spans`."""
        return cls(_HEAD.pack(Layout.STREAM, _SINGLE, count, len(spans), 0) + _packed(spans))

    def spans(self, number: int) -> tuple[Span, ...]:
        """Where frame `number` (from 1) lies; raises NotFound when there is no such frame.

        For BITS these are the bytes that hold the frame (see `bit_offset`); for a STREAM, the whole stream.
        """
        self._check(number)
        if self.layout in (Layout.NATIVE, Layout.BITS):
            first_bit = (number - 1) * self._second
            start, end = first_bit // 8, (first_bit + self._second + 7) // 8
            return (Span(self._first + start, end - start),)
        first, after = self._group(number)
        return tuple(
            Span._make(_PAIR.unpack_from(self._data, _HEAD.size + index * _PAIR.size)) for index in range(first, after)
        )

    def bit_offset(self, number: int) -> int:
        """How many bits of the first byte of `spans` belong to the frame before (0 to 7); raises NotFound."""
        self._check(number)
        return (number - 1) * self._second % 8 if self.layout is Layout.BITS else 0

    def first_fragments(self) -> Sequence[int]:
        """For each frame the number of its first fragment (from 0); empty when frames are not made of fragments."""
        if self.layout is Layout.STREAM:
            return (0,)
        if self.layout is not Layout.FRAGMENTS:
            return ()
        if self._grouping == _SINGLE:
            return range(self.count)
        return struct.unpack_from(f"<{self.count}Q", self._data, _HEAD.size + self._first * _PAIR.size)

    @property
    def bit_length(self) -> int:
        """Bits of one frame; 0 when the layout has no such fixed number."""
        return self._second if self.layout in (Layout.NATIVE, Layout.BITS) else 0

    def to_bytes(self) -> bytes:
        """The stored form; see `from_bytes`."""
        return self._data

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The table that `to_bytes` wrote; raises ValueError for anything else."""
        return cls(bytes(data))

    def _check(self, number: int) -> None:
        if not 1 <= number <= self.count:
            raise NotFound(f"there is no frame {number}: the instance has {self.count}")

    def _group(self, number: int) -> tuple[int, int]:
        if self.layout is Layout.STREAM:
            return 0, self._first
        if self._grouping == _SINGLE:
            return number - 1, number
        groups = _HEAD.size + self._first * _PAIR.size
        first, after = _PAIR.unpack_from(self._data, groups + (number - 1) * _WORD)
        return first, after

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrameTable) and self._data == other._data

    def __hash__(self) -> int:
        return hash(self._data)

    def __repr__(self) -> str:
        return f"<FrameTable {self.layout.name} of {self.count}>"


def _packed(spans: Sequence[Span]) -> bytes:
    return _words([number for span in spans for number in span])


def _words(numbers: Sequence[int]) -> bytes:
    words = array("Q", numbers)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()
