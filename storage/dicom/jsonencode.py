"""From the DICOM JSON Model (PS3.18 Annex F) to explicit VR little endian, texts in UTF-8: for what we write ourselves.

Never used on what was received: that stays as it came.
"""

import struct
from typing import Any

from storage.dicom.instance import JsonDataset

_LONG = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_MAX_SHORT = 0xFFFE


def elements(dataset: JsonDataset) -> bytes:
    """Every element in ascending order; those whose values lie elsewhere (bulk) are left out."""
    return b"".join(
        element(tag, value["vr"], _value(value["vr"], value.get("Value", [])))
        for tag, value in sorted(dataset.items())
        if "BulkDataURI" not in value and "InlineBinary" not in value
    )


def element(tag: str, vr: str, value: bytes) -> bytes:
    """One element with a value that is encoded already; a text too long for its VR's length field is left empty."""
    group, number = int(tag[:4], 16), int(tag[4:], 16)
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    if vr in _LONG:
        return struct.pack("<HH2sHL", group, number, vr.encode(), 0, len(value)) + value
    if len(value) > _MAX_SHORT:
        value = b""
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def _value(vr: str, values: list[Any]) -> bytes:
    if vr == "SQ":
        return b"".join(_item(item) for item in values if item is not None)
    if vr in _NUMBERS:
        return b"".join(struct.pack(f"<{_NUMBERS[vr]}", value) for value in values if value is not None)
    if vr == "AT":
        return b"".join(struct.pack("<HH", int(tag[:4], 16), int(tag[4:], 16)) for tag in values if tag is not None)
    return "\\".join(_text(vr, value) for value in values).encode()


def _item(item: JsonDataset) -> bytes:
    body = elements(item)
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body


def _text(vr: str, value: Any) -> str:
    if value is None:
        return ""
    if vr == "PN":
        groups = [value.get(part, "") for part in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return str(value)
