"""The table of searchable attributes against the dictionary and the tables of PS3.18."""

import pytest
from pydicom.datadict import dictionary_keyword, dictionary_VR

from storage.dicom.attributes import (
    BY_PATH,
    TABLE,
    Home,
    Returned,
    defaults,
    is_supported,
    level_of,
    path_of,
    tag_of,
    vr_of,
)
from storage.dicom.query import Level

# Tables 10.6.1-5 (matching) and 10.6.3-3 to 10.6.3-5 (always returned) of PS3.18, by level.
REQUIRED_KEYS = {
    Level.STUDY: "StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName PatientName PatientID "
    "StudyInstanceUID StudyID PatientBirthDate PatientSex StudyDescription IssuerOfPatientID SOPClassesInStudy",
    Level.SERIES: "Modality SeriesInstanceUID SeriesNumber PerformedProcedureStepStartDate InstitutionName StationName "
    "PerformedProcedureStepStartTime RequestAttributesSequence.ScheduledProcedureStepID SeriesDescription "
    "RequestAttributesSequence.RequestedProcedureID BodyPartExamined",
    Level.INSTANCE: "SOPClassUID SOPInstanceUID InstanceNumber",
}
ALWAYS_RETURNED = {
    Level.STUDY: "00080020 00080030 00080050 00080061 00080090 00100010 00100020 00100030 00100040 0020000D 00200010 "
    "00201206 00201208",
    Level.SERIES: "00080060 0020000E 00200011 00201209",
    Level.INSTANCE: "00080016 00080018 00200013",
}
RETURNED_WHEN_KNOWN = {
    Level.STUDY: "00080056 00080201",
    Level.SERIES: "0008103E 00400244 00400245 00400275",
    Level.INSTANCE: "00280008 00280010 00280011 00280100",
}


@pytest.mark.parametrize("attribute", TABLE, ids=lambda attribute: attribute.keyword)
def test_rows_agree_with_the_dictionary(attribute) -> None:  # type: ignore[no-untyped-def]
    tags = [int(tag, 16) for tag in attribute.path]
    assert ".".join(map(dictionary_keyword, tags)) == attribute.keyword
    assert dictionary_VR(tags[-1]) == attribute.vr
    assert bool(attribute.column) == (attribute.home is Home.COLUMN)
    assert len(BY_PATH) == len(TABLE)


@pytest.mark.parametrize("level", Level)
def test_required_keys_are_supported_at_their_level_and_below(level: Level) -> None:
    for name in REQUIRED_KEYS[level].split():
        path = path_of(name)
        assert path is not None
        assert [is_supported(path, at) for at in Level] == [at >= level for at in Level], name


@pytest.mark.parametrize("level", Level)
def test_results_carry_what_the_standard_lists(level: Level) -> None:
    def tags(returned: Returned) -> set[str]:
        return {each.path[0] for each in defaults(level) if each.returned is returned}

    assert tags(Returned.ALWAYS) == set(ALWAYS_RETURNED[level].split())
    assert tags(Returned.WHEN_KNOWN) == set(RETURNED_WHEN_KNOWN[level].split())


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("PatientName", ("00100010",)),
        ("00100010", ("00100010",)),
        ("0020000d", ("0020000D",)),
        ("0020000D", ("0020000D",)),
        ("00091001", ("00091001",)),
        ("RequestAttributesSequence.00401001", ("00400275", "00401001")),
        ("OtherPatientIDsSequence.PatientID", ("00101002", "00100020")),
        ("patientname", None),
        ("PatientName.", None),
        ("", None),
        ("0010001", None),
        ("٠٠١٠٠٠١٠", None),
        (".".join(["00400275"] * 9), None),
    ],
)
def test_names_and_paths(name: str, path: tuple[str, ...] | None) -> None:
    assert path_of(name) == path
    if "." not in name:
        assert tag_of(name) == (path and path[0])


def test_what_has_no_vr_and_no_support() -> None:
    assert vr_of(("00091001",)) is None and vr_of(("00101002", "00100020")) == "LO"
    assert is_supported(("00101002", "00100020"), Level.STUDY)
    assert not is_supported(("00101002", "00100022"), Level.INSTANCE)
    assert not is_supported(("00280010",), Level.INSTANCE)


def test_levels_of_attributes_outside_the_table() -> None:
    levels = {"00101010": Level.STUDY, "00080081": Level.SERIES, "00181030": Level.SERIES, "00200032": Level.INSTANCE}
    assert {tag: level_of(tag) for tag in levels} == levels
    assert level_of("00091001") is Level.INSTANCE
