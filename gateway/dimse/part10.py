"""What the file meta information of a Part 10 file says of the data set behind it (PS3.10 7.1)."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from storage.dicom.identity import uid
from storage.errors import Fault, Invalid

_PREAMBLE_BYTES = 128
_START = _PREAMBLE_BYTES + 4 + 12  # preamble, "DICM", the element that holds the group length
_GROUP_LENGTH = struct.Struct("<4sHH2sHI")
_MAX_META_BYTES = 1 << 20
_ELEMENT = struct.Struct("<HH2sH")
_LONG_FORM = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010


@dataclass(frozen=True, slots=True)
class FileMeta:
    """The three values that sending needs."""

    sop_class: str
    sop_uid: str
    transfer_syntax: str


def read_file_meta(file: BinaryIO) -> FileMeta:
    """Read up to the first byte of the data set. Raises Invalid when this is no Part 10 file with its UIDs."""
    start = file.read(_START)
    if len(start) < _START or start[128:132] != b"DICM":
        raise Invalid(Fault.NOT_DICOM, "not a DICOM Part 10 file")
    _, group, element, vr, size, length = _GROUP_LENGTH.unpack_from(start, _PREAMBLE_BYTES)
    if (group, element, vr, size) != (2, 0, b"UL", 4) or length > _MAX_META_BYTES:
        raise Invalid(Fault.MALFORMED, "the file meta information does not begin with its length")
    values = _values(file.read(length))
    return FileMeta(
        uid(values.get(_SOP_CLASS, ""), "Media Storage SOP Class UID"),
        uid(values.get(_SOP_INSTANCE, ""), "Media Storage SOP Instance UID"),
        uid(values.get(_TRANSFER_SYNTAX, ""), "Transfer Syntax UID"),
    )


def _values(meta: bytes) -> dict[int, str]:
    """The UIDs of group 0002, which is always Explicit VR Little Endian."""
    values: dict[int, str] = {}
    position = 0
    while position + _ELEMENT.size <= len(meta):
        _, element, vr, length = _ELEMENT.unpack_from(meta, position)
        position += _ELEMENT.size
        if vr in _LONG_FORM:
            length = int.from_bytes(meta[position : position + 4], "little")
            position += 4
        if vr == b"UI":
            values[element] = meta[position : position + length].decode("ascii", "replace")
        position += length
    return values
