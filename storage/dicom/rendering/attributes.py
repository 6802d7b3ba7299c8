"""The attributes of one frame that decide how it looks, flat and small, functional groups resolved (PS3.3 C.7.6.16)."""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping
from typing import Any

from storage.dicom.instance import JsonDataset
from storage.errors import NotFound

Bulk = Mapping[str, bytes]  # the values that the data set gives by BulkDataURI, under these URIs
NO_BULK: Bulk = {}

_LARGEST = 1e15  # no quantity is larger; a number that is would overflow somewhere on the way to grey

_SHARED_GROUPS, _FRAME_GROUPS = "52009229", "52009230"
_PIXEL_MEASURES, _FRAME_VOI_LUT, _PIXEL_VALUE_TRANSFORMATION = "00289110", "00289132", "00289145"
_OPTICAL_PATHS, _ICC_PROFILE = "00480105", "00282000"
_VOI = frozenset({"00281050", "00281051", "00281056", "00283010"})
_MODALITY = frozenset({"00281052", "00281053", "00283000"})
_MACROS: Mapping[str, frozenset[str]] = {  # and what each takes the place of
    _PIXEL_MEASURES: frozenset({"00280030", "00180050"}),
    _FRAME_VOI_LUT: _VOI,
    _PIXEL_VALUE_TRANSFORMATION: _MODALITY,
}
_PADDING = frozenset({"00280120", "00280121", "00280122", "00280123", "00280124", "00280125"})
_PALETTE = frozenset(
    f"0028{element}" for element in ("1101", "1102", "1103", "1201", "1202", "1203", "1221", "1222", "1223")
)
_PRESENTATION = frozenset({"20500010", "20500020", _ICC_PROFILE})
_SPACING = frozenset({"00280030", "00280034", "00181164", "00182010"})
_PATIENT = frozenset({"00100010", "00100020", "00100030", "00100040", "00101010"})
_TECHNIQUE = frozenset(
    {
        *("00080060", "00080020", "00080022", "00081030", "0008103E", "00180015", "00180050", "00180060", "00180080"),
        *("00180081", "00180088", "00181150", "00181151", "00181152", "00200011", "00200013", "00201041"),
    }
)
_KEPT = _VOI | _MODALITY | _PADDING | _PALETTE | _PRESENTATION | _SPACING | _PATIENT | _TECHNIQUE


def attributes_of_frame(dataset: JsonDataset, number: int) -> JsonDataset:
    """What `render` needs of a data set for the frame `number`, from 1. Raises NotFound below that."""
    if number < 1:
        raise NotFound(f"there is no frame {number}")
    kept = {key: element for key, element in dataset.items() if key in _KEPT}
    frames = dataset.get(_FRAME_GROUPS, {}).get("Value", ())
    for groups in (item(dataset, _SHARED_GROUPS), frames[number - 1] if number <= len(frames) else {}):
        for macro, replaced in _MACROS.items():
            found = item(groups, macro)
            if found:
                kept = {key: element for key, element in kept.items() if key not in replaced}
                kept |= {key: element for key, element in found.items() if key in replaced}
    profile = item(dataset, _OPTICAL_PATHS).get(_ICC_PROFILE)
    return kept if profile is None else {_ICC_PROFILE: profile, **kept}


def bulk_uris(attributes: JsonDataset) -> Iterator[str]:
    """The values that must be fetched before this frame can be rendered."""
    for element in attributes.values():
        if "BulkDataURI" in element:
            yield element["BulkDataURI"]
        if element.get("vr") == "SQ":
            for nested in element.get("Value", ()):
                yield from bulk_uris(nested)


def first(attributes: JsonDataset, key: str) -> Any:
    """The first value, None without one."""
    found = values(attributes, key)
    return found[0] if found else None


def values(attributes: JsonDataset, key: str) -> list[Any]:
    """All values, as the DICOM JSON Model has them."""
    found = attributes.get(key, {}).get("Value")
    return found if isinstance(found, list) else []


def item(attributes: JsonDataset, key: str) -> JsonDataset:
    """The first item of a sequence, empty without one."""
    found = first(attributes, key)
    return found if isinstance(found, dict) else {}


def text(attributes: JsonDataset, key: str) -> str:
    """The first value as text, "" when it has none or is no text or number."""
    found = first(attributes, key)
    return str(found).strip() if isinstance(found, str | int | float) else ""


def number(attributes: JsonDataset, key: str, at: int = 0) -> float | None:
    """A numerical value, which may come as a string; None when there is none or it means nothing in an image."""
    found = values(attributes, key)
    if len(found) <= at or not isinstance(found[at], str | int | float):
        return None
    try:
        value = float(found[at])
    except (ValueError, OverflowError):
        return None
    return value if abs(value) <= _LARGEST else None


def binary(element: Mapping[str, Any], bulk: Bulk) -> bytes | None:
    """A value of bytes, inline or from `bulk`; None when it has none, or it was not handed in."""
    if "InlineBinary" in element:
        try:
            return b64decode(element["InlineBinary"])
        except (Base64Error, TypeError):
            return None
    return bulk.get(element.get("BulkDataURI", ""))
