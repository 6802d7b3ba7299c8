"""Search keys read by VR (PS3.4 C.2.2.2), and the normal forms in which values are compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dicom.attributes import path_of
from storage.dicom.query import (
    AnyOf,
    Empty,
    Fuzzy,
    Key,
    Level,
    Query,
    Range,
    Single,
    UidList,
    Universal,
    Wildcard,
    check,
    combined,
    covered,
    is_fuzzy,
    key,
    normal,
)
from storage.errors import Fault, Invalid

KEYS = [
    ("PatientID", "", Universal()),
    ("PatientID", "*", Universal()),
    ("PatientID", "  ", Universal()),
    ("PatientID", "**", Universal()),
    ("PatientID", " A1 ", Single("A1")),
    ("PatientID", "a%_[x]\\", Single("a%_[x]\\")),
    ("PatientID", "A**b?", Wildcard("A*b?")),
    ("PatientID", "?", Wildcard("?")),
    ("PatientName", "Wang^*=*", Wildcard("Wang^*=*")),
    ("StudyInstanceUID", "1.2", Single("1.2")),
    ("StudyInstanceUID", "1.2,1.3\\1.2", UidList(("1.2", "1.3"))),
    ("StudyInstanceUID", "*", Universal()),
    ("StudyDate", "20260311", Single("20260311")),
    ("StudyDate", "2026.03.11", Single("20260311")),
    ("StudyDate", "20260301-20260311", Range("20260301", "20260311")),
    ("StudyDate", "-20260311", Range(None, "20260311")),
    ("StudyDate", "20260311-", Range("20260311", None)),
    ("StudyTime", "2230", Single("2230")),
    ("StudyTime", "1000-1030", Range("100000.000000", "103059.999999")),
    ("StudyTime", "-10", Range(None, "105959.999999")),
    ("StudyTime", "10:30:05.5-", Range("103005.500000", None)),
    ("AcquisitionDateTime", "20260311-0500", Single("20260311-0500")),
    ("AcquisitionDateTime", "2025-2026", Range("20250101000000.000000", "20261231235959.999999")),
    (
        "AcquisitionDateTime",
        "20260311120000-0500-20260311130000-0500",
        Range("20260311170000.000000", "20260311180000.999999"),
    ),
    ("InstanceNumber", "+007", Single("7")),
    ("InstanceNumber", "7.0", Single("7")),
    ("SliceThickness", "1.50", Single("1.5")),
]
BAD_KEYS = [
    ("StudyInstanceUID", "1.2*"),
    ("StudyInstanceUID", "1.2,,1.4"),
    ("StudyInstanceUID", "1.2,"),
    ("StudyInstanceUID", "abc"),
    ("StudyDate", "2026*"),
    ("StudyDate", "20260230"),
    ("StudyDate", "-"),
    ("StudyDate", "20260311-20260310"),
    ("StudyDate", "20260301-20260302-20260303"),
    ("StudyDate", "2026.0311"),
    ("StudyTime", "2500"),
    ("StudyTime", "1060"),
    ("StudyTime", "10?"),
    ("AcquisitionDateTime", "2026-2025"),
    ("AcquisitionDateTime", "20261301"),
    ("AcquisitionDateTime", "99991231235959.999999-1300"),
    ("InstanceNumber", "7*"),
    ("InstanceNumber", "7.5"),
    ("InstanceNumber", "9" * 19),
    ("SliceThickness", "nan"),
    ("SliceThickness", "1_0"),
    ("PatientID", "x" * 1025),
    ("PatientID", "a\x00b"),
    ("PatientID", "\ud800"),
    ("PatientID", "*a" * 17),
    ("00091001", "x"),
]


def read(name: str, text: str) -> Key:
    path = path_of(name)
    assert path is not None
    return key(path, text)


@pytest.mark.parametrize(("name", "text", "matching"), KEYS)
def test_keys(name: str, text: str, matching: object) -> None:
    assert read(name, text).matching == matching


@pytest.mark.parametrize(("name", "text"), BAD_KEYS)
def test_bad_keys_are_refused_without_repeating_their_value(name: str, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(name, text)
    assert refused.value.fault is Fault.QUERY
    assert len(str(refused.value)) < 200 and (len(text) < 3 or text not in str(refused.value))


@pytest.mark.parametrize(
    ("vr", "text", "form"),
    [
        ("DA", "2024.03.10", "20240310"),
        ("DA", "00000000", None),
        ("DA", "2024", None),
        ("TM", "2230", "223000.000000"),
        ("TM", "22:30:15.25", "223015.250000"),
        ("TM", "235960", "235960.000000"),
        ("TM", "223", None),
        ("DT", "202603", "20260301000000.000000"),
        ("DT", "20260311093000.5+0800", "20260311013000.500000"),
        ("IS", " -012 ", "-12"),
        ("IS", "1e3", None),
        ("DS", "-0.0", "0.0"),
        ("DS", "1e400", None),
        ("CS", " CT ", "CT"),
        ("LT", " kept ", " kept"),
        ("LO", "e\u0301", "é"),
        ("LO", "長" * 2000, "長" * 512),
        ("PN", "MÜLLER^Jörg", "muller^jorg"),
    ],
)
def test_normal_forms(vr: str, text: str, form: str | None) -> None:
    assert normal(vr, text) == form


@pytest.mark.parametrize(
    ("vr", "text", "interval"),
    [
        ("TM", "22", ("220000.000000", "225959.999999")),
        ("TM", "223015.5", ("223015.500000", "223015.599999")),
        ("DA", "20240229", ("20240229", "20240229")),
        ("DT", "202402", ("20240201000000.000000", "20240229235959.999999")),
        ("DT", "202412", ("20241201000000.000000", "20241231235959.999999")),
        ("DT", "20240101-1200", ("20240101120000.000000", "20240102115959.999999")),
        ("DT", "20240101+1401", None),
        ("DT", "202401.5", None),
    ],
)
def test_what_a_value_covers(vr: str, text: str, interval: tuple[str, str] | None) -> None:
    assert covered(vr, text) == interval


def query(*keys: Key, combined_datetime: bool = True) -> Query:
    return Query(Level.STUDY, keys, combined_datetime=combined_datetime)


def test_dates_and_times_are_one_interval_only_in_the_same_form() -> None:
    date, time = read("StudyDate", "20260310-20260312"), read("StudyTime", "1000-0900")
    assert combined(query(time, date)) == [(date, time)]
    assert combined(query(date, time, combined_datetime=False)) == []
    assert combined(query(date, read("StudyTime", "1000-"))) == []
    assert combined(query(date, read("StudyTime", "1000"))) == []
    assert combined(query(date)) == []


def test_a_range_over_midnight_is_refused_unless_dates_go_with_it() -> None:
    date, time = read("StudyDate", "20260310-20260312"), read("StudyTime", "1000-0900")
    check(query(date, time))
    for wrong in (query(time), query(date, time, combined_datetime=False), query(read("StudyDate", "20260310"), time)):
        with pytest.raises(Invalid):
            check(wrong)
    with pytest.raises(Invalid):
        check(query(read("StudyDate", "20260310-20260310"), time))


@given(
    st.sampled_from(
        [
            "PatientID",
            "PatientName",
            "StudyDate",
            "StudyTime",
            "AcquisitionDateTime",
            "StudyInstanceUID",
            "InstanceNumber",
            "SliceThickness",
            "Rows",
            "PixelData",
        ]
    ),
    st.text(max_size=40),
)
def test_any_text_is_a_key_or_invalid(name: str, text: str) -> None:
    try:
        read(name, text)
    except Invalid as refused:
        assert refused.fault is Fault.QUERY


@given(st.from_regex(r"[0-9.:+-]{0,30}", fullmatch=True), st.sampled_from(["DA", "TM", "DT"]))
def test_intervals_are_never_empty(text: str, vr: str) -> None:
    interval = covered(vr, text)
    assert interval is None or interval[0] <= interval[1]


@pytest.mark.parametrize(
    ("text", "matching"),
    [
        ("Wang^Xiao", Fuzzy("wangxiao")),
        ("WANG*", Fuzzy("wang")),
        (" 小东 ", Fuzzy("小东")),
        ("*小东*", Fuzzy("小东")),
        ("*", Universal()),
        ("", Universal()),
        ("^", Single("^")),
        ("*dong", Wildcard("*dong")),
        ("w?ng", Wildcard("w?ng")),
        ("王*东", Wildcard("王*东")),
        ("wang=王", Single("wang=王")),
    ],
)
def test_names_are_asked_for_by_token_when_a_token_can_serve(text: str, matching: object) -> None:
    assert key(("00100010",), text, fuzzy=True).matching == matching
    assert not isinstance(key(("00100010",), text).matching, Fuzzy)


def test_q_emptymatch_two_quotation_marks() -> None:
    for path in ("00100010", "00100020", "00080020", "00200011", "0020000D"):
        assert key((path,), '""', empty=True).matching == Empty()
    assert key(("00100020",), '""').matching == Single('""')
    assert key(("00100020",), "", empty=True).matching == Universal()


def test_q_multimatch_backslashes_separate_values() -> None:
    asked = key(("00080060",), "CT\\M*\\CT", multiple=True).matching
    assert asked == AnyOf((Single("CT"), Wildcard("M*")))
    assert key(("00080060",), "CT\\MR").matching == Single("CT\\MR"), "Q-LITERAL"
    assert key(("00080020",), "20260101\\20260201-", multiple=True).matching == AnyOf(
        (Single("20260101"), Range("20260201", None))
    )
    assert key(("00100010",), "Wang\\Li", fuzzy=True, multiple=True).matching == AnyOf((Fuzzy("wang"), Fuzzy("li")))
    assert key(("00080060",), "CT\\*", multiple=True).matching == Universal()
    for wrong in ("CT\\\\MR", "\\CT", "\\".join(f"C{number}" for number in range(65))):
        with pytest.raises(Invalid):
            key(("00080060",), wrong, multiple=True)


def test_other_attributes_are_matched_literally() -> None:
    assert is_fuzzy(("00100010",)) and is_fuzzy(("00080090",)) and not is_fuzzy(("00100020",))
    assert key(("00100020",), "Wang", fuzzy=True).matching == Single("Wang")
