"""A Part 10 file in Explicit VR Little Endian from the DICOM JSON Model, its texts in UTF-8 (PS3.18 Annex F).

For instances that come as metadata and bulk data, and for what is written here. What came as DICOM stays as it came.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

from storage.dicom import explicit, filemeta
from storage.dicom.aroundpixels import OF_ENCAPSULATION, AroundPixels, Native, Pixels, around
from storage.dicom.charset import repaired
from storage.dicom.dictionary import vr_of
from storage.dicom.elements import FIRST_TAG, name_of
from storage.dicom.identity import uid
from storage.dicom.instance import JsonDataset
from storage.dicom.jsonmodel import MAX_DEPTH, PIXEL_DATA
from storage.dicom.jsonvalues import Refused, value_field
from storage.dicom.syntax import EXPLICIT_LITTLE
from storage.dicom.texts import CHARSET_VRS
from storage.dicom.values import BY_NAME
from storage.errors import Fault, Invalid

Bulk = Callable[[str], bytes]  # the value that a BulkDataURI names; raises Invalid when there is none

_KEY = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_SPECIFIC_CHARACTER_SET = "00080005"
_UTF8 = {"vr": "CS", "Value": ["ISO_IR 192"]}
_FORMS = ("Value", "BulkDataURI", "InlineBinary")
_MAX_TERMS = 32


class _Place(NamedTuple):
    """Where elements stand, and what they need from around them."""

    bulk: Bulk
    path: str = ""  # of the item, in a sequence
    declared: tuple[str, ...] = ()  # the Specific Character Set of the metadata: bulk texts may be in it


def _no_bulk(uri: str) -> bytes:
    raise Invalid(Fault.MALFORMED, "a BulkDataURI names a value that did not come with the metadata")


def encode(
    dataset: JsonDataset,
    bulk: Bulk = _no_bulk,
    *,
    transfer_syntax: str = EXPLICIT_LITTLE,
    pixels: Pixels | None = None,
) -> AroundPixels:
    """The Part 10 file of the instance that `dataset` describes; see `element` for what its elements may be.

    `pixels` are streamed by the caller and take the place of what `dataset` has there; without them everything is in
    the `head`. Specific Character Set becomes ISO_IR 192 at all levels; groups below 0008 and group lengths are left
    out. Raises Invalid: MALFORMED (naming the element), MISSING_UID, BAD_UID, and what `bulk` raises.
    """
    place = _Place(bulk, "", _declared(dataset) or ())
    entries = _sorted({**dataset, _SPECIFIC_CHARACTER_SET: _UTF8}, "")
    if pixels is not None:
        tag = (pixels.tag if isinstance(pixels, Native) else None) or PIXEL_DATA
        entries = [(each, entry) for each, entry in entries if not (each in pixels.tags or each in OF_ENCAPSULATION)]
        before = [(each, entry) for each, entry in entries if each < tag]
        after = [(each, entry) for each, entry in entries if each > tag]
        return around(_meta(dataset, transfer_syntax) + _joined(before, place), _joined(after, place), pixels)
    whole = _meta(dataset, transfer_syntax) + _joined(entries, place)
    return AroundPixels(whole, b"", len(whole))


def element(key: str, entry: Any, bulk: Bulk = _no_bulk) -> bytes:
    """One element of the DICOM JSON Model in Explicit VR Little Endian.

    Taken are numbers or strings for numbers, a missing or empty Value, null for an empty value, a missing vr of an
    attribute that the dictionary knows; values are padded to even length. Raises Invalid (MALFORMED) that names the
    element and never its value.
    """
    return _joined([(_tag(key, ""), entry)], _Place(bulk))


def _meta(dataset: JsonDataset, transfer_syntax: str) -> bytes:
    sop_class, sop_uid = (_only_string(dataset, key) for key in ("00080016", "00080018"))
    return filemeta.build(uid(sop_class, "SOP Class UID"), uid(sop_uid, "SOP Instance UID"), transfer_syntax)


def _only_string(dataset: JsonDataset, key: str) -> str:
    entry = dataset.get(key)
    values = entry.get("Value") if isinstance(entry, dict) else None
    return values[0] if isinstance(values, list) and len(values) == 1 and isinstance(values[0], str) else ""


def _sorted(dataset: JsonDataset, path: str) -> list[tuple[int, Any]]:
    """The elements that are written, by ascending tag."""
    found: dict[int, Any] = {}
    for key, entry in dataset.items():
        tag = _tag(key, path)
        if tag in found:
            raise _invalid("is there twice", tag, path)
        if tag >= FIRST_TAG and tag & 0xFFFF:
            found[tag] = entry
    return sorted(found.items(), key=itemgetter(0))


def _declared(dataset: JsonDataset) -> tuple[str, ...] | None:
    """The Specific Character Set of the metadata themselves; None when they have none."""
    entry = dataset.get(_SPECIFIC_CHARACTER_SET)
    values = entry.get("Value") if isinstance(entry, dict) else None
    if not isinstance(values, list):
        return None
    return tuple(value if isinstance(value, str) else "" for value in values[:_MAX_TERMS])


def _joined(entries: list[tuple[int, Any]], place: _Place) -> bytes:
    pieces = []
    for tag, entry in entries:
        try:
            pieces.append(_element(tag, entry, place))
        except Refused as error:
            raise _invalid(str(error), tag, place.path) from None
    return b"".join(pieces)


def _element(tag: int, entry: Any, place: _Place) -> bytes:
    if not isinstance(entry, dict):
        raise Refused("is no JSON object")
    vr = _vr(tag, entry)
    present = [form for form in _FORMS if form in entry]
    if len(present) > 1:
        raise Refused(f"has {' and '.join(present)}, of which there can be one")
    if vr == "SQ" and present not in ([], ["Value"]):
        raise Refused(f"is a sequence, which {present[0]} cannot give")
    if "BulkDataURI" in entry:
        if not isinstance(entry["BulkDataURI"], str):
            raise Refused("has a BulkDataURI that is no string")
        return explicit.element(tag, vr, _bulk_value(vr, place.bulk(entry["BulkDataURI"]), place.declared))
    if "InlineBinary" in entry:
        return explicit.element(tag, vr, _inline(entry["InlineBinary"]))
    values = entry.get("Value")
    if values is not None and not isinstance(values, list):
        raise Refused("has a Value that is no array")
    if vr == "SQ":
        return explicit.element(tag, vr, _items(tag, values or [], place))
    return explicit.element(tag, vr, value_field(vr, values) if values else b"")


def _vr(tag: int, entry: dict[str, Any]) -> str:
    vr = entry.get("vr")
    if vr is None:
        vr = vr_of(tag, {}, signed=False)
    if not isinstance(vr, str) or vr not in BY_NAME:
        raise Refused("has no VR of the standard")
    return vr


def _bulk_value(vr: str, value: bytes, declared: tuple[str, ...]) -> bytes:
    """A value that came as bulk data: a text in the character set of its source becomes UTF-8 (PS3.19 A.1.5)."""
    if vr not in CHARSET_VRS or value.isascii():
        return value
    charset, _ = repaired(declared, [value])
    return charset.text(value).encode("utf-8", "replace")


def _inline(text: Any) -> bytes:
    if not isinstance(text, str):
        raise Refused("has an InlineBinary that is no string")
    try:
        return b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused("has an InlineBinary that is not base64") from None


def _items(tag: int, items: list[Any], place: _Place) -> bytes:
    if place.path.count("/") >= 2 * MAX_DEPTH:
        raise Refused(f"is nested deeper than {MAX_DEPTH} levels")
    pieces: list[bytes] = []
    for number, item in enumerate(items, 1):
        dataset = _checked(item)
        path = f"{place.path}{tag:08X}/{number}/"
        declared = _declared(dataset)
        if _SPECIFIC_CHARACTER_SET in dataset:
            dataset = {**dataset, _SPECIFIC_CHARACTER_SET: _UTF8}
        within = _Place(place.bulk, path, place.declared if declared is None else declared)
        body = _joined(_sorted(dataset, path), within)
        pieces += (explicit.item_header(len(body)), body)
    return b"".join(pieces)


def _checked(item: Any) -> JsonDataset:
    if item is None:
        return {}
    if not isinstance(item, dict):
        raise Refused("has an item that is no JSON object")
    return item


def _tag(key: str, path: str) -> int:
    if not _KEY.fullmatch(key):
        place = f" in {path[:-1]}" if path else ""
        raise Invalid(Fault.MALFORMED, f"the name of an element{place} is not 8 hexadecimal digits")
    return int(key, 16)


def _invalid(message: str, tag: int, path: str) -> Invalid:
    place = f" in {path[:-1]}" if path else ""
    return Invalid(Fault.MALFORMED, f"{name_of(tag)}{place}: {message}")
