"""SQL search against the plain oracle on cases that are known to be hard, every query over every study."""

from collections.abc import Iterator
from typing import Any

import pytest

from storage.dicom.instance import JsonDataset
from storage.dicom.matching import matches, ordered
from storage.dicom.query import Level, Query, key
from storage.index import MetadataIndex, PackingIndex
from tests.contract.index_samples import ask, first, json_instance, record

PATIENT_IDS = ["P1", "p1", "P10", "", "a%b", "axb", "a_b", "a[1]b", "a1b", "a\\b", "王小东", "王东", "é", "x" * 1100]
NAMES = [
    {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"},
    {"Alphabetic": "wang^xiaodong^", "Phonetic": "王^小东"},
    {"Alphabetic": "Wang"},
    {"Ideographic": "王^小东"},
    {"Alphabetic": "Müller^Jörg"},
    {"Alphabetic": "a[b]^c"},
]
MOMENTS = [
    ("20260310", "095959.9"),
    ("20260310", "1000"),
    ("20260311", ""),
    ("20260311", "2359"),
    ("20260312", "120059.999999"),
    ("20260312", "1201"),
    ("", "1000"),
    ("2026.03.11", "10:00:00"),
]
ITEMS: list[list[tuple[str, str]]] = [
    [],
    [("S1", "R1"), ("S2", "R2")],
    [("S1", "R2")],
    [("S2", "")],
    [("", "R1"), ("S1", "")],
]
KEYS: list[dict[str, str]] = [
    *(
        {"PatientID": text}
        for text in [*PATIENT_IDS[:-1], "x" * 512, "P*", "P?", "*1", "a?b", "a[1]*", "a_*", "a%*", "a\\*"]
    ),
    *({"PatientID": text} for text in ["王?东", "王*", "?", "*", "*x", "e\u0301"]),
    *(
        {"PatientName": text}
        for text in ["Wang", "wang*", "*小东*", "王^小东", "WANG^XIAODONG", "muller^*", "a[b]^?", "^"]
    ),
    *(
        {"PatientName": text}
        for text in ["Wang^*=王^*", "*=*", "=王*", "==王*", "wang^xiaodong==王^小东", "Wang^XiaoDong=李*"]
    ),
    *({"StudyDate": text} for text in ["20260311", "20260310-20260311", "-20260310", "20260312-", ""]),
    *({"StudyTime": text} for text in ["10", "1000", "100000", "1000-1200", "-0959", "2359-", "235900.0"]),
    {"StudyDate": "20260310-20260312", "StudyTime": "1000-1200"},
    {"StudyDate": "20260310-20260312", "StudyTime": "1300-1200"},
    {"StudyDate": "20260311-", "StudyTime": "1000-"},
    {"StudyDate": "-20260311", "StudyTime": "-1000"},
    {"StudyDate": "20260310-20260312", "StudyTime": "1000-"},
    {"StudyDate": "20260311", "StudyTime": "1000-1200"},
    *({"ModalitiesInStudy": text} for text in ["CT", "S?", "CT*", "ct", "MR"]),
]
SERIES_KEYS: list[dict[str, str]] = [
    *({"RequestAttributesSequence.00400009": step} for step in ["S1", "S*", "", "S3"]),
    *(
        {"RequestAttributesSequence.00400009": step, "RequestAttributesSequence.00401001": procedure}
        for step in ["S1", "S2", "S?", ""]
        for procedure in ["R1", "R2", "R*"]
    ),
    *({"SeriesNumber": text} for text in ["1", "+01", "2.0", "10"]),
    {"Modality": "SR", "PatientID": "P*"},
]


def element(vr: str, *values: Any) -> JsonDataset:
    kept = [value for value in values if value != ""]
    return {"vr": vr, "Value": kept} if kept else {"vr": vr}


def datasets() -> Iterator[JsonDataset]:
    for number in range(60):
        date, time = MOMENTS[number % len(MOMENTS)]
        items = [
            {"00400009": element("SH", step), "00401001": element("SH", procedure)}
            for step, procedure in ITEMS[number % len(ITEMS)]
        ]
        identifiers = [PATIENT_IDS[number % len(PATIENT_IDS)], PATIENT_IDS[number // 3 % 9] if number % 4 == 0 else ""]
        yield {
            "00080016": element("UI", "1.2.840"),
            "00080018": element("UI", f"1.{number}.1.1"),
            "00080020": element("DA", date),
            "00080030": element("TM", time),
            "00080060": element("CS", ["CT", "SR", "ct", ""][number % 4]),
            "00100010": element("PN", NAMES[number % len(NAMES)]),
            "00100020": element("LO", *identifiers),
            "0020000D": element("UI", f"1.{number}"),
            "0020000E": element("UI", f"1.{number}.1"),
            "00200011": element("IS", [1, "002", "x", "10.0"][number % 4]),
            "00400275": {"vr": "SQ", "Value": items} if items else {"vr": "SQ"},
        }


STORED = list(datasets())


@pytest.fixture(scope="module")
def index(lasting_index: PackingIndex) -> PackingIndex:
    for each in STORED:
        lasting_index.add(record(json_instance(each)))
    return lasting_index


CASES = [(Level.STUDY, keys) for keys in KEYS] + [(Level.SERIES, keys) for keys in SERIES_KEYS]
# A range of times over midnight is refused where it stands alone.
BOTH_WAYS = [(*case, way) for case in CASES for way in (True, False) if way or "1300-1200" not in case[1].values()]


@pytest.mark.parametrize(("level", "keys", "together"), BOTH_WAYS, ids=lambda value: repr(value)[:60])
def test_the_same_studies_in_the_same_order(
    index: MetadataIndex, level: Level, keys: dict[str, str], together: bool
) -> None:
    compare(index, level, ask(level, keys, limit=1000, combined_datetime=together))


FUZZY = [
    "wang",
    "WXD",
    "xd",
    "小东",
    "东",
    "*东*",
    "dong",
    "王",
    "muller",
    "jm",
    "a[b]",
    "c",
    "l",
    "w?ng",
    "^",
    "*",
    "",
]


@pytest.mark.parametrize("text", FUZZY)
@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES])
def test_the_same_patients_by_their_names_fuzzily(index: MetadataIndex, level: Level, text: str) -> None:
    name = key(("00100010",), text, fuzzy=True)
    compare(index, level, Query(level, (name,), limit=1000))
    compare(index, level, Query(level, (name, key(("00100020",), "P*")), limit=1000))


def compare(index: MetadataIndex, level: Level, query: Query) -> None:
    entities = [each | {"00080061": each["00080060"]} for each in STORED]
    expected = ordered([each for each in entities if matches(each, query)], level)
    found = index.search(query).rows
    assert [first(row, "StudyInstanceUID") for row in found] == [first(each, "StudyInstanceUID") for each in expected]


def test_most_cases_find_some_and_not_all() -> None:
    entities = [each | {"00080061": each["00080060"]} for each in STORED]
    counts = [sum(matches(each, ask(level, keys)) for each in entities) for level, keys in CASES]
    assert sum(0 < count < len(entities) for count in counts) > 0.8 * len(CASES)
