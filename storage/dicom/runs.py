"""Runs of common elements, written in Explicit VR Little Endian as fast as Python allows; all others are left."""

import struct
from collections.abc import Callable
from functools import lru_cache

from storage.dicom.dictionary import vr_of
from storage.dicom.elements import FIRST_TAG, HEADER_BYTES, TRAILING_PADDING, Encoding
from storage.dicom.explicit import MAX_SHORT, Elements
from storage.dicom.jsonmodel import PIXEL_TAGS
from storage.dicom.values import BY_CODE, BY_NAME, SQ, UN, VR

PIXEL_REPRESENTATION = 0x00280103
FIRST_CREATOR, LAST_CREATOR = 0x10, 0xFF  # element numbers of private creators

_SPECIAL = frozenset({PIXEL_REPRESENTATION, TRAILING_PADDING})
_read_implicit = struct.Struct("<HHI").unpack_from
_read_explicit = struct.Struct("<HH2sH").unpack_from


class _Prefixes(dict[int, bytes | None]):
    """How a public element begins in explicit VR, up to its length; None for what needs a closer look.

    Only what the dictionary knows is kept, so that no sender can make this grow.
    """

    def __missing__(self, tag: int) -> bytes | None:
        name = vr_of(tag, {}, signed=False)
        if name == UN.name or tag < FIRST_TAG:
            return None
        is_plain = tag not in _SPECIAL and tag not in PIXEL_TAGS and name == vr_of(tag, {}, signed=True)
        self[tag] = prefix = _prefix(tag, name) if is_plain else None
        return prefix


@lru_cache(maxsize=4096)
def _private_prefix(tag: int, creator: str) -> bytes | None:
    """The same for an element in the block of this private creator."""
    if tag & 0xFFFF <= LAST_CREATOR:
        return None
    return _prefix(tag, vr_of(tag, {f"{tag >> 16:04X}00{tag >> 8 & 0xFF:02X}": _creator(creator)}, signed=False))


def _prefix(tag: int, name: str) -> bytes | None:
    reserved = b"\0\0" if BY_NAME[name].long else b""
    return None if name == SQ.name else struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, name.encode("ascii")) + reserved


def _creator(name: str) -> dict[str, list[str]]:
    return {"Value": [name]}


_public_prefixes = _Prefixes()
Run = Callable[[bytes, int, int, Elements], int]


def _implicit_run(data: bytes, position: int, end: int, found: Elements) -> int:
    """Write common elements in implicit VR little endian out; where the first one begins that is not common."""
    tags, pieces, creators = found.tags, found.pieces, found.creators
    while end - position >= HEADER_BYTES:
        group, number, length = _read_implicit(data, position)
        tag = group << 16 | number
        prefix = _private_prefix(tag, creators.get(tag >> 8, "")) if group & 1 else _public_prefixes[tag]
        start = position + HEADER_BYTES
        after = start + length
        if prefix is None or length & 1 or length > MAX_SHORT or after > end:
            break
        tags.append(tag)
        pieces.append(prefix + data[position + 4 : position + len(prefix)] + data[start:after])
        position = after
    return position


def _explicit_run(data: bytes, position: int, end: int, found: Elements) -> int:
    """The same for explicit VR little endian, where a common element stays as it is."""
    tags, pieces = found.tags, found.pieces
    while end - position >= HEADER_BYTES:
        group, number, code, length = _read_explicit(data, position)
        vr = BY_CODE.get(code)
        after = position + HEADER_BYTES + length
        if vr is None or vr.long or length & 1 or not number or group < 8 or after > end:
            break
        if group & 1 and number <= LAST_CREATOR:
            break
        tags.append(group << 16 | number)
        pieces.append(data[position:after])
        position = after
    return position


def _no_run(data: bytes, position: int, end: int, found: Elements) -> int:
    return position


RUNS: dict[Encoding, Run] = {
    Encoding.IMPLICIT_LITTLE: _implicit_run,
    Encoding.EXPLICIT_LITTLE: _explicit_run,
    Encoding.EXPLICIT_BIG: _no_run,
}


def vr_in(tag: int, found: Elements) -> VR:
    """The VR by the dictionary."""
    if not tag >> 16 & 1:
        return BY_NAME[vr_of(tag, {}, signed=found.signed)]
    creator = found.creators.get(tag >> 8, "")
    return BY_NAME[vr_of(tag, {f"{tag >> 16:04X}00{tag >> 8 & 0xFF:02X}": _creator(creator)}, signed=found.signed)]
