"""Finds the DICOM files below the paths that were given, telling each from whatever else lies there (PS3.10 7.1)."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.dimse.part10 import read_file_meta
from storage.errors import Invalid

DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
DICOM_SUFFIXES = (".dcm", ".dicom")
_PREAMBLE_BYTES = 128


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it was when it was found."""

    path: Path
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file of one instance, with what its file meta information says; empty where it says nothing."""

    found: Found
    sop_class: str
    sop_uid: str
    transfer_syntax: str

    @property
    def path(self) -> Path:
        return self.found.path

    @property
    def size(self) -> int:
        return self.found.size


class NotForStorage(Exception):
    """The file is no DICOM instance to be stored; the message says what it is instead."""


def find(paths: Iterable[Path]) -> Iterator[Found]:
    """Every regular file among and below `paths`, folder by folder in order of name; links to folders are not followed.

    A path that does not exist, or a folder that cannot be read, is an OSError.
    """
    for path in paths:
        if path.is_dir():
            yield from _below(path)
        else:
            yield from _regular(path)


def _below(folder: Path) -> Iterator[Found]:
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted(names):
            yield from _regular(Path(parent, name))


def _refuse(error: OSError) -> None:
    raise error


def _regular(path: Path) -> Iterator[Found]:
    about = path.stat()
    if stat.S_ISREG(about.st_mode):
        yield Found(path, about.st_size, about.st_mtime_ns)


def recognise(found: Found) -> DicomFile:
    """What instance the file holds. Raises NotForStorage, or OSError when it cannot be read.

    A file that claims to be DICOM, by its prefix or its name, but does not say what it holds is for the destination to
    judge: it may not be passed over in silence.
    """
    with found.path.open("rb") as file:
        try:
            meta = read_file_meta(file)
        except Invalid:
            file.seek(_PREAMBLE_BYTES)
            if file.read(4) == b"DICM" or found.path.suffix.lower() in DICOM_SUFFIXES:
                return DicomFile(found, "", "", "")
            raise NotForStorage("not a DICOM file") from None
    if meta.sop_class == DICOMDIR_CLASS:
        raise NotForStorage("a DICOMDIR, which lists instances and is none")
    return DicomFile(found, meta.sop_class, meta.sop_uid, meta.transfer_syntax)
