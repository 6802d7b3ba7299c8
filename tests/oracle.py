"""pydicom's JSON as the oracle of ours. Every deliberate difference is one rule here, named D1, D2, ...

D1  group lengths, groups below 0008 and trailing padding are no part of the JSON (PS3.18 F.2.2)
D2  pixel data and long values: BulkDataURI, with the bytes at the spans given
D3  an empty value is null, an element without values has only its vr (F.2.5)
D4  padding is removed on both sides, but leading spaces of LT, ST, UT and UR are kept (F.1, PS3.5 6.2)
D5  IS and DS are strings unless a double says exactly the same; also what pydicom refuses to read
D6  SV and UV beyond 2^53 are strings
D7  private elements sent as UN stay UN, but for private creators
D8  InlineBinary is little endian whatever the transfer syntax (F.2.7)
D9  FL and FD that are not finite are InlineBinary, as JSON has no NaN
D10 a name has only the groups that are not empty (F.2.2)
"""

import io
import struct
import warnings
import zlib
from base64 import b64encode
from collections.abc import Iterator
from decimal import Decimal
from math import isfinite
from typing import Any

import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from storage.dicom.instance import Instance, JsonDataset

UNITS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8, "FL": 4, "FD": 8}
BINARY = {"OB", "OW", "OL", "OF", "OD", "OV", "UN"}
UNSPLIT = {"LT", "ST", "UT", "UR"}
PADDING = " \0"


def body_of(instance: Instance, data: bytes) -> bytes:
    """The data set that the spans of `instance` count in."""
    body = (instance.preface + data)[instance.header_length :]
    return zlib.decompress(body, -15) if instance.transfer_syntax == DeflatedExplicitVRLittleEndian else body


def differences(instance: Instance, data: bytes) -> list[str]:
    """What differs between `instance`, parsed from `data`, and what pydicom reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = pydicom.dcmread(io.BytesIO(data), force=True)
        return list(_Comparison(instance, body_of(instance, data)).dataset(instance.dataset, oracle, ""))


class _Comparison:
    def __init__(self, instance: Instance, body: bytes) -> None:
        self.bulk = instance.bulk
        self.body = body
        self.big = instance.transfer_syntax == ExplicitVRBigEndian

    def dataset(self, ours: JsonDataset, oracle: Dataset, path: str) -> Iterator[str]:
        present = [tag for tag in list(oracle.keys()) if tag.element and tag.group > 7 and tag < 0xFFFC0000]  # D1
        tags = {f"{tag:08X}": tag for tag in present}
        if list(ours) != sorted(tags):
            yield f"{path}: other elements, or not in ascending order: {sorted(set(ours) ^ set(tags))}"
            return
        for key, tag in tags.items():
            raw = oracle.get_item(tag)
            try:
                element = oracle[tag]
            except (ValueError, TypeError):
                assert isinstance(raw, RawDataElement)
                yield from self.unreadable(ours[key], raw, path + key)
                continue
            yield from self.element(ours[key], element, raw, path + key)

    def unreadable(self, ours: dict[str, Any], raw: RawDataElement, where: str) -> Iterator[str]:
        texts = raw.value.decode("ascii").strip(PADDING).split("\\")
        if ours.get("Value") != [_number_string(text) for text in texts]:  # D5
            yield f"{where}: {ours} for {raw.value!r}"

    def element(self, ours: dict[str, Any], element: DataElement, raw: Any, where: str) -> Iterator[str]:
        if ours["vr"] == "SQ" == element.VR:
            items: list[JsonDataset] = ours.get("Value", [])
            assert isinstance(element.value, Sequence)
            if len(items) != len(element.value) or ours.get("Value") == []:  # D3
                yield f"{where}: {len(items)} items instead of {len(element.value)}"
            for number, (item, other) in enumerate(zip(items, element.value, strict=False), 1):
                yield from self.dataset(item, other, f"{where}/{number}/")
        elif "BulkDataURI" in ours:
            yield from self.bulk_value(ours, element, where)
        elif ours != (expected := self.expected(element, raw)):
            yield f"{where}: {ours} instead of {expected}"

    def bulk_value(self, ours: dict[str, Any], element: DataElement, where: str) -> Iterator[str]:  # D2
        bulk = self.bulk[where]
        found = [self.body[offset : offset + length] for offset, length in bulk.spans]
        if ours != {"vr": element.VR, "BulkDataURI": f"bulkdata/{where}"} or bulk.vr != element.VR:
            yield f"{where}: {ours} instead of a bulk value of VR {element.VR}"
        wanted = list(generate_fragments(element.value))[1:] if element.is_undefined_length else [element.value]
        if found != wanted:
            yield f"{where}: other bytes in the bulk value"

    def expected(self, element: DataElement, raw: Any) -> dict[str, Any]:
        private = element.tag.is_private and not element.tag.is_private_creator
        if private and isinstance(raw, RawDataElement) and raw.VR == "UN":  # D7
            return self.inline("UN", raw.value)
        vr, value = str(element.VR), element.value
        if vr in BINARY:
            return self.inline(vr, value)
        if vr in ("FL", "FD"):
            numbers = _listed(value)
            if not all(map(isfinite, numbers)):  # D9
                code = "f" if vr == "FL" else "d"
                return {"vr": vr, "InlineBinary": b64encode(struct.pack(f"<{len(numbers)}{code}", *numbers)).decode()}
        values = [_value(vr, part) for part in _listed(value)]
        return {"vr": vr} if values in ([], [None]) else {"vr": vr, "Value": values}  # D3

    def inline(self, vr: str, value: bytes | None) -> dict[str, Any]:
        if not value:
            return {"vr": vr}
        if self.big and vr in UNITS:  # D8
            unit = UNITS[vr]
            value = b"".join(value[at : at + unit][::-1] for at in range(0, len(value), unit))
        return {"vr": vr, "InlineBinary": b64encode(value).decode()}


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list) else [value]


def _value(vr: str, value: Any) -> Any:
    if vr == "PN":
        groups = zip(("Alphabetic", "Ideographic", "Phonetic"), value.components, strict=False)
        return {name: group.rstrip(PADDING) for name, group in groups if group.strip(PADDING)} or None  # D10
    if vr in ("IS", "DS"):
        return _number_string(getattr(value, "original_string", str(value)).strip(PADDING))
    if vr in ("SV", "UV"):
        return value if abs(value) <= 2**53 else str(value)  # D6
    if vr == "AT":
        return f"{value:08X}"
    if isinstance(value, str):
        return (value.rstrip(PADDING) if vr in UNSPLIT else value.strip(PADDING)) or None  # D3, D4
    return value


def _number_string(text: str) -> Any:  # D5
    try:
        exact = Decimal(text)
        number = float(text)
    except ArithmeticError:
        return text or None
    except ValueError:
        return text or None
    if not isfinite(number) or Decimal(repr(number)) != exact or "_" in text:
        return text
    return number
