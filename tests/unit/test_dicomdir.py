"""The DICOMDIR of a medium, read by pydicom and, where it is installed, by dcmtk."""

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest
from pydicom.dataset import Dataset

from storage.dicom import dicomdir
from storage.dicom.dicomdir import Filed
from storage.dicom.parse import parse
from tests import samples

UID = "2.25.1"
SR = "1.2.840.10008.5.1.4.1.1.88.11"


def filed(ds: Dataset, *name: str) -> tuple[Filed, bytes]:
    data = samples.part10(ds)
    instance = parse(data)
    dataset = dicomdir.kept(orjson.loads(instance.metadata))
    return Filed(name, instance.identity, instance.transfer_syntax, dataset), data


def study(folder: Path) -> list[Filed]:
    """A study of two series and a report, its files and its DICOMDIR in `folder`."""
    datasets = [samples.ct(1, series, number) for series in (1, 2) for number in (1, 2)]
    datasets.append(report())
    found = []
    for number, ds in enumerate(datasets, 1):
        name = ("DICOM", "ST000001", f"SE{ds.SeriesNumber:06}", f"IM{number:06}")
        one, data = filed(ds, *name)
        path = folder.joinpath(*name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        found.append(one)
    (folder / "DICOMDIR").write_bytes(dicomdir.encode(found, UID))
    return found


def report() -> Dataset:
    ds = samples.ct(1, 3, 1, SOPClassUID=SR, Modality="SR", PixelData=None, ContentDate="20260311", ContentTime="1000")
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "18748-4", "LN", "影像报告"
    ds.ConceptNameCodeSequence = [code]
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    return ds


def walked(records: dict[int, Dataset], start: int) -> Iterator[Dataset]:
    """The records in the order in which their offsets lead (PS3.3 F.2.2.2)."""
    while start:
        record = records.pop(start)
        yield record
        yield from walked(records, record.OffsetOfReferencedLowerLevelDirectoryEntity)
        start = record.OffsetOfTheNextDirectoryRecord


def test_offsets_lead_to_every_instance(tmp_path: Path) -> None:
    found = study(tmp_path)
    directory = pydicom.dcmread(tmp_path / "DICOMDIR")
    records = {record.seq_item_tell: record for record in directory.DirectoryRecordSequence}
    first = directory.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity
    assert directory.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity == first
    reached = list(walked(records, first))
    assert records == {}
    assert reached[0].PatientName == "Wang^XiaoDong=王^小东=wang^xiaodong"
    assert [record.SeriesNumber for record in reached if "SeriesNumber" in record] == [1, 2, 3]
    files = [record for record in reached if "ReferencedFileID" in record]
    assert [record.ReferencedSOPInstanceUIDInFile for record in files] == [one.identity.sop_uid for one in found]
    for record in files:
        stored = pydicom.dcmread(tmp_path.joinpath(*record.ReferencedFileID))
        assert stored.SOPInstanceUID == record.ReferencedSOPInstanceUIDInFile
        assert stored.file_meta.TransferSyntaxUID == record.ReferencedTransferSyntaxUIDInFile


def test_records_have_what_their_types_need(tmp_path: Path) -> None:
    study(tmp_path)
    records = pydicom.dcmread(tmp_path / "DICOMDIR").DirectoryRecordSequence
    kinds = [record.DirectoryRecordType for record in records]
    assert kinds == ["PATIENT", "STUDY", *["SERIES", "IMAGE", "IMAGE"] * 2, "SERIES", "SR DOCUMENT"]
    assert records[1].StudyDescription == "胸部CT平扫"
    assert records[-1].ConceptNameCodeSequence[0].CodeMeaning == "影像报告"
    assert (records[-1].CompletionFlag, records[-1].ReferencedSOPClassUIDInFile) == ("COMPLETE", SR)


def test_what_a_record_needs_and_an_instance_lacks_is_made_up() -> None:
    missing: dict[str, Any] = dict.fromkeys(("StudyTime", "StudyID", "PatientID", "InstanceNumber", "SeriesNumber"))
    one, _ = filed(samples.ct(StudyDate="", ContentDate="20250102", **missing), "IM000001")
    records = pydicom.dcmread(io.BytesIO(dicomdir.encode([one], UID))).DirectoryRecordSequence
    patient, found, series, image = records
    assert patient.PatientID == "UNKNOWN"
    assert (found.StudyDate, found.StudyTime, found.StudyID) == ("20250102", "000000", "1")
    assert (series.SeriesNumber, image.InstanceNumber) == (1, 1)


@pytest.mark.parametrize(
    ("sop_class", "kind"),
    [
        (samples.CT, "IMAGE"),
        ("1.2.840.10008.5.1.4.1.1.66", "RAW DATA"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "IMAGE"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "KEY OBJECT DOC"),
        ("1.2.840.10008.5.1.4.1.1.88.34", "SR DOCUMENT"),
        ("1.2.840.10008.5.1.4.1.1.9.1.1", "WAVEFORM"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "ENCAP DOC"),
        ("1.2.840.10008.5.1.4.1.1.481.1", "IMAGE"),
        ("1.2.840.10008.5.1.4.1.1.481.5", "RT PLAN"),
    ],
)
def test_each_class_has_its_record_type(sop_class: str, kind: str) -> None:
    assert dicomdir.record_type(sop_class) == kind


def test_no_instances_make_no_directory() -> None:
    with pytest.raises(ValueError, match="needs an instance"):
        dicomdir.encode([], UID)


@pytest.mark.skipif(shutil.which("dcmdump") is None, reason="dcmtk is not installed")
def test_dcmtk_reads_the_directory(tmp_path: Path) -> None:
    study(tmp_path)
    dumped = subprocess.run(["dcmdump", "DICOMDIR"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (dumped.returncode, dumped.stderr) == (0, "")
    assert dumped.stdout.count("[DICOM\\ST000001\\SE000001\\IM00000") == 2
    # dcmmkdir reads the directory, follows its offsets and compares each file with its record.
    again = subprocess.run(
        ["dcmmkdir", "+A", "+r", "+D", "DICOMDIR", "+id", ".", "DICOM"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",  # it cites names in the character set of the files
        timeout=60,
    )
    assert again.returncode == 0, again.stderr
    assert "E:" not in again.stderr
    assert len(pydicom.dcmread(tmp_path / "DICOMDIR").DirectoryRecordSequence) == 10
