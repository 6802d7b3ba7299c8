"""Where the frames of an instance lie in its data set, so that one frame is one ranged read (PS3.5 A.4, 8.1)."""

from enum import IntEnum
from typing import NamedTuple


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


class FrameTable:
    """The frames of one instance: how many, and the spans of each. Immutable; see `frames` brief below."""
