"""What the file meta information of a Part 10 file says of the data set behind it (PS3.10 7.1)."""

from dataclasses import dataclass
from typing import BinaryIO

from storage.dicom import filemeta
from storage.dicom.identity import uid
from storage.errors import Fault, Invalid

# How much is read to find the end of the file meta information: usually far enough, and at most.
_USUAL_BYTES, _MAX_BYTES = 1 << 13, 1 << 20


@dataclass(frozen=True, slots=True)
class FileMeta:
    """The three values that sending needs."""

    sop_class: str
    sop_uid: str
    transfer_syntax: str


def read_file_meta(file: BinaryIO) -> FileMeta:
    """Read a file from its beginning up to the first byte of the data set.

    Raises Invalid when it is no Part 10 file that says its SOP Class, SOP Instance and Transfer Syntax UID.
    """
    meta = _read(file)
    if meta.preface is None:
        raise Invalid(Fault.NOT_DICOM, "not a DICOM file with file meta information")
    file.seek(meta.dataset_start)
    return FileMeta(
        uid(meta.sop_class, "Media Storage SOP Class UID"),
        uid(meta.sop_uid, "Media Storage SOP Instance UID"),
        uid(meta.transfer_syntax, "Transfer Syntax UID"),
    )


def _read(file: BinaryIO) -> filemeta.FileMeta:
    start = file.read(_USUAL_BYTES)
    try:
        return filemeta.read(memoryview(start))
    except Invalid:
        return filemeta.read(memoryview(start + file.read(_MAX_BYTES - len(start))))
