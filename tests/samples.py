"""Test data: generated instances, and the files that pydicom and pydicom-data bring along."""

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pydicom
import pydicom.data
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "2.25.90817"
IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def ct(study: int = 1, series: int = 1, number: int = 1, *, size: int = 16, **changes: Any) -> Dataset:
    """A small CT instance with a Chinese name in GB18030; `changes` set (or, when None, delete) attributes."""
    ds = Dataset()
    ds.SpecificCharacterSet = "GB18030"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = f"{ROOT}.{study}.{series}.{number}"
    ds.StudyDate = "20260311"
    ds.StudyTime = "092653.5"
    ds.AccessionNumber = f"A{study}"
    ds.Modality = "CT"
    ds.ReferringPhysicianName = "Zhao^Min=赵^敏"
    ds.StudyDescription = "胸部CT平扫"
    ds.SeriesDescription = f"胸部 {series}"
    ds.PatientName = "Wang^XiaoDong=王^小东=wang^xiaodong"
    ds.PatientID = f"P{study}"
    ds.PatientBirthDate = "19760412"
    ds.PatientSex = "M"
    ds.StudyInstanceUID = f"{ROOT}.{study}"
    ds.SeriesInstanceUID = f"{ROOT}.{study}.{series}"
    ds.StudyID = str(study)
    ds.SeriesNumber = series
    ds.InstanceNumber = number
    ds.ImagePositionPatient = [-180, -180, round(1.25 * number, 2)]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [0.703125, 0.703125]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = size
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 1
    ds.RescaleIntercept, ds.RescaleSlope = "0", "1"
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.PixelData = bytes((study + series + number + i) % 251 for i in range(size * size * 2))
    ds["PixelData"].VR = "OW"
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def part10(ds: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set as a Part 10 file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(transfer_syntax)
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", "")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "")
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ds, enforce_file_format=True)
    return stream.getvalue()


def dataset_bytes(file: bytes) -> bytes:
    """What follows the file meta group of a Part 10 file."""
    assert file[128:132] == b"DICM"
    return file[144 + int.from_bytes(file[140:144], "little") :]


@cache
def corpus() -> tuple[Path, ...]:
    """Every DICOM file of pydicom's test files and pydicom-data, valid or not, in a stable order."""
    import data_store

    roots = [Path(pydicom.data.__file__).parent, Path(data_store.__file__).parent]
    return tuple(sorted(path for root in roots for path in root.rglob("*") if path.is_file() and _looks_dicom(path)))


def _looks_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:132] == b"DICM" or path.suffix == ".dcm"


def valid_files() -> Iterator[tuple[Path, bytes]]:
    """The files of the corpus that are whole Part 10 files of one composite instance with its UIDs."""
    for path in corpus():
        data = path.read_bytes()
        try:
            ds = pydicom.dcmread(io.BytesIO(data))
            uids = [
                str(ds[k].value) for k in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
            ]
        except Exception:  # what pydicom itself cannot read is not valid
            continue
        if all(uids) and "TransferSyntaxUID" in ds.file_meta and uids[3] != "1.2.840.10008.1.3.10":
            yield path, data
