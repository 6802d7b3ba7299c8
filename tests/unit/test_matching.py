"""The matching oracle on examples of the standard: it is the measure for SQL, so it is measured here by hand."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.dicom.attributes import path_of, vr_of
from storage.dicom.matching import items, like, matches, ordered, texts
from storage.dicom.names import json_person_name
from storage.dicom.query import Level, Query, key

NAME = {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东", "Phonetic": "wáng^xiǎodōng"}


NAMES = st.text("王小东行aBé^ ß=-'Ａ", max_size=5)


def dataset(**values: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in values.items():
        path = path_of(name)
        assert path is not None
        made[path[0]] = {"vr": vr_of(path)} | (
            {"Value": value if isinstance(value, list) else [value]} if value != "" else {}
        )
    return made


def finds(entity: dict[str, Any], keys: dict[str, str], **more: Any) -> bool:
    found = []
    for name, text in keys.items():
        path = path_of(name)
        assert path is not None
        found.append(key(path, text))
    return matches(entity, Query(Level.INSTANCE, tuple(found), **more))


@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        ("P1", "P1", True),
        ("P1", "P", False),
        ("P1", "p1", False),
        ("P1 ", "P1", True),
        (" P1", "P1", True),
        ("P1", "*", True),
        ("", "", True),
        ("", "P1", False),
        ("", "?", False),
        ("P1", "P?", True),
        ("P12", "P?", False),
        ("王小东", "王?东", True),
        ("a%b", "a%b", True),
        ("axb", "a%b", False),
        ("a_b", "a_*", True),
        ("axb", "a_*", False),
        ("a[1]b", "a[1]*", True),
        ("a1b", "a[1]*", False),
        (["A", "B"], "B", True),
        (["A", None, "B"], "A\\B", False),
    ],
)
def test_text(stored: Any, asked: str, found: bool) -> None:
    assert finds(dataset(PatientID=stored), {"PatientID": asked}) is found


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Wang^XiaoDong", True),
        ("WANG^xiaodong", True),
        ("Wang^XiaoDong^^", True),
        ("Wang", False),
        ("Wang*", True),
        ("*小东*", True),
        ("王^*", True),
        ("王^小东", True),
        ("wang^xiaodong=王^小东", True),
        ("Wang^XiaoDong=李^*", False),
        ("=王*", True),
        ("==wang*", True),
        ("*=*", True),
        ("王*=Wang*", False),
        ("wang^xiaodong=王^小东=x*", False),
    ],
)
def test_person_names(asked: str, found: bool) -> None:
    assert finds(dataset(PatientName=NAME), {"PatientName": asked}) is found


def test_accents_and_missing_groups() -> None:
    assert finds(dataset(PatientName={"Alphabetic": "Müller^Jörg"}), {"PatientName": "muller^*"})
    assert not finds(dataset(PatientName={"Alphabetic": "Wang"}), {"PatientName": "*=*"})
    assert not finds(dataset(PatientName=""), {"PatientName": "*=*"})
    assert not finds(dataset(PatientName={"Alphabetic": "Wang"}), {"PatientName": "^="})


@pytest.mark.parametrize(
    ("date", "time", "asked_date", "asked_time", "found"),
    [
        ("20260310", "100000", "20260310-20260312", "1000-1200", True),
        ("20260310", "095959.9", "20260310-20260312", "1000-1200", False),
        ("20260311", "230000", "20260310-20260312", "1000-1200", True),
        ("20260312", "120059.999999", "20260310-20260312", "1000-1200", True),
        ("20260312", "1201", "20260310-20260312", "1000-1200", False),
        ("20260311", "", "20260310-20260312", "1000-1200", False),
        ("20260311", "0900", "20260310-", "1000-", True),
        ("20260310", "0900", "20260310-", "1000-", False),
        ("20260311", "230000", "20260310-20260312", "1000-", True),
        ("20260311", "0900", "20260310-20260312", "1000-", False),
        ("2026.03.10", "10:00", "20260310", "1000", True),
    ],
)
def test_dates_and_times(date: str, time: str, asked_date: str, asked_time: str, found: bool) -> None:
    entity = dataset(StudyDate=date, StudyTime=time)
    assert finds(entity, {"StudyDate": asked_date, "StudyTime": asked_time}) is found


def test_dates_and_times_apart_are_a_daily_window() -> None:
    entity = dataset(StudyDate="20260311", StudyTime="2300")
    keys = {"StudyDate": "20260310-20260312", "StudyTime": "1000-1200"}
    assert not finds(entity, keys, combined_datetime=False)


@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        ("103000.000000", "1000-1030", True),
        ("223000", "2230", True),
        ("2230", "223000", True),
        ("223059", "2230", True),
        ("2231", "2230", False),
        ("", "-2359", False),
        ("nonsense", "0000-2359", False),
    ],
)
def test_times_by_meaning(stored: str, asked: str, found: bool) -> None:
    assert finds(dataset(StudyTime=stored), {"StudyTime": asked}) is found


@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        ("20260311093000+0800", "20260311013000+0000", True),
        ("20260311093000+0800", "20260311", True),
        ("20260311073000+0800", "20260311", False),
        ("20260311", "20260310-20260312", True),
    ],
)
def test_date_times_with_offsets(stored: str, asked: str, found: bool) -> None:
    assert finds(dataset(AcquisitionDateTime=stored), {"AcquisitionDateTime": asked}) is found


def test_numbers_by_value() -> None:
    assert finds(dataset(InstanceNumber=7), {"InstanceNumber": "+007"})
    assert finds(dataset(InstanceNumber="007"), {"InstanceNumber": "7"})
    assert not finds(dataset(InstanceNumber="seven"), {"InstanceNumber": "7"})
    assert finds(dataset(SliceThickness=[1.5]), {"SliceThickness": "1.50"})


def test_keys_of_one_sequence_match_in_one_item() -> None:
    items = [dataset(ScheduledProcedureStepID="S1", RequestedProcedureID="R1"), dataset(ScheduledProcedureStepID="S2")]
    entity = dataset(RequestAttributesSequence=items)
    step, procedure = "RequestAttributesSequence.ScheduledProcedureStepID", "RequestAttributesSequence.00401001"
    assert finds(entity, {step: "S1", procedure: "R1"})
    assert not finds(entity, {step: "S2", procedure: "R1"})
    assert finds(entity, {step: "S2", procedure: ""})
    assert finds(dataset(), {step: "", procedure: "*"})
    assert not finds(dataset(RequestAttributesSequence=""), {step: "S1"})


@pytest.mark.parametrize("values", [["hello"], [7, None], [{"Alphabetic": "Wang"}]])
def test_what_should_be_a_sequence_and_is_none_has_no_items(values: list[Any]) -> None:
    entity = {"00400275": {"vr": "LO", "Value": values}}
    assert list(items(entity, ("00400275",))) == []
    assert not finds(entity, {"RequestAttributesSequence.00401001": "hello"})


def test_uid_lists_modalities_and_parents() -> None:
    entity = dataset(StudyInstanceUID="1.2", SeriesInstanceUID="1.3", ModalitiesInStudy=["CT", "SR"])
    assert finds(entity, {"StudyInstanceUID": "1.9,1.2", "ModalitiesInStudy": "S?"})
    assert not finds(entity, {"StudyInstanceUID": "1.9,1.20"})
    assert finds(entity, {}, study_uid="1.2", series_uid="1.3")
    assert not finds(entity, {}, study_uid="1.2", series_uid="1.4")
    assert not finds(entity, {}, study_uid="1.9")


def test_order_is_total_and_unknown_comes_last() -> None:
    studies = [
        dataset(StudyInstanceUID="1.3", StudyDate="20260101", StudyTime="10"),
        dataset(StudyInstanceUID="1.1", StudyDate="20260102"),
        dataset(StudyInstanceUID="1.2", StudyDate="20260101", StudyTime="1000"),
        dataset(StudyInstanceUID="1.4", StudyDate="20260101", StudyTime="11"),
        dataset(StudyInstanceUID="1.0", StudyDate="unknown"),
    ]
    assert [texts(each, "0020000D") for each in ordered(studies, Level.STUDY)] == [
        ["1.1"],
        ["1.4"],
        ["1.2"],
        ["1.3"],
        ["1.0"],
    ]
    series = [dataset(SeriesInstanceUID=uid, SeriesNumber=n) for uid, n in (("1.1", ""), ("1.2", "10"), ("1.3", 9))]
    assert [texts(each, "0020000E") for each in ordered(series, Level.SERIES)] == [["1.3"], ["1.2"], ["1.1"]]


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not like("a" * 1024, "*a" * 16 + "b")


@pytest.mark.parametrize(
    ("asked", "found"), [("wxd", True), ("小东", True), ("xiaodong", True), ("wang^x*", True), ("李", False)]
)
def test_names_match_fuzzily_by_their_tokens(asked: str, found: bool) -> None:
    query = Query(Level.STUDY, (key(("00100010",), asked, fuzzy=True),))
    assert matches(dataset(PatientName=NAME), query) is found
    assert matches(dataset(PatientName=["Li", NAME]), query) is found
    assert not matches(dataset(PatientName=""), query)


@settings(deadline=None)
@given(NAMES, NAMES)
def test_what_matches_literally_matches_fuzzily(name: str, asked: str) -> None:
    entity = {"00100010": {"vr": "PN", "Value": [json_person_name(name)]}}
    for pattern in (asked, asked + "*", name):
        literal, fuzzy = (Query(Level.STUDY, (key(("00100010",), pattern, fuzzy=way),)) for way in (False, True))
        assert matches(entity, fuzzy) or not matches(entity, literal)
