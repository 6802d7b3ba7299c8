"""Data sets written byte by byte, as faulty and unusual senders write them: nothing padded, nothing checked."""

import struct
from typing import Any

import orjson

from storage.dicom.parse import parse

UNDEFINED = 0xFFFFFFFF
LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
ITEM_END = b"\xfe\xff\x0d\xe0\0\0\0\0"
SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def explicit(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """An element in explicit VR little endian; `length` is what it claims, otherwise the truth."""
    length = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return head + (struct.pack("<HI", 0, length) if vr in LONG else struct.pack("<H", length)) + value


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    """An element in implicit VR little endian."""
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def item(content: bytes, length: int | None = None) -> bytes:
    """An item of a sequence, or a fragment, of defined length."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content) if length is None else length) + content


def open_item(content: bytes) -> bytes:
    """An item of undefined length."""
    return item(content, UNDEFINED) + ITEM_END


def encapsulated(fragments: list[bytes], offsets: list[int] = []) -> bytes:  # noqa: B006
    """Encapsulated pixel data: a basic offset table, fragments, the delimiter (PS3.5 A.4)."""
    value = item(struct.pack(f"<{len(offsets)}I", *offsets)) + b"".join(map(item, fragments)) + SEQUENCE_END
    return explicit(0x7FE00010, "OB", value, UNDEFINED)


def uids(sop_class: bytes = b"1.2.840.10008.5.1.4.1.1.2\0", sop: bytes = b"1.2.3\0") -> bytes:
    """The attributes of group 0008 that an instance must have."""
    return explicit(0x00080016, "UI", sop_class) + explicit(0x00080018, "UI", sop)


def parents(study: bytes = b"1.2.4\0", series: bytes = b"1.2.5\0") -> bytes:
    """The attributes of group 0020 that an instance must have."""
    return explicit(0x0020000D, "UI", study) + explicit(0x0020000E, "UI", series)


def pixel_description(rows: int, columns: int, bits: int = 8, samples: int = 1, frames: str | None = None) -> bytes:
    """Samples per Pixel, Number of Frames, Rows, Columns, Bits Allocated."""
    return (
        explicit(0x00280002, "US", struct.pack("<H", samples))
        + (b"" if frames is None else explicit(0x00280008, "IS", frames.encode()))
        + explicit(0x00280010, "US", struct.pack("<H", rows))
        + explicit(0x00280011, "US", struct.pack("<H", columns))
        + explicit(0x00280100, "US", struct.pack("<H", bits))
    )


def part10(transfer_syntax: str, dataset: bytes) -> bytes:
    """A Part 10 file with nothing in its file meta information but the transfer syntax."""
    uid = transfer_syntax.encode()
    meta = explicit(0x00020010, "UI", uid + b"\0" * (len(uid) % 2))
    return bytes(128) + b"DICM" + explicit(0x00020000, "UL", struct.pack("<I", len(meta))) + meta + dataset


def json_of(*elements: bytes) -> dict[str, Any]:
    """The JSON of an instance with these elements, its UIDs left out."""
    instance = parse(uids() + parents() + b"".join(elements))
    found: dict[str, Any] = orjson.loads(instance.metadata)
    return {key: entry for key, entry in found.items() if entry["vr"] != "UI"}


def values_of(vr: str, raw: bytes) -> Any:
    """The entry of an element (of a group after all UIDs) with this VR and these bytes."""
    return json_of(explicit(0x00310001, vr, raw))["00310001"]
