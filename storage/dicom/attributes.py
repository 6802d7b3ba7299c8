"""The one table of searchable attributes: what can be matched, at which level it lives, and what a search returns.

A new searchable attribute is one row of `TABLE` (PS3.18 Tables 10.6.1-5 and 10.6.3-3 to 10.6.3-5). Below it: names
and paths of attributes, and the level that any attribute of a data set belongs to (PS3.3 A.1.2.1 to A.1.2.5).
"""

import re
from dataclasses import dataclass
from enum import IntEnum

from pydicom.datadict import dictionary_VR, tag_for_keyword

from storage.dicom.level import Level

PATIENT_NAME = ("00100010",)
REQUEST_ATTRIBUTES = "00400275"
_HEX_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
MAX_PATH_DEPTH = 8


class Returned(IntEnum):
    """When an attribute is part of a search result that did not ask for it."""

    ON_REQUEST = 0
    WHEN_KNOWN = 1
    ALWAYS = 2  # without a value too, then as {"vr": ...}


class Home(IntEnum):
    """Where the index keeps what it matches for an attribute."""

    NOWHERE = 0  # only returned, not matched
    COLUMN = 1  # a column of the level's own table: the first value, in normal form
    VALUES = 2  # one row for each value (component group, sequence item) beside it


@dataclass(frozen=True, slots=True)
class Attribute:
    """A row of the table. `path` is a tag, or a sequence's tag and one below; `selective`: few share a value."""

    path: tuple[str, ...]
    keyword: str
    vr: str
    level: Level
    home: Home = Home.VALUES
    returned: Returned = Returned.ON_REQUEST
    column: str = ""
    selective: bool = False
    computed: bool = False  # derived by the index from what is stored, never taken from a data set
    tokens: bool = False  # a name that can be matched fuzzily too


def _column(tag: str, keyword: str, vr: str, level: Level, column: str, returned: Returned) -> Attribute:
    return Attribute((tag,), keyword, vr, level, Home.COLUMN, returned, column)


def _values(tag: str, keyword: str, vr: str, level: Level, returned: Returned, *, selective: bool = False) -> Attribute:
    return Attribute((tag,), keyword, vr, level, Home.VALUES, returned, selective=selective)


def _item(sequence: str, tag: str, keyword: str, vr: str, level: Level) -> Attribute:
    return Attribute((sequence, tag), keyword, vr, level, selective=True)


def _computed(tag: str, keyword: str, vr: str, level: Level, home: Home, returned: Returned) -> Attribute:
    return Attribute((tag,), keyword, vr, level, home, returned, computed=True)


def _returned(tag: str, keyword: str, vr: str, level: Level) -> Attribute:
    return Attribute((tag,), keyword, vr, level, Home.NOWHERE, Returned.WHEN_KNOWN)


_ASKED, _KNOWN, _ALWAYS = Returned.ON_REQUEST, Returned.WHEN_KNOWN, Returned.ALWAYS
_STUDY, _SERIES, _INSTANCE = Level.STUDY, Level.SERIES, Level.INSTANCE

TABLE: tuple[Attribute, ...] = (
    _column("00080020", "StudyDate", "DA", _STUDY, "study_date", _ALWAYS),
    _column("00080030", "StudyTime", "TM", _STUDY, "study_time", _ALWAYS),
    _values("00080050", "AccessionNumber", "SH", _STUDY, _ALWAYS, selective=True),
    _computed("00080056", "InstanceAvailability", "CS", _STUDY, Home.NOWHERE, _KNOWN),
    _computed("00080061", "ModalitiesInStudy", "CS", _STUDY, Home.VALUES, _ALWAYS),
    _computed("00080062", "SOPClassesInStudy", "UI", _STUDY, Home.VALUES, _ASKED),
    Attribute(("00080090",), "ReferringPhysicianName", "PN", _STUDY, returned=_ALWAYS, tokens=True),
    _returned("00080201", "TimezoneOffsetFromUTC", "SH", _STUDY),
    _values("00081030", "StudyDescription", "LO", _STUDY, _ASKED),
    Attribute(PATIENT_NAME, "PatientName", "PN", _STUDY, Home.VALUES, _ALWAYS, selective=True, tokens=True),
    _values("00100020", "PatientID", "LO", _STUDY, _ALWAYS, selective=True),
    _values("00100021", "IssuerOfPatientID", "LO", _STUDY, _ASKED),
    _values("00100030", "PatientBirthDate", "DA", _STUDY, _ALWAYS, selective=True),
    _values("00100040", "PatientSex", "CS", _STUDY, _ALWAYS),
    _item("00101002", "00100020", "OtherPatientIDsSequence.PatientID", "LO", _STUDY),
    _item("00101002", "00100021", "OtherPatientIDsSequence.IssuerOfPatientID", "LO", _STUDY),
    _column("0020000D", "StudyInstanceUID", "UI", _STUDY, "study_uid", _ALWAYS),
    _values("00200010", "StudyID", "SH", _STUDY, _ALWAYS, selective=True),
    _computed("00201206", "NumberOfStudyRelatedSeries", "IS", _STUDY, Home.NOWHERE, _ALWAYS),
    _computed("00201208", "NumberOfStudyRelatedInstances", "IS", _STUDY, Home.NOWHERE, _ALWAYS),
    _values("00080060", "Modality", "CS", _SERIES, _ALWAYS),
    _values("00080080", "InstitutionName", "LO", _SERIES, _ASKED),
    _values("00081010", "StationName", "SH", _SERIES, _ASKED),
    _values("0008103E", "SeriesDescription", "LO", _SERIES, _KNOWN),
    _values("00180015", "BodyPartExamined", "CS", _SERIES, _ASKED),
    _column("0020000E", "SeriesInstanceUID", "UI", _SERIES, "series_uid", _ALWAYS),
    _column("00200011", "SeriesNumber", "IS", _SERIES, "series_number", _ALWAYS),
    _computed("00201209", "NumberOfSeriesRelatedInstances", "IS", _SERIES, Home.NOWHERE, _ALWAYS),
    _column("00400244", "PerformedProcedureStepStartDate", "DA", _SERIES, "step_date", _KNOWN),
    _column("00400245", "PerformedProcedureStepStartTime", "TM", _SERIES, "step_time", _KNOWN),
    _returned(REQUEST_ATTRIBUTES, "RequestAttributesSequence", "SQ", _SERIES),
    _item(REQUEST_ATTRIBUTES, "00400009", "RequestAttributesSequence.ScheduledProcedureStepID", "SH", _SERIES),
    _item(REQUEST_ATTRIBUTES, "00401001", "RequestAttributesSequence.RequestedProcedureID", "SH", _SERIES),
    _column("00080016", "SOPClassUID", "UI", _INSTANCE, "sop_class", _ALWAYS),
    _column("00080018", "SOPInstanceUID", "UI", _INSTANCE, "sop_uid", _ALWAYS),
    _column("00200013", "InstanceNumber", "IS", _INSTANCE, "instance_number", _ALWAYS),
    _returned("00280008", "NumberOfFrames", "IS", _INSTANCE),
    _returned("00280010", "Rows", "US", _INSTANCE),
    _returned("00280011", "Columns", "US", _INSTANCE),
    _returned("00280100", "BitsAllocated", "US", _INSTANCE),
)
BY_PATH = {attribute.path: attribute for attribute in TABLE}

# Date and time keys that are one moment together (PS3.4 C.2.2.2.5; PS3.18 8.3.4.1.1).
DATE_TIME_PAIRS = ((("00080020",), ("00080030",)), (("00400244",), ("00400245",)))

# Attributes outside group 0010 that describe the study or its patient: General Study, Patient Study, Clinical Trial
# Subject and Study modules (PS3.3 C.7.1, C.7.2), and what the request and the visit say of the study as a whole.
_STUDY_MODULES = """
    00080020 00080030 00080050 00080051 00080061 00080062 00080090 00080092 00080094 00080096 0008009C 0008009D 00081030
    00081032 00081048 00081049 00081060 00081062 00081080 00081084 00081110 00081120 00120010 00120020 00120021 00120030
    00120031 00120040 00120042 00120050 00120051 00120052 00120053 00120062 00120063 00120064 00120081 00120082 00120083
    0020000D 00200010 00201206 00201208 00321031 00321032 00321033 00321034 00321060 00321064 00380010 00380014 00380060
    00380062 00380064 00401012
"""
# General Series, General Equipment, Clinical Trial Series and Frame of Reference modules (C.7.3 to C.7.5).
_SERIES_MODULES = """
    00080021 00080031 00080060 00080070 00080080 00080081 00080082 00081010 0008103E 0008103F 00081040 00081041 00081050
    00081052 00081070 00081072 00081090 00081111 00081250 00120060 00120071 00120072 00180015 00181000 00181002 00181008
    0018100A 0018100B 00181020 00181030 00181050 00181200 00181201 00185100 0020000E 00200011 00200052 00200060 00201040
    00201209 00280108 00280109 00400244 00400245 00400250 00400251 00400253 00400254 00400260 00400275 00400280
"""
_STUDY_TAGS = frozenset(_STUDY_MODULES.split())
_SERIES_TAGS = frozenset(_SERIES_MODULES.split())
# The instance's in the standard, yet part of every result when known (Tables 10.6.3-3 to 10.6.3-5): kept at each level.
TIMEZONE = "00080201"


def level_of(tag: str) -> Level:
    """The level that a top-level attribute belongs to; all of group 0010 is the patient's, hence the study's."""
    known = BY_PATH.get((tag,))
    if known is not None:
        return known.level
    if tag.startswith("0010") or tag in _STUDY_TAGS:
        return Level.STUDY
    return Level.SERIES if tag in _SERIES_TAGS else Level.INSTANCE


def defaults(level: Level) -> tuple[Attribute, ...]:
    """The attributes of `level` itself that its search results carry unasked (PS3.18 Tables 10.6.3-3 to 10.6.3-5)."""
    return _DEFAULTS[level]


_DEFAULTS = {
    level: tuple(each for each in TABLE if each.level is level and each.returned is not Returned.ON_REQUEST)
    for level in Level
}


def tag_of(name: str) -> str | None:
    """The tag as 8 upper-case hexadecimal digits of a keyword, or of such digits in either case; None for others."""
    if _HEX_TAG.fullmatch(name):
        return name.upper()
    tag = tag_for_keyword(name) if name else None  # the dictionary has entries without a keyword
    return None if tag is None else f"{tag:08X}"


def path_of(name: str) -> tuple[str, ...] | None:
    """The path of a dotted name, each part a keyword or tag (PS3.18 8.3.4.1); None when a part is unknown."""
    parts = name.split(".")
    if len(parts) > MAX_PATH_DEPTH:
        return None
    tags = [tag_of(part) for part in parts]
    return tuple(tag for tag in tags if tag is not None) if None not in tags else None


def vr_of(path: tuple[str, ...]) -> str | None:
    """The VR of the attribute that a path ends in, from the dictionary; None for private and unknown ones."""
    attribute = BY_PATH.get(path)
    if attribute is not None:
        return attribute.vr
    try:
        return dictionary_VR(int(path[-1], 16))
    except KeyError:
        return None


def is_supported(path: tuple[str, ...], level: Level) -> bool:
    """Whether a search at `level` can match on this attribute: one of that level or of a level above."""
    attribute = BY_PATH.get(path)
    return attribute is not None and attribute.home is not Home.NOWHERE and attribute.level <= level
