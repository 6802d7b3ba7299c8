"""The DICOM JSON Model from XML of the Native DICOM Model (PS3.19 A.1), of which nothing is believed."""

import re
from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree

from storage.dicom.dictionary import vr_of
from storage.dicom.elements import name_of
from storage.dicom.instance import JsonDataset
from storage.dicom.jsonmodel import MAX_DEPTH
from storage.dicom.values import PADDING, decimal, integer, long_integer
from storage.dicom.xmlmodel import COMPONENTS, GROUPS
from storage.errors import Fault, Invalid

_KEY = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,6}", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_UNSPLIT = frozenset({"LT", "ST", "UT", "UR"})
_MAX_LEFT_OUT = 1000  # values of which only the numbers of later ones tell
_FIRST_BLOCK, _LAST_BLOCK = 0x10, 0xFF


def read(document: bytes) -> JsonDataset:
    """The data set of an XML document, with ascending tags; with or without the namespace of the model.

    Values are not judged here (`encode` does), only put into the form that their VR has in JSON. The block of private
    elements is that of their creator, if the data set has it, or a free one. Raises Invalid (MALFORMED): not well
    formed, with a document type, or not the model; names the element and never its value.
    """
    try:
        root = defusedxml.ElementTree.fromstring(document, forbid_dtd=True)
    except (ParseError, ValueError, LookupError):
        raise _invalid("the metadata is not well-formed XML without a document type") from None
    if _name(root) != "NativeDicomModel":
        raise _invalid("the metadata is XML, but not the Native DICOM Model")
    return _dataset(root, 0)


def _dataset(parent: Element, depth: int) -> JsonDataset:
    if depth > MAX_DEPTH:
        raise _invalid(f"sequences are nested deeper than {MAX_DEPTH} levels")
    attributes = [(_tag(child), child) for child in _children(parent, "DicomAttribute")]
    blocks = _Blocks(attributes)
    found: JsonDataset = {}
    for tag, attribute in attributes:
        creator = attribute.get("privateCreator")
        if creator is not None:
            tag = blocks.tag(tag, creator.strip(PADDING))
        vr = attribute.get("vr") or vr_of(tag, found | blocks.added, signed=False)
        _put(found, tag, _entry(tag, attribute, vr, depth))
    for key, entry in blocks.added.items():
        found.setdefault(key, entry)
    return dict(sorted(found.items()))


class _Blocks:
    """Which block of a group each private creator has reserved; `added` are the creators that were not there."""

    def __init__(self, attributes: list[tuple[int, Element]]) -> None:
        self.added: JsonDataset = {}
        self._blocks: dict[tuple[int, str], int] = {}
        self._taken: set[int] = set()
        for tag, attribute in attributes:
            group, number = tag >> 16, tag & 0xFFFF
            if not group & 1:
                continue
            if attribute.get("privateCreator") is not None or number > _LAST_BLOCK:
                self._taken.add(group << 8 | number >> 8)
            elif number >= _FIRST_BLOCK:
                self._taken.add(group << 8 | number)
                values = [(child.text or "").strip(PADDING) for child in attribute]
                if len(values) == 1:
                    self._blocks.setdefault((group, values[0]), number)

    def tag(self, tag: int, creator: str) -> int:
        """The tag of a private element with its block, which is left as it is when it came with it."""
        group, number = tag >> 16, tag & 0xFFFF
        block = number >> 8 or self._blocks.get((group, creator)) or self._free(group)
        if (group, creator) not in self._blocks:
            self._blocks[group, creator] = block
            self.added[f"{group:04X}{block:04X}"] = {"vr": "LO", "Value": [creator]}
        return group << 16 | block << 8 | number & 0xFF

    def _free(self, group: int) -> int:
        for block in range(_FIRST_BLOCK, _LAST_BLOCK + 1):
            if group << 8 | block not in self._taken:
                self._taken.add(group << 8 | block)
                return block
        raise _invalid(f"group {group:04X} has no room for another private creator")


def _put(found: JsonDataset, tag: int, entry: dict[str, Any]) -> None:
    key = f"{tag:08X}"
    if key in found:
        raise _invalid(f"{name_of(tag)} is there twice")
    found[key] = entry


def _entry(tag: int, attribute: Element, vr: str, depth: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"vr": vr}
    for child in _children(attribute, "BulkData"):
        if child.get("uri") is None:
            raise _invalid(f"{name_of(tag)} has bulk data without a URI")
        entry["BulkDataURI"] = child.get("uri")
    for child in _children(attribute, "InlineBinary"):
        entry["InlineBinary"] = "".join((child.text or "").split())
    values = _values(tag, attribute, vr, depth)
    if values:
        entry["Value"] = values
    return entry


def _values(tag: int, attribute: Element, vr: str, depth: int) -> list[Any]:
    """The values by their numbers; those left out are null."""
    if vr == "SQ":
        numbered = [(child, _dataset(child, depth + 1)) for child in _children(attribute, "Item")]
        return _placed(tag, numbered, {})
    if vr == "PN":
        return _placed(tag, [(child, _person_name(child)) for child in _children(attribute, "PersonName")], None)
    value_of = _VALUES.get(vr, _string)
    values = [(child, value_of(_text(tag, child, vr))) for child in _children(attribute, "Value")]
    return _placed(tag, values, None)


def _placed(tag: int, numbered: list[tuple[Element, Any]], left_out: Any) -> list[Any]:
    places: dict[int, Any] = {}
    for at, (child, value) in enumerate(numbered, 1):
        number = child.get("number", str(at))
        if not _NUMBER.fullmatch(number) or int(number) in places:
            raise _invalid(f"{name_of(tag)} has values that are not numbered from 1 on")
        places[int(number)] = value
    last = max(places, default=0)
    if last > len(places) + _MAX_LEFT_OUT:
        raise _invalid(f"{name_of(tag)} leaves too many values out")
    return [places.get(number, left_out) for number in range(1, last + 1)]


def _person_name(element: Element) -> dict[str, str] | None:
    groups = {_name(child): _group(child) for child in element}
    return {group: groups[group] for group in GROUPS if groups.get(group)} or None


def _group(element: Element) -> str:
    parts = {_name(child): child.text or "" for child in element}
    count = max((at for at, component in enumerate(COMPONENTS, 1) if component in parts), default=0)
    return "^".join(parts.get(component, "") for component in COMPONENTS[:count])


def _text(tag: int, element: Element, vr: str) -> str:
    if len(element):
        raise _invalid(f"{name_of(tag)} has markup in a value")
    text = element.text or ""
    return text.rstrip(PADDING) if vr in _UNSPLIT else text.strip(" \0\t\r\n")


def _string(text: str) -> str | None:
    return text or None


def _whole(text: str) -> int | str | None:
    return int(text) if _WHOLE.fullmatch(text) else text or None


def _floating(text: str) -> float | str | None:
    try:
        number = float(text)
    except ValueError:
        return text or None
    return number if isfinite(number) else text


def _or_null(value_of: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: value_of(text) if text else None


_VALUES: dict[str, Callable[[str], Any]] = {
    "IS": _or_null(integer),
    "DS": _or_null(decimal),
    **dict.fromkeys(("US", "SS", "UL", "SL"), _whole),
    **dict.fromkeys(("SV", "UV"), lambda text: long_integer(int(text)) if _WHOLE.fullmatch(text) else text or None),
    **dict.fromkeys(("FL", "FD"), _floating),
}


def _tag(attribute: Element) -> int:
    key = attribute.get("tag", "")
    if not _KEY.fullmatch(key):
        raise _invalid("an attribute has a tag that is not 8 hexadecimal digits")
    return int(key, 16)


def _children(parent: Element, name: str) -> Iterator[Element]:
    return (child for child in parent if _name(child) == name)


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _invalid(message: str) -> Invalid:
    return Invalid(Fault.MALFORMED, message)
