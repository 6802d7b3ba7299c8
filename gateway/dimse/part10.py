"""What has to be announced of a Part 10 file before it is sent (PS3.10 7.1; PS3.7 9.1.1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from storage.dicom import filemeta, syntax
from storage.dicom.identity import uid
from storage.errors import Fault, Invalid

# How much is read to find the end of the file meta information: usually far enough, and at most.
_USUAL_BYTES, _MAX_BYTES = 1 << 13, 1 << 20
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018


@dataclass(frozen=True, slots=True)
class Announcement:
    """The three values that sending needs."""

    sop_class: str
    sop_uid: str
    transfer_syntax: str


def read_file_meta(file: BinaryIO) -> Announcement:
    """Read a file from its beginning up to the first byte of the data set.

    SOP Class and Instance UID are those of the data set, which the receiver compares; the file meta information of
    files that somebody has edited often has others. Raises Invalid when it is no Part 10 file that says them.
    """
    start, meta = _read(file)
    if meta.preface is None:
        raise Invalid(Fault.NOT_DICOM, "not a DICOM file with file meta information")
    file.seek(meta.dataset_start)
    uids = dict(_uids(memoryview(start), meta))
    return Announcement(
        uid(uids.get(_SOP_CLASS, meta.sop_class), "SOP Class UID"),
        uid(uids.get(_SOP_INSTANCE, meta.sop_uid), "SOP Instance UID"),
        uid(meta.transfer_syntax, "Transfer Syntax UID"),
    )


def _read(file: BinaryIO) -> tuple[bytes, filemeta.FileMeta]:
    start = file.read(_USUAL_BYTES)
    try:
        return start, filemeta.read(memoryview(start))
    except Invalid:
        start += file.read(_MAX_BYTES - len(start))
        return start, filemeta.read(memoryview(start))


def _uids(view: memoryview, meta: filemeta.FileMeta) -> Iterator[tuple[int, str]]:
    """The UIDs that the data set names itself by, as far as they can be seen in its first bytes."""
    if syntax.is_deflated(meta.transfer_syntax):
        return
    position, end = meta.dataset_start, len(view)
    encoding = syntax.detect(view, position, end) or syntax.encoding_of(meta.transfer_syntax)
    try:
        while position < end:
            tag, _, start, length = encoding.header(view, position, end)
            position = start + length
            if tag > _SOP_INSTANCE or position > end:
                return
            if tag in (_SOP_CLASS, _SOP_INSTANCE):
                yield tag, str(view[start:position], "ascii", "replace")
    except Invalid:
        return  # the receiver will say what is wrong with the data set
