"""What the rows of a search carry (PS3.18 10.6.3.3)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from storage.dicom.attributes import TABLE, Returned
from storage.dicom.instance import JsonDataset
from storage.dicom.query import Level, Query
from storage.index.sqlite import SqliteIndex
from tests import samples
from tests.contract.index_samples import ask, instance, json_instance, record

STUDY, SERIES = f"{samples.ROOT}.1", f"{samples.ROOT}.1.1"


def always(level: Level) -> set[str]:
    return {row.path[0] for row in TABLE if row.level is level and row.returned is Returned.ALWAYS}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    index = SqliteIndex(tmp_path / "index.sqlite")
    yield index
    index.close()


@pytest.fixture
def row(index: SqliteIndex) -> Any:
    request = Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "S1", "R1"
    request.RequestedProcedureDescription = "not for results"
    made = instance(StudyID=None, RequestAttributesSequence=[request], EncapsulatedDocument=b"x" * 5000)
    index.add(record(made))

    def search(level: Level, keys: dict[str, str] | None = None, **more: Any) -> JsonDataset:
        [found] = index.search(ask(level, keys, **more)).rows
        assert list(found) == sorted(found)
        assert not [tag for tag, element in found.items() if "BulkDataURI" in element]
        return found

    return search


def test_a_study_has_its_attributes_and_those_without_value(row: Any) -> None:
    found = row(Level.STUDY)
    assert set(found) == always(Level.STUDY) | {"00080056"}
    assert found["00200010"] == {"vr": "SH"}
    assert found["00080061"] == {"vr": "CS", "Value": ["CT"]}
    assert found["00201206"] == found["00201208"] == {"vr": "IS", "Value": [1]}
    assert found["00080056"] == {"vr": "CS", "Value": ["ONLINE"]}
    assert found["00100010"]["Value"][0]["Ideographic"] == "王^小东"
    assert found["00080030"]["Value"] == ["092653.5"]  # as it was sent


def test_series_have_the_study_too_unless_it_is_named(row: Any) -> None:
    own = always(Level.SERIES) | {"00080056", "0008103E", "00400275"}
    assert set(row(Level.SERIES)) == own | always(Level.STUDY)
    assert set(row(Level.SERIES, study_uid=STUDY)) == own | {"0020000D"}
    item = {"00400009": {"vr": "SH", "Value": ["S1"]}, "00401001": {"vr": "SH", "Value": ["R1"]}}
    assert row(Level.SERIES)["00400275"] == {"vr": "SQ", "Value": [item]}


def test_instances_have_the_levels_above_that_are_not_named(row: Any) -> None:
    own = always(Level.INSTANCE) | {"00080056", "00280010", "00280011", "00280100"}
    series = always(Level.SERIES) | {"0008103E", "00400275"}
    assert set(row(Level.INSTANCE)) == own | series | always(Level.STUDY)
    assert set(row(Level.INSTANCE, study_uid=STUDY)) == own | series | {"0020000D"}
    named = row(Level.INSTANCE, study_uid=STUDY, series_uid=SERIES)
    assert set(named) == own | {"0020000D", "0020000E"}


def test_keys_are_returned_with_all_their_values_or_none(row: Any) -> None:
    found = row(Level.STUDY, {"StudyDescription": "", "IssuerOfPatientID": "*", "ModalitiesInStudy": "C?"})
    assert found["00081030"]["Value"] == ["胸部CT平扫"]
    assert found["00100021"] == {"vr": "LO"}
    assert row(Level.STUDY, {"SOPClassesInStudy": samples.CT})["00080062"]["Value"] == [samples.CT]


def test_included_attributes_of_the_level_and_above_are_returned(row: Any) -> None:
    include = frozenset({"00081030", "00080060", "00200032", "00100030", "00104000", "00420011"})
    assert set(row(Level.STUDY, include=include)) == set(row(Level.STUDY)) | {"00081030"}
    assert {"00081030", "00080060"} <= set(row(Level.SERIES, study_uid=STUDY, include=include))
    found = row(Level.INSTANCE, study_uid=STUDY, series_uid=SERIES, include=include)
    assert found["00200032"]["Value"] == [-180, -180, 1.25]
    assert {"00081030", "00080060", "00100030"} <= set(found)
    assert "00420011" not in found and "00104000" not in found


def test_a_path_into_a_sequence_is_returned_with_nothing_beside(row: Any) -> None:
    found = row(Level.SERIES, study_uid=STUDY, include=frozenset({"00400275.00321060"}))
    assert set(found["00400275"]["Value"][0]) == {"00400009", "00401001", "00321060"}
    whole = row(Level.SERIES, study_uid=STUDY, include=frozenset({"00400275"}))
    assert set(whole["00400275"]["Value"][0]) == {"00400009", "00401001", "00321060"}


def test_all_is_a_superset_of_the_default_and_stays_in_its_level(row: Any) -> None:
    for level in Level:
        assert set(row(level)) < set(row(level, include_all=True))
    study = row(Level.STUDY, include_all=True)
    assert {"00081030", "00080062"} <= set(study) and not {"00080060", "00080018"} & set(study)
    found = row(Level.INSTANCE, study_uid=STUDY, series_uid=SERIES, include_all=True)
    assert {"00080008", "00281050"} <= set(found) and not {"00100010", "0008103E", "7FE00010"} & set(found)


def test_bulk_values_inside_items_are_left_out(index: SqliteIndex) -> None:
    item = {"00080100": {"vr": "SH", "Value": ["C"]}, "00091010": {"vr": "OB", "BulkDataURI": "bulkdata/x"}}
    dataset = {tag: {"vr": "UI", "Value": ["1.2"]} for tag in ("0020000D", "0020000E", "00080018", "00080016")}
    index.add(record(json_instance(dataset | {"00081032": {"vr": "SQ", "Value": [item]}})))
    [found] = index.search(Query(Level.STUDY, include=frozenset({"00081032"}))).rows
    assert found["00081032"] == {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["C"]}}]}


def test_the_time_zone_is_each_levels_own(index: SqliteIndex) -> None:
    index.add(record(instance(1, 1, 1, TimezoneOffsetFromUTC="+0800")))
    index.add(record(instance(1, 1, 2)))
    [study] = index.search(ask(Level.STUDY)).rows
    assert study["00080201"]["Value"] == ["+0800"]
    assert ["00080201" in found for found in index.search(ask(Level.INSTANCE)).rows] == [True, False]
