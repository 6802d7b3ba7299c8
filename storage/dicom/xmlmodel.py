"""The Native DICOM Model (PS3.19 A.1; PS3.18 F.2): XML from the DICOM JSON Model. The other way is `xmlreading`.

Written by joining strings, because the metadata of thousands of instances passes here.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from storage.dicom.dictionary import keyword_of
from storage.dicom.instance import JsonDataset

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")

_HEAD = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
_TAIL = "</NativeDicomModel>"
_EVEN = frozenset("02468ACE")
# What must be escaped, CR so that it survives the normalization of line ends, and what XML 1.0 does not have at all.
_MARKUP = re.compile('[&<>"\t\n\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')
_IN_TEXT = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
_REPLACEMENT = "\ufffd"

Add = Callable[[str], None]


def write(dataset: JsonDataset) -> bytes:
    """The XML document of one data set, in UTF-8.

    A character that XML 1.0 cannot have (ESC, FF, ...) becomes U+FFFD. Private elements have 00 for their block and the
    private creator beside it; of two blocks with one creator, the second keeps its number, so that nothing is mixed up.
    """
    pieces = [_HEAD]
    _write_dataset(dataset, pieces.append)
    pieces.append(_TAIL)
    return "".join(pieces).encode()


def _write_dataset(dataset: JsonDataset, add: Add) -> None:
    creators: dict[str, str] | None = None
    for key, entry in dataset.items():
        vr = entry["vr"]
        if key[3] in _EVEN:
            start = _start(key, vr)
        else:
            creators = _creators(dataset) if creators is None else creators
            start = _private_start(key, vr, creators)
        values = entry.get("Value")
        if values is not None:
            add(start)
            add(">")
            if vr == "SQ":
                _write_items(values, add)
            elif vr == "PN":
                _write_names(values, add)
            else:
                _write_values(values, add)
            add("</DicomAttribute>")
        elif "BulkDataURI" in entry:
            add(f'{start}><BulkData uri="{_attribute(entry["BulkDataURI"])}"/></DicomAttribute>')
        elif "InlineBinary" in entry:
            add(f"{start}><InlineBinary>{entry['InlineBinary']}</InlineBinary></DicomAttribute>")
        else:
            add(start)
            add("/>")


@lru_cache(maxsize=16384)
def _start(key: str, vr: str) -> str:
    keyword = keyword_of(int(key, 16))
    named = f' keyword="{keyword}"' if keyword else ""
    return f'<DicomAttribute tag="{key}" vr="{vr}"{named}'


def _private_start(key: str, vr: str, creators: Mapping[str, str]) -> str:
    creator = creators.get(key[:6])
    if creator is None:
        return f'<DicomAttribute tag="{key}" vr="{vr}"'
    return f'<DicomAttribute tag="{key[:4]}00{key[6:]}" vr="{vr}" privateCreator="{creator}"'


def _creators(dataset: JsonDataset) -> dict[str, str]:
    """The private creator of each block (group and block number) as an attribute; the first block of each alone."""
    found: dict[tuple[str, str], str] = {}
    for key, entry in dataset.items():
        if key[3] not in _EVEN and key[4:6] == "00" and key[6] != "0":
            values = entry.get("Value", ())
            if len(values) == 1 and isinstance(values[0], str):
                found.setdefault((key[:4], values[0]), key[:4] + key[6:])
    return {block: _attribute(creator) for (_, creator), block in found.items()}


def _write_values(values: list[Any], add: Add) -> None:
    for number, value in enumerate(values, 1):
        if value is None:
            add(f'<Value number="{number}"/>')
        elif isinstance(value, str):
            add(f'<Value number="{number}">{_text(value)}</Value>')
        else:
            add(f'<Value number="{number}">{value!r}</Value>')


def _write_items(items: list[JsonDataset], add: Add) -> None:
    for number, item in enumerate(items, 1):
        if item:
            add(f'<Item number="{number}">')
            _write_dataset(item, add)
            add("</Item>")
        else:
            add(f'<Item number="{number}"/>')


def _write_names(names: list[dict[str, str] | None], add: Add) -> None:
    for number, name in enumerate(names, 1):
        if name is None:
            add(f'<PersonName number="{number}"/>')
            continue
        groups = "".join(f"<{group}>{_components(name[group])}</{group}>" for group in GROUPS if group in name)
        add(f'<PersonName number="{number}">{groups}</PersonName>')


def _components(group: str) -> str:
    """The components of a name; what goes beyond five stays with the fifth, a `^` at the end shows by an empty one."""
    parts = group.split("^", len(COMPONENTS) - 1)
    last = len(parts) - 1
    return "".join(
        f"<{component}>{_text(part)}</{component}>" if part else f"<{component}/>"
        for at, (component, part) in enumerate(zip(COMPONENTS, parts, strict=False))
        if part or at == last
    )


def _text(text: str) -> str:
    return _IN_TEXT.sub(_escaped, text) if _IN_TEXT.search(text) else text


def _attribute(text: str) -> str:
    return _MARKUP.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[0], _REPLACEMENT)
