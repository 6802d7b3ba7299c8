"""What a search result carries at each level, in which order results come, and in which pages (PS3.18 10.6.3)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from storage.dicom.attributes import TABLE, is_supported, level_of
from storage.dicom.identity import Scope
from storage.dicom.level import Level
from storage.dicom.parse import parse
from tests import samples
from tests.contract.index_samples import record
from tests.web.catalogue import Catalogue, series_uid, study_uid

STUDY_TAGS = ["00080020", "00080030", "00080050", "00080061", "00080090", "00100010", "00100020"]
STUDY_TAGS += ["00100030", "00100040", "0020000D", "00200010", "00201206", "00201208"]
SERIES_TAGS = ["00080060", "0020000E", "00200011", "00201209"]
INSTANCE_TAGS = ["00080016", "00080018", "00200013"]
COUNT_OF_SERIES, COUNT_OF_INSTANCES, COUNT_IN_SERIES = "00201206", "00201208", "00201209"
CREATOR, PRIVATE = "00230010", "00231001"


def requested() -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = "S1", "R1"
    item.ScheduledProcedureStepDescription = "not asked for"
    return item


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """One study with all that is known, one with nothing."""
    made = Catalogue.opened(tmp_path_factory.mktemp("catalogue"))
    full = samples.ct(
        1,
        NumberOfFrames="1",
        TimezoneOffsetFromUTC="+0800",
        PerformedProcedureStepStartDate="20260311",
        PerformedProcedureStepStartTime="0930",
        RequestAttributesSequence=[requested()],
        PatientComments="a comment",
    )
    full.private_block(0x0023, "Acme", create=True).add_new(1, "LO", "of Acme")
    made.index.add(record(parse(samples.part10(full))))
    made.keep(1, 2)
    made.keep(
        2,
        StudyDate=None,
        StudyTime=None,
        AccessionNumber=None,
        ReferringPhysicianName=None,
        PatientName=None,
        PatientID=None,
        PatientBirthDate=None,
        PatientSex=None,
        StudyID=None,
        Modality=None,
        SeriesNumber=None,
        InstanceNumber=None,
        SeriesDescription=None,
    )
    yield made
    made.index.close()


@pytest.mark.parametrize(
    ("level", "tags"),
    [
        (Level.STUDY, STUDY_TAGS),
        (Level.SERIES, [*STUDY_TAGS, *SERIES_TAGS]),
        (Level.INSTANCE, [*STUDY_TAGS, *SERIES_TAGS, *INSTANCE_TAGS]),
    ],
)
def test_q_req_study_q_req_series_q_req_inst_q_relational_attrs(
    catalogue: Catalogue, level: Level, tags: list[str]
) -> None:
    rows = catalogue.rows("", level)
    for row in rows:
        assert set(tags) <= set(row)
        assert list(row) == sorted(row)
    empty = catalogue.rows(f"StudyInstanceUID={study_uid(2)}", level)[0]
    assert empty["00100010"] == {"vr": "PN"}
    assert empty["00080020"] == {"vr": "DA"}
    assert "00080201" not in empty


def test_q_req_series_when_known(catalogue: Catalogue) -> None:
    (row,) = catalogue.rows(f"SeriesInstanceUID={series_uid(1)}", Level.SERIES)
    assert row["0008103E"]["Value"] == ["胸部 1"]
    assert row["00080201"]["Value"] == ["+0800"]
    assert row["00400244"]["Value"] == ["20260311"]
    assert row["00400245"]["Value"] == ["0930"]
    (item,) = row["00400275"]["Value"]
    assert {tag: element["Value"] for tag, element in item.items()} == {"00400009": ["S1"], "00401001": ["R1"]}


def test_q_req_inst_when_known(catalogue: Catalogue) -> None:
    (row,) = catalogue.rows("", Level.INSTANCE, study_uid=study_uid(1), series_uid=series_uid(1))
    assert {tag: row[tag]["Value"] for tag in ("00280008", "00280010", "00280011", "00280100", "00080201")} == {
        "00280008": [1],
        "00280010": [16],
        "00280011": [16],
        "00280100": [16],
        "00080201": ["+0800"],
    }


def test_q_avail_is_never_empty(catalogue: Catalogue) -> None:
    for level in Level:
        assert all(row["00080056"] == {"vr": "CS", "Value": ["ONLINE"]} for row in catalogue.rows("", level))


def test_q_scs_text_is_unicode(catalogue: Catalogue) -> None:
    (row,) = catalogue.rows("StudyDescription=%E8%83%B8%E9%83%A8*&PatientID=P1")
    assert row["00081030"]["Value"] == ["胸部CT平扫"]


def test_q_counts_q_modalities_q_read_after_write(tmp_path: Path) -> None:
    catalogue = Catalogue.opened(tmp_path)

    def counts() -> list[list[int]]:
        rows = catalogue.rows("", Level.SERIES)
        return [
            [row[tag]["Value"][0] for tag in (COUNT_OF_SERIES, COUNT_OF_INSTANCES, COUNT_IN_SERIES)] for row in rows
        ]

    catalogue.keep(1)
    assert counts() == [[1, 1, 1]]
    catalogue.keep(1, 1, 2)
    catalogue.keep(1, 2, 1, Modality="MR")
    assert counts() == [[2, 3, 2], [2, 3, 1]]
    assert catalogue.rows("")[0]["00080061"]["Value"] == ["CT", "MR"]
    catalogue.index.remove(Scope(study_uid(1), series_uid(1, 2)))
    assert counts() == [[1, 2, 2]]
    assert catalogue.rows("")[0]["00080061"]["Value"] == ["CT"]
    catalogue.index.close()


@pytest.mark.parametrize(
    "query",
    [
        "includefield=StudyDescription&includefield=PatientComments",
        "includefield=00081030,00104000",
        "includefield=00081030%2C00104000",
        "includefield=studydescription,StudyDescription,PatientComments,NoSuchKeyword",
    ],
)
def test_q_includefield_and_q_include_unknown(catalogue: Catalogue, query: str) -> None:
    (row,) = catalogue.rows(f"{query}&PatientID=P1")
    assert row["00081030"]["Value"] == ["胸部CT平扫"]
    assert row["00104000"]["Value"] == ["a comment"]
    assert "00104000" not in catalogue.rows("PatientID=P1")[0]


def test_q_includefield_by_dotted_path(catalogue: Catalogue) -> None:
    uid = f"SeriesInstanceUID={series_uid(1)}"
    (row,) = catalogue.rows(f"{uid}&includefield=RequestAttributesSequence.00400007", Level.SERIES)
    (item,) = row["00400275"]["Value"]
    assert item["00400007"]["Value"] == ["not asked for"]


@pytest.mark.parametrize("level", Level)
def test_q_include_all_is_more_than_the_default(catalogue: Catalogue, level: Level) -> None:
    uid = f"StudyInstanceUID={study_uid(1)}"
    for usual, all_there_is in zip(
        catalogue.rows(uid, level), catalogue.rows(f"{uid}&includefield=all", level), strict=True
    ):
        assert set(usual) < set(all_there_is)
        assert {"00081030", "00104000"} <= set(all_there_is) or "00104000" not in usual
        assert all(level_of(tag) <= level for tag in all_there_is if tag != "00080201")
        assert not any(tag.startswith("0002") or tag == "7FE00010" for tag in all_there_is), "Q-NOMETA"


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES])
def test_q_include_level_lower_ones_are_left_out(catalogue: Catalogue, level: Level) -> None:
    lower = ["00080018", "00200013", "00280010", *(["00080060"] if level is Level.STUDY else [])]
    for row in catalogue.rows(f"includefield={','.join(lower)}", level):
        assert not set(lower) & set(row)


def test_q_include_private_by_tag_with_its_creator(catalogue: Catalogue) -> None:
    uids = {"study_uid": study_uid(1), "series_uid": series_uid(1)}
    (row,) = catalogue.rows(f"includefield={CREATOR},{PRIVATE}", Level.INSTANCE, **uids)
    assert (row[CREATOR]["Value"], row[PRIVATE]["Value"]) == (["Acme"], ["of Acme"])


def test_q_matchreturn_each_supported_key(catalogue: Catalogue) -> None:
    uids = {"study_uid": study_uid(2), "series_uid": series_uid(2)}
    for attribute in TABLE:
        if len(attribute.path) == 1 and is_supported(attribute.path, Level.INSTANCE):
            (row,) = catalogue.rows(f"{attribute.path[0]}=", Level.INSTANCE, **uids)
            assert row[attribute.path[0]]["vr"] == attribute.vr
    assert len(catalogue.rows("TimezoneOffsetFromUTC=")) == 2


def test_q_page_q_idempotent_slices_of_one_order(tmp_path: Path) -> None:
    catalogue = Catalogue.opened(tmp_path)
    for study in range(1, 24):
        catalogue.keep(study, StudyDate="20260311" if study % 3 else "")
    for level in Level:
        whole = catalogue.rows("", level)
        assert catalogue.rows("", level) == whole
        for size in (1, 5, 7, 23):
            pages = [catalogue.rows(f"limit={size}&offset={at}", level) for at in range(0, 23 + size, size)]
            assert [row for page in pages for row in page] == whole
    assert catalogue.rows("limit=0") == []
    catalogue.index.close()


def test_q_conflict_one_study_with_one_value(tmp_path: Path) -> None:
    """Whatever the order in which instances with different names come."""
    found = []
    for order in ((1, 2, 3), (3, 1, 2), (2, 3, 1)):
        catalogue = Catalogue.opened(tmp_path / str(order))
        for number in order:
            catalogue.keep(1, 1, number, PatientName=f"Name^{number}")
        found.append(catalogue.rows(""))
        catalogue.index.close()
    assert [len(rows) for rows in found] == [1, 1, 1]
    assert len({str(rows[0]["00100010"]) for rows in found}) == 1
