"""The preamble and file meta information around a data set: read tolerantly, written strictly (PS3.10 7.1)."""

import struct
from dataclasses import dataclass

from storage.dicom.elements import UNDEFINED, Encoding, malformed

IMPLEMENTATION_CLASS_UID = "2.25.256343395549054849935556941975422781869"
IMPLEMENTATION_VERSION_NAME = "IMAGING_GATEWAY"
PREAMBLE = bytes(128)
PREFIX = b"DICM"

_META_GROUP = 0x0002
_GROUP_LENGTH = 0x00020000
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x00020002, 0x00020003, 0x00020010
_UIDS = frozenset({_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX})
_MAX_ELEMENTS = 1000
_MAX_UID_BYTES = 66


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What stands before a data set in bytes as received; UIDs are "" when absent."""

    preface: bytes | None  # what the bytes lack to be a Part 10 file; None when they have no file meta at all
    dataset_start: int
    transfer_syntax: str = ""
    sop_class: str = ""
    sop_uid: str = ""


def read(view: memoryview) -> FileMeta:
    """The file meta information at the start of `view`, if there is any.

    A wrong group length, implicit VR and a missing preamble or prefix are tolerated. Raises Invalid (MALFORMED) when
    the elements of group 0002 are cut short.
    """
    if view[128:132] == PREFIX:
        return _elements(view, len(PREAMBLE) + len(PREFIX), b"")
    if view[:4] == PREFIX:
        return _elements(view, len(PREFIX), PREAMBLE)
    if _in_meta_group(view, 0):
        return _elements(view, 0, PREAMBLE + PREFIX)
    return FileMeta(None, 0)


def _elements(view: memoryview, position: int, preface: bytes) -> FileMeta:
    end, declared_end = len(view), -1
    uids = dict.fromkeys(_UIDS, "")
    for _ in range(_MAX_ELEMENTS):
        if position == declared_end or not _in_meta_group(view, position):
            break
        tag, _, start, length = Encoding.EXPLICIT_LITTLE.header(view, position, end)
        if length == UNDEFINED or start + length > end:
            raise malformed("the file meta information is cut short", position)
        position = start + length
        if tag == _GROUP_LENGTH and length == 4:
            declared_end = position + int.from_bytes(view[start:position], "little")
        elif tag in _UIDS and length <= _MAX_UID_BYTES:
            uids[tag] = str(view[start:position], "ascii", "replace").strip(" \0")
    return FileMeta(preface, position, uids[_TRANSFER_SYNTAX], uids[_SOP_CLASS], uids[_SOP_INSTANCE])


def _in_meta_group(view: memoryview, position: int) -> bool:
    return int.from_bytes(view[position : position + 2], "little") == _META_GROUP


def build(sop_class: str, sop_uid: str, transfer_syntax: str, *, source_ae_title: str = "") -> bytes:
    """Preamble, prefix and file meta information for a data set that comes without (PS3.10 7.1)."""
    elements = [
        struct.pack("<HH2s2xI2s", _META_GROUP, 0x0001, b"OB", 2, b"\0\1"),
        _element(0x0002, b"UI", sop_class, "\0"),
        _element(0x0003, b"UI", sop_uid, "\0"),
        _element(0x0010, b"UI", transfer_syntax, "\0"),
        _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID, "\0"),
        _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, " "),
    ]
    if source_ae_title:
        elements.append(_element(0x0016, b"AE", source_ae_title, " "))
    group = b"".join(elements)
    return PREAMBLE + PREFIX + struct.pack("<HH2sHI", _META_GROUP, 0x0000, b"UL", 4, len(group)) + group


def _element(number: int, vr: bytes, text: str, padding: str) -> bytes:
    value = (text if len(text) % 2 == 0 else text + padding).encode("ascii")
    return struct.pack("<HH2sH", _META_GROUP, number, vr, len(value)) + value
