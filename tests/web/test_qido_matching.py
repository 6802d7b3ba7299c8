"""The rules of matching from the query string to the index and back (PS3.4 C.2.2.2; PS3.18 8.3.4, 10.6.1)."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from pydicom.dataset import Dataset

from gateway.web.errors import Refused
from storage.dicom.level import Level
from storage.dicom.matching import matches
from storage.dicom.query import Query, key
from storage.errors import Invalid
from tests.web.catalogue import Catalogue, series_uid, study_uid

CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.11"


def item(**values: Any) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def requested(step: str, procedure: str) -> Dataset:
    return item(ScheduledProcedureStepID=step, RequestedProcedureID=procedure)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """Three studies; the first of two series, one of them a report."""
    made = Catalogue.opened(tmp_path_factory.mktemp("catalogue"))
    made.keep(
        1,
        RequestAttributesSequence=[requested("S1", "R1"), requested("S2", "R2")],
        OtherPatientIDsSequence=[item(PatientID="X7"), item(PatientID="X8")],
        PerformedProcedureStepStartDate="20260311",
        PerformedProcedureStepStartTime="0930",
        InstitutionName="Hospital 1",
        StationName="CT1",
        BodyPartExamined="CHEST",
        IssuerOfPatientID="HOSP",
        SpecificCharacterSet="ISO_IR 192",
    )
    made.keep(1, 2, 5, Modality="SR", SOPClassUID=SR)
    made.keep(
        2,
        StudyDate="20260312",
        StudyTime="2230",
        PatientName="Li^Na",
        PatientID="a%b_c[d] ",
        StudyDescription="Knie",
        AccessionNumber="A+2,B",
        ReferringPhysicianName="Qian^Wei",
        PatientSex="F",
        PatientBirthDate="19800101",
    )
    made.keep(3, StudyDate="", StudyTime="", StudyID=None, PatientName="Müller^Jörg", ReferringPhysicianName="")
    yield made
    made.index.close()


def of_series(catalogue: Catalogue, query: str) -> list[str]:
    return sorted(row["0020000E"]["Value"][0] for row in catalogue.rows(query, Level.SERIES))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("StudyDate=20260311", [1]),
        ("StudyTime=0926", [1]),
        ("AccessionNumber=A1", [1]),
        ("ModalitiesInStudy=CT", [1, 2, 3]),
        ("ReferringPhysicianName=Qian*", [2]),
        ("PatientName=Li%5ENa", [2]),
        ("PatientID=P1", [1]),
        (f"StudyInstanceUID={study_uid(2)}", [2]),
        ("StudyID=2", [2]),
    ],
)
def test_q_keys_study(catalogue: Catalogue, query: str, found: list[int]) -> None:
    assert catalogue.find(query) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("Modality=SR", [(1, 2)]),
        (f"SeriesInstanceUID={series_uid(2)}", [(2, 1)]),
        ("SeriesNumber=2", [(1, 2)]),
        ("PerformedProcedureStepStartDate=20260311", [(1, 1)]),
        ("PerformedProcedureStepStartTime=09", [(1, 1)]),
        ("RequestAttributesSequence.ScheduledProcedureStepID=S1", [(1, 1)]),
        ("RequestAttributesSequence.RequestedProcedureID=R2", [(1, 1)]),
        ("RequestAttributesSequence.RequestedProcedureID=R3", []),
    ],
)
def test_q_keys_series(catalogue: Catalogue, query: str, found: list[tuple[int, int]]) -> None:
    assert of_series(catalogue, query) == [series_uid(*each) for each in found]


@pytest.mark.parametrize(
    ("query", "found"),
    [(f"SOPClassUID={SR}", [1]), (f"SOPInstanceUID={series_uid(2)}.1", [2]), ("InstanceNumber=5", [1])],
)
def test_q_keys_inst(catalogue: Catalogue, query: str, found: list[int]) -> None:
    assert catalogue.find(query, Level.INSTANCE) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("PatientBirthDate=19800101", [2]),
        ("PatientSex=F", [2]),
        ("StudyDescription=Knie", [2]),
        ("SeriesDescription=*%202", [1]),
        ("BodyPartExamined=CHEST", [1]),
        ("InstitutionName=Hospital%201", [1]),
        ("StationName=CT1", [1]),
        ("IssuerOfPatientID=HOSP", [1]),
        (f"SOPClassesInStudy={SR}", [1]),
    ],
)
def test_q_keys_extra(catalogue: Catalogue, query: str, found: list[int]) -> None:
    assert sorted(set(catalogue.find(query, Level.SERIES))) == found


def test_q_levelkeys_study_keys_filter_below(catalogue: Catalogue) -> None:
    for level in Level:
        assert set(catalogue.find("PatientName=Li*", level)) == {2}
    assert catalogue.find("Modality=SR&PatientID=P1", Level.INSTANCE) == [1]


def test_q_hiermodality_is_not_supported_at_the_study(catalogue: Catalogue) -> None:
    assert catalogue.find("Modality=SR") == [1, 2, 3]


def test_q_parent_bind_both_parents_count(catalogue: Catalogue) -> None:
    assert catalogue.find("", Level.INSTANCE, study_uid=study_uid(1), series_uid=series_uid(1)) == [1]
    assert catalogue.find("", Level.INSTANCE, study_uid=study_uid(1), series_uid=series_uid(2)) == []


def test_q_dotpath_by_keywords_tags_and_both(catalogue: Catalogue) -> None:
    for path in ("OtherPatientIDsSequence.PatientID", "00101002.00100020", "00101002.PatientID"):
        assert catalogue.find(f"{path}=X8") == [1]
        assert catalogue.find(f"{path}=X9") == []


def test_q_seq_item_both_keys_in_one_item(catalogue: Catalogue) -> None:
    path = "RequestAttributesSequence"
    assert len(of_series(catalogue, f"{path}.ScheduledProcedureStepID=S1&{path}.RequestedProcedureID=R1")) == 1
    assert of_series(catalogue, f"{path}.ScheduledProcedureStepID=S1&{path}.RequestedProcedureID=R2") == []


def test_q_nokey_everything_up_to_the_limit(catalogue: Catalogue) -> None:
    assert catalogue.find("") == [1, 2, 3]
    assert len(catalogue.rows("limit=2")) == 2


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("PatientID=P", []),
        ("PatientID=P1", [1]),
        ("PatientID=p1", []),
        ("StudyDescription=knie", []),
        ("StudyDescription=Knie%20", [2]),
        ("StudyDescription=%20Knie", [2]),
    ],
)
def test_q_single_q_case_q_trailspace(catalogue: Catalogue, query: str, found: list[int]) -> None:
    assert catalogue.find(query) == found


@pytest.mark.parametrize("name", ["LI^NA", "li^na", "Li^Ná", "Li^Na^^", "Li%5ENa=", "Li*", "L?^Na", "*Na"])
def test_q_pn_case_and_q_pn_component(catalogue: Catalogue, name: str) -> None:
    assert catalogue.find(f"PatientName={quote(name, safe='%')}") == [2]


def test_q_pn_component_alone_is_no_beginning(catalogue: Catalogue) -> None:
    assert catalogue.find("PatientName=Li") == []
    assert catalogue.find("PatientName=Muller^Jorg") == [3]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("*小东*", [1]),
        ("王^*", [1]),
        ("Wang*", [1]),
        ("王^小?", [1]),
        ("王^小??", []),
        ("Wang^XiaoDong=王^小东", [1]),
        ("Wang^XiaoDong=李^小东", []),
        ("=王*", [1]),
        ("*=*", [1]),
    ],
)
def test_q_pn_groups_q_pn_whole_q_wildcard(catalogue: Catalogue, name: str, found: list[int]) -> None:
    assert catalogue.find(f"PatientName={quote(name)}") == found


@pytest.mark.parametrize("key", ["StudyInstanceUID=1.2*", "StudyDate=2026*", "StudyTime=09*", "StudyDate=2026031?"])
def test_q_wild_notvr_is_refused(catalogue: Catalogue, key: str) -> None:
    with pytest.raises(Invalid):
        catalogue.find(key)


@pytest.mark.parametrize(
    ("value", "found"), [("a%b_c[d]", [2]), ("a%*", [2]), ("%", []), ("a_b_c[d]", []), ("a%b_c?d?", [2]), ("a\\*", [])]
)
def test_q_literal(catalogue: Catalogue, value: str, found: list[int]) -> None:
    assert catalogue.find(f"PatientID={quote(value)}") == found


def test_x_plus_and_commas_are_literal(catalogue: Catalogue) -> None:
    assert catalogue.find("AccessionNumber=A+2,B") == catalogue.find("AccessionNumber=A%2B2%2CB") == [2]


@pytest.mark.parametrize("value", ["", "*", "**", "%2A"])
def test_q_universal_and_q_matchreturn(catalogue: Catalogue, value: str) -> None:
    rows = catalogue.rows(f"StudyID={value}&StudyDescription={value}")
    assert len(rows) == 3
    assert all("00200010" in row and "00081030" in row for row in rows)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("StudyDate=20260312", [2]),
        ("StudyDate=20260311-20260312", [1, 2]),
        ("StudyDate=-20260311", [1]),
        ("StudyDate=20260312-", [2]),
        ("StudyDate=20260310-20260311", [1]),
    ],
)
def test_q_date_single_and_q_date_range(catalogue: Catalogue, query: str, found: list[int]) -> None:
    assert catalogue.find(query) == found


def test_q_date_reverse_and_q_time_midnight_are_refused(catalogue: Catalogue) -> None:
    for query in ("StudyDate=20260312-20260311", "StudyTime=2300-0100"):
        with pytest.raises(Invalid):
            catalogue.find(query)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("StudyTime=223000", [2]),
        ("StudyTime=22", [2]),
        ("StudyTime=092653", [1]),
        ("StudyTime=0900-092653.5", [1]),
        ("StudyTime=0900-092653.4", []),
        ("StudyTime=1000-", [2]),
    ],
)
def test_q_time_meaning(catalogue: Catalogue, query: str, found: list[int]) -> None:
    assert catalogue.find(query) == found


def test_q_dt_combined_is_one_interval(catalogue: Catalogue) -> None:
    assert catalogue.find("StudyDate=20260311-20260312&StudyTime=0900-0800") == [1]
    assert catalogue.find("StudyDate=20260311-20260312&StudyTime=1000-2300") == [2]
    day = "PerformedProcedureStepStartDate=20260310-20260312"
    assert of_series(catalogue, f"{day}&PerformedProcedureStepStartTime=1000-0100") == [series_uid(1)]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("20260311173000", True),
        ("20260312013000%2B0800", True),
        ("202603111230-0500", True),
        ("20260311-0500", True),
        ("20260310-0500", False),
    ],
)
def test_q_dt_vr_offsets_count(asked: str, found: bool) -> None:
    entity = {"0008002A": {"vr": "DT", "Value": ["20260311173000.000000+0000"]}}
    assert matches(entity, Query(Level.INSTANCE, (key(("0008002A",), asked.replace("%2B", "+")),))) is found


@pytest.mark.parametrize("separator", [",", "%2C", "%5C"])
def test_q_uidlist(catalogue: Catalogue, separator: str) -> None:
    several = separator.join([study_uid(1), study_uid(3), *(f"1.9.{number}" for number in range(150))])
    assert catalogue.find(f"StudyInstanceUID={several}") == [1, 3]


def test_q_uidemptyitem_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(Invalid):
        catalogue.find("StudyInstanceUID=1.2,,1.3")


def test_q_repeat_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(Refused):
        catalogue.find("PatientID=P1&00100020=P1")


def test_q_multivalue_any_value_and_all_returned(tmp_path: Any) -> None:
    catalogue = Catalogue.opened(tmp_path)
    catalogue.keep(1, StudyID=["S1", "S2"])
    for value in ("S1", "S2"):
        (row,) = catalogue.rows(f"StudyID={value}")
        assert row["00200010"]["Value"] == ["S1", "S2"]
    catalogue.index.close()


@pytest.mark.parametrize("value", ["SR", "S*", "CT"])
def test_q_modalities_match_any_and_return_all(catalogue: Catalogue, value: str) -> None:
    rows = catalogue.rows(f"ModalitiesInStudy={value}&PatientID=P1")
    assert [row["00080061"]["Value"] for row in rows] == [["CT", "SR"]]


@pytest.mark.parametrize("number", ["2", "%2B2", "02", "2.0"])
def test_q_isds_by_value(catalogue: Catalogue, number: str) -> None:
    assert of_series(catalogue, f"SeriesNumber={number}") == [series_uid(1, 2)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("StudyDate=%22%22", [3]),
        ("StudyID=%22%22", [3]),
        ("ReferringPhysicianName=%22%22", [3]),
        ("StudyDescription=%22%22", []),
        ("OtherPatientIDsSequence.PatientID=%22%22", [2, 3]),
    ],
)
def test_q_emptymatch(catalogue: Catalogue, query: str, found: list[int]) -> None:
    assert catalogue.find(f"{query}&emptyvaluematching=true") == found
    if "Date" not in query:
        assert catalogue.find(query) == [], "without the parameter they are two quotation marks"


def test_q_multimatch(catalogue: Catalogue) -> None:
    assert catalogue.find("PatientSex=F%5CM&multiplevaluematching=true") == [1, 2, 3]
    assert catalogue.find("StudyDescription=Knie%5CHals&multiplevaluematching=true") == [2]
    assert catalogue.find("StudyDate=20260311%5C20260312-20260313&multiplevaluematching=true") == [1, 2]
    assert catalogue.find("PatientName=Li*%5CWang*&multiplevaluematching=true") == [1, 2]
    assert catalogue.find("InstanceNumber=5%5C7&multiplevaluematching=true", Level.INSTANCE) == [1]
    assert catalogue.find("PatientSex=F%5CM") == []


@pytest.mark.parametrize("name", ["wangxiaodong", "wxd", "小东", "xiao dong", "ＷＡＮＧ", "wang"])
def test_q_fuzzy_and_cs_pinyin(catalogue: Catalogue, name: str) -> None:
    assert 1 in catalogue.find(f"PatientName={quote(name)}&fuzzymatching=true")


def test_q_fuzzy_names_of_physicians(catalogue: Catalogue) -> None:
    for name in ("zhaomin", "赵", "zm", "min"):
        assert catalogue.find(f"ReferringPhysicianName={quote(name)}&fuzzymatching=true") == [1]
    assert catalogue.find("PatientName=zhao&fuzzymatching=true") == [], "of another attribute"


def test_q_cn_variant_full_width_only_fuzzily(catalogue: Catalogue) -> None:
    name = quote("Ｌｉ^Ｎａ")
    assert catalogue.find(f"PatientName={name}") == []
    assert catalogue.find(f"PatientName={name}&fuzzymatching=true") == [2]


def test_x_unknown_what_has_no_value_matches_when_switched_on(catalogue: Catalogue) -> None:
    switched = Catalogue(catalogue.index, catalogue.settings.model_copy(update={"match_unknown": True}))
    for query, strict, lenient in (
        ("StudyDate=20260311", [1], [1, 3]),
        ("StudyDate=20260312-20260313&StudyTime=2200-2300", [2], [2, 3]),
        ("StudyID=2", [2], [2, 3]),
        ("ReferringPhysicianName=Qian*", [2], [2, 3]),
    ):
        assert (catalogue.find(query), switched.find(query)) == (strict, lenient)


@pytest.mark.parametrize("charset", ["GB18030", "GBK", "ISO_IR 192", "\\ISO 2022 IR 58"])
def test_q_cn_one_query_finds_names_in_all_character_sets(tmp_path: Any, charset: str) -> None:
    catalogue = Catalogue.opened(tmp_path)
    given: dict[str, Any] = {"SpecificCharacterSet": charset.split("\\")}
    if "58" in charset:
        given |= {"StudyDescription": "Thorax", "SeriesDescription": "1", "ReferringPhysicianName": "Zhao^Min"}
        name = b"Wang^XiaoDong=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab"
    else:
        name = "Wang^XiaoDong=王^小东".encode({"ISO_IR 192": "utf-8"}.get(charset, "gb18030"))
    catalogue.keep(1, **given, PatientName=name)
    (row,) = catalogue.rows(f"PatientName={quote('王^小东')}")
    assert row["00100010"]["Value"] == [{"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}]
    catalogue.index.close()
