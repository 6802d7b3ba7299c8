"""The DICOMDIR of a medium that holds one study (PS3.3 Annex F, PS3.10 8), made from the DICOM JSON of its instances.

Its texts are in UTF-8, whatever the instances declare. What a directory record must have and an instance lacks is made
up in the record alone; the instance stays as it is.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.dicom import filemeta
from storage.dicom.encode import element
from storage.dicom.explicit import element as written
from storage.dicom.identity import Identity
from storage.dicom.instance import JsonDataset
from storage.dicom.syntax import EXPLICIT_LITTLE
from storage.errors import Invalid

_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
_UTF_8 = {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}}
_ITEM = struct.Struct("<HHL")
_RECORD_HEAD = struct.Struct("<HH2sHL HH2sHH HH2sHL")  # next record, in use, lower level (PS3.3 F.3.2.2)
_OFFSETS = 2 * 12  # the elements of a UL each that say where the first and the last root record lie
_FLAG_AND_SEQUENCE = 10 + 12  # the file-set consistency flag, and the header of the record sequence
_IN_USE = 0xFFFF

_TITLE = ("00420010", "0040A043", "00420012")
_CONTENT = ("00080023", "00080033", "00700080", "00700081", "00700084")
_DOCUMENT = ("00080023", "00080033", "0040A491", "0040A493", "0040A030", "0040A043")
_PRESENTATION = ("00700080", "00700081", "00700082", "00700083", "00700084", "00081115")
# The record type of a SOP class that is not an image, and what such a record has besides the instance number.
_KEYS: dict[str, tuple[str, ...]] = {
    "IMAGE": (),
    "SR DOCUMENT": _DOCUMENT,
    "KEY OBJECT DOC": ("00080023", "00080033", "0040A043"),
    "PRESENTATION": _PRESENTATION,
    "WAVEFORM": ("00080023", "00080033"),
    "RAW DATA": ("00080023", "00080033"),
    "REGISTRATION": _CONTENT,
    "FIDUCIAL": _CONTENT,
    "ENCAP DOC": ("00080023", "00080033", *_TITLE),
    "RT DOSE": ("3004000A",),
    "RT STRUCTURE SET": ("30060002", "30060008", "30060009"),
    "RT PLAN": ("300A0002", "300A0006", "300A0007"),
    "RT TREAT RECORD": ("30080250", "30080251"),
}
_CLASSES = (  # a SOP Class UID that begins so, the longest first
    ("1.2.840.10008.5.1.4.1.1.88.59", "KEY OBJECT DOC"),
    ("1.2.840.10008.5.1.4.1.1.88.", "SR DOCUMENT"),
    ("1.2.840.10008.5.1.4.1.1.11.", "PRESENTATION"),
    ("1.2.840.10008.5.1.4.1.1.9.", "WAVEFORM"),
    ("1.2.840.10008.5.1.4.1.1.66.1", "REGISTRATION"),
    ("1.2.840.10008.5.1.4.1.1.66.3", "REGISTRATION"),
    ("1.2.840.10008.5.1.4.1.1.66.2", "FIDUCIAL"),
    ("1.2.840.10008.5.1.4.1.1.104.", "ENCAP DOC"),
    ("1.2.840.10008.5.1.4.1.1.481.2", "RT DOSE"),
    ("1.2.840.10008.5.1.4.1.1.481.3", "RT STRUCTURE SET"),
    ("1.2.840.10008.5.1.4.1.1.481.5", "RT PLAN"),
    ("1.2.840.10008.5.1.4.1.1.481.8", "RT PLAN"),
    ("1.2.840.10008.5.1.4.1.1.481.4", "RT TREAT RECORD"),
    ("1.2.840.10008.5.1.4.1.1.481.6", "RT TREAT RECORD"),
    ("1.2.840.10008.5.1.4.1.1.481.7", "RT TREAT RECORD"),
    ("1.2.840.10008.5.1.4.1.1.481.9", "RT TREAT RECORD"),
)
_RAW_DATA = "1.2.840.10008.5.1.4.1.1.66"  # of which the others are not further kinds
_PATIENT = {"00100010": "PN", "00100020": "LO"}
_STUDY = {"00080020": "DA", "00080030": "TM", "00080050": "SH", "00081030": "LO", "0020000D": "UI", "00200010": "SH"}
_SERIES = {"00080060": "CS", "0020000E": "UI", "00200011": "IS"}
_DATES, _TIMES = ("00080020", "00080021", "00080023", "00080022"), ("00080030", "00080031", "00080033", "00080032")
_WANTED = frozenset(
    (*_PATIENT, *_STUDY, *_SERIES, *_DATES, *_TIMES, "00200013", *(tag for tags in _KEYS.values() for tag in tags))
)


@dataclass(frozen=True, slots=True)
class Filed:
    """An instance on the medium: `file_id` are the components of its path, `dataset` what `kept` left of it."""

    file_id: tuple[str, ...]
    identity: Identity
    transfer_syntax: str
    dataset: JsonDataset


@dataclass(slots=True)
class _Record:
    body: bytes
    lower: "list[_Record]"
    start: int = 0  # of its item, from the first byte of the file

    @property
    def length(self) -> int:
        return _ITEM.size + _RECORD_HEAD.size + len(self.body)


def kept(dataset: JsonDataset) -> JsonDataset:
    """What a directory record may need of an instance; so much is kept of each until the last is known."""
    return {tag: value for tag, value in dataset.items() if tag in _WANTED}


def encode(instances: Sequence[Filed], sop_uid: str) -> bytes:
    """The file DICOMDIR for these instances of one study, those of a series together; `sop_uid` is its own."""
    if not instances:
        raise ValueError("a DICOMDIR needs an instance")
    patient = _patient(instances)
    head = filemeta.build(_MEDIA_STORAGE_DIRECTORY, sop_uid, EXPLICIT_LITTLE) + written(0x00041130, "CS", b"GATEWAY")
    position = len(head) + _OFFSETS + _FLAG_AND_SEQUENCE
    root = struct.pack("<L", position)
    for record in _walk(patient):
        record.start = position
        position += record.length
    offsets = written(0x00041200, "UL", root) + written(0x00041202, "UL", root)
    items = b"".join(_items([patient]))
    return head + offsets + written(0x00041212, "US", b"\0\0") + written(0x00041220, "SQ", items)


def _walk(record: _Record) -> Iterable[_Record]:
    yield record
    for lower in record.lower:
        yield from _walk(lower)


def _items(siblings: Sequence[_Record]) -> Iterable[bytes]:
    """The items of these records and all below, each with where its next sibling and its first child begin."""
    starts = [record.start for record in siblings[1:]] + [0]  # 0: there is none
    for record, following in zip(siblings, starts[: len(siblings)], strict=True):
        lower = record.lower[0].start if record.lower else 0
        yield _ITEM.pack(0xFFFE, 0xE000, record.length - _ITEM.size)
        yield _RECORD_HEAD.pack(
            *(0x0004, 0x1400, b"UL", 4, following),
            *(0x0004, 0x1410, b"US", 2, _IN_USE),
            *(0x0004, 0x1420, b"UL", 4, lower),
        )
        yield record.body
        yield from _items(record.lower)


def _patient(instances: Sequence[Filed]) -> _Record:
    dataset = instances[0].dataset
    series: dict[str, list[Filed]] = {}
    for filed in instances:
        series.setdefault(filed.identity.series_uid, []).append(filed)
    below = [_series(number, members) for number, members in enumerate(series.values(), 1)]
    study = _record("STUDY", _chosen(dataset, _STUDY) | _invented(dataset, _study_stand_ins(dataset)), below)
    return _record("PATIENT", _chosen(dataset, _PATIENT) | _invented(dataset, {"00100020": "UNKNOWN"}), [study])


def _study_stand_ins(dataset: JsonDataset) -> dict[str, str]:
    """Type 1 keys of a study record that instances often lack."""
    return {
        "00080020": next((date for tag in _DATES if (date := _text(dataset, tag))), "19000101"),
        "00080030": next((time for tag in _TIMES if (time := _text(dataset, tag))), "000000"),
        "00200010": "1",
    }


def _series(number: int, members: Sequence[Filed]) -> _Record:
    dataset = members[0].dataset
    below = [_instance(index, filed) for index, filed in enumerate(members, 1)]
    invented = _invented(dataset, {"00080060": "OT", "00200011": str(number)})
    return _record("SERIES", _chosen(dataset, _SERIES) | invented, below)


def _instance(number: int, filed: Filed) -> _Record:
    kind = record_type(filed.identity.sop_class)
    keys = {tag: filed.dataset[tag] for tag in ("00200013", *_KEYS[kind]) if tag in filed.dataset}
    references = {
        "00041500": {"vr": "CS", "Value": list(filed.file_id)},
        "00041510": {"vr": "UI", "Value": [filed.identity.sop_class]},
        "00041511": {"vr": "UI", "Value": [filed.identity.sop_uid]},
        "00041512": {"vr": "UI", "Value": [filed.transfer_syntax]},
    }
    return _record(kind, references | keys | _invented(filed.dataset, {"00200013": str(number)}), [])


def record_type(sop_class: str) -> str:
    """The type of the directory record of an instance (PS3.3 F.4); what is not known is taken for an image."""
    if sop_class == _RAW_DATA:
        return "RAW DATA"
    return next((kind for prefix, kind in _CLASSES if _begins(sop_class, prefix)), "IMAGE")


def _begins(sop_class: str, prefix: str) -> bool:
    return sop_class.startswith(prefix) if prefix.endswith(".") else sop_class == prefix


def _record(kind: str, keys: JsonDataset, lower: list[_Record]) -> _Record:
    typed = {"00041430": {"vr": "CS", "Value": [kind]}}
    entries = sorted((typed | _UTF_8 | keys).items())
    return _Record(b"".join(_element(tag, entry) for tag, entry in entries if "BulkDataURI" not in entry), lower)


def _element(tag: str, entry: dict[str, Any]) -> bytes:
    """A key as the instance has it; without a value where that is none its VR can have."""
    try:
        return element(tag, entry)
    except Invalid:
        return element(tag, {"vr": entry["vr"]})


def _chosen(dataset: JsonDataset, tags: Mapping[str, str]) -> JsonDataset:
    return {tag: dataset.get(tag, {"vr": vr}) for tag, vr in tags.items()}


_VRS = {**_PATIENT, **_STUDY, **_SERIES, "00200013": "IS"}


def _invented(dataset: JsonDataset, stand_ins: Mapping[str, str]) -> JsonDataset:
    return {tag: {"vr": _VRS[tag], "Value": [text]} for tag, text in stand_ins.items() if not _text(dataset, tag)}


def _text(dataset: JsonDataset, tag: str) -> str:
    values = dataset.get(tag, {}).get("Value") or [""]
    return "" if values[0] is None else str(values[0])
