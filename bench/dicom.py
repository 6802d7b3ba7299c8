"""Just enough DICOM encoding to make instances quickly: Explicit VR Little Endian, Part 10 (PS3.5 7.1, PS3.10 7.1)."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
LONG_FORM = {"OB", "OW", "SQ", "UN", "UT"}
BINARY = {"US": "<H", "UL": "<I", "FD": "<d"}
IMPLEMENTATION_CLASS = "2.25.118219384012"

Element = tuple[int, str, object]  # tag, VR, value


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One data element, padded to even length."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    group, number = tag >> 16, tag & 0xFFFF
    if vr in LONG_FORM:
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def dataset(elements: Iterable[Element], codec: str = "ascii") -> bytes:
    """These elements (tag, VR, value) in ascending order; a list of lists is a sequence of items."""
    return b"".join(
        element(tag, vr, _value(vr, value, codec)) for tag, vr, value in sorted(elements, key=lambda e: e[0])
    )


def _value(vr: str, value: object, codec: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if vr in BINARY:
        return struct.pack(BINARY[vr], value)
    if vr == "SQ":
        assert isinstance(value, list)
        items = [dataset(item, codec) for item in value]
        return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    return str(value).encode(codec)


@dataclass(frozen=True)
class Instance:
    """One instance ready to be sent: its data set as buffers that are sent from where they lie."""

    sop_class: str
    sop_uid: str
    study_uid: str
    buffers: Sequence[bytes | memoryview]
    transfer_syntax: str = EXPLICIT_LITTLE_ENDIAN

    @cached_property
    def preface(self) -> bytes:
        """What makes the data set a Part 10 file: preamble, prefix and file meta information."""
        meta = dataset(
            [
                (0x00020001, "OB", b"\0\1"),
                (0x00020002, "UI", self.sop_class),
                (0x00020003, "UI", self.sop_uid),
                (0x00020010, "UI", self.transfer_syntax),
                (0x00020012, "UI", IMPLEMENTATION_CLASS),
            ]
        )
        return bytes(128) + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta

    @cached_property
    def length(self) -> int:
        """Bytes of the data set."""
        return sum(map(len, self.buffers))
