"""Takes one study out of an archive: into a folder, a ZIP file or a medium with a DICOMDIR.

Names are numbers, never a patient's; instances leave as they were received.
"""

import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Protocol

import orjson

from gateway.archive import AS_STORED, ArchiveReader
from gateway.security.caller import Caller
from storage.dicom import dicomdir
from storage.dicom.dicomdir import Filed
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import JsonDataset
from storage.errors import Conflict, NotFound, StorageError, Unavailable

DIRECTORY = "DICOMDIR"
_READ_BYTES = 1 << 20
_IN_MEMORY_BYTES = 8 << 20
_EXPLICIT = "1.2.840.10008.1.2.1"
_JPEG = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 70))
_JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91))


@dataclass(frozen=True, slots=True)
class Exported:
    """What was taken out. `profile` names the application profile of PS3.11 that a medium conforms to, "" for none;
    `missing` counts the instances that could not be read.
    """

    instances: int
    series: int
    bytes: int
    profile: str = ""
    missing: int = 0


class Medium(Protocol):
    """Where an export goes; names are components of a path."""

    def write(self, name: Sequence[str], chunks: Iterable[bytes]) -> int:
        """Write one file, and say how long it is. Raises OSError."""


class Folder:
    """A folder that was empty, or was not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, name: Sequence[str], chunks: Iterable[bytes]) -> int:
        """See `Medium`."""
        path = self._path.joinpath(*name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            return _copy(chunks, file)


class Zip:
    """A ZIP file that is written from start to end, so that it can be a pipe too."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)

    def write(self, name: Sequence[str], chunks: Iterable[bytes]) -> int:
        """See `Medium`."""
        entry = zipfile.ZipInfo("/".join(name))
        entry.external_attr = 0o644 << 16
        with self._zip.open(entry, "w", force_zip64=True) as file:
            return _copy(chunks, file)

    def close(self) -> None:
        """Write the central directory; without it the file is no ZIP."""
        self._zip.close()


def _copy(chunks: Iterable[bytes], file: IO[bytes]) -> int:
    length = 0
    for chunk in chunks:
        length += file.write(chunk)
    return length


@contextmanager
def to_folder(path: Path) -> Iterator[Folder]:
    """An empty folder to export into; when the export fails it is left as it was, or not at all.

    Raises Conflict when it is not empty, OSError.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise Conflict(f"{path} is there already, and not an empty folder")
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield Folder(path)
    except BaseException:
        for entry in path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()
        raise


@contextmanager
def to_zip(path: Path) -> Iterator[Zip]:
    """A ZIP file that is there when the export is complete, not before.

    Raises Conflict when something is there, NotFound without its folder, OSError.
    """
    if path.exists():
        raise Conflict(f"{path} is there already")
    if not path.parent.is_dir():
        raise NotFound(f"there is no folder {path.parent} for the ZIP file")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            medium = Zip(file)
            try:
                yield medium
            finally:
                medium.close()  # whatever happened: it would try when it is forgotten, and the file be closed by then
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def export(
    archive: ArchiveReader,
    study_uid: str,
    medium: Medium,
    *,
    with_directory: bool = False,
    by: Caller,
    tell: Callable[[int], None] = lambda length: None,
) -> Exported:
    """Write every instance of the study; `with_directory` by the names of a DICOM medium, and its DICOMDIR at the end.

    `tell` hears the length of each instance. Raises NotFound, Forbidden, Unavailable, OSError.
    """
    scope = Scope(study_uid)
    datasets = _datasets(archive, scope, by) if with_directory else {}
    series: dict[str, int] = {}
    filed: list[Filed] = []
    syntaxes: set[str] = set()
    count = length = 0
    for part in archive.retrieve(scope, accept=[AS_STORED], by=by):
        identity = part.identity
        number = series.setdefault(identity.series_uid, len(series) + 1)
        count += 1
        name = _name(number, count, with_directory)
        written = medium.write(name, part.chunks())
        syntaxes.add(part.transfer_syntax)
        if with_directory:
            filed.append(Filed(name, identity, part.transfer_syntax, datasets.pop(_key(identity), {})))
        length += written
        tell(written)
    if with_directory:
        medium.write((DIRECTORY,), [dicomdir.encode(filed, f"2.25.{secrets.randbits(122)}")])
    return Exported(count, len(series), length, profile(syntaxes) if with_directory else "")


def rescue(
    archive: ArchiveReader,
    instances: Iterable[Scope],
    medium: Medium,
    *,
    by: Caller,
    missing: Callable[[Scope, StorageError], None],
    tell: Callable[[int], None] = lambda length: None,
) -> Exported:
    """Write what can be read of these instances; `missing` is told of each that cannot, and why.

    Each is read whole before it is written. Raises what the first was missing for when none can be read, Forbidden,
    Exhausted, OSError.
    """
    series: dict[str | None, int] = {}
    lost: list[StorageError] = []
    count = length = 0
    for scope in instances:
        try:
            file = _read_whole(archive, scope, by)
        except (NotFound, Unavailable) as error:
            lost.append(error)
            missing(scope, error)
            continue
        with file:
            count += 1
            name = _name(series.setdefault(scope.series_uid, len(series) + 1), count, False)
            written = medium.write(name, iter(partial(file.read, _READ_BYTES), b""))
        length += written
        tell(written)
    if lost and not count:
        raise lost[0]
    return Exported(count, len(series), length, missing=len(lost))


def _read_whole(archive: ArchiveReader, instance: Scope, by: Caller) -> IO[bytes]:
    """An instance in memory, or a nameless file when it is large."""
    file = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115
    try:
        for part in archive.retrieve(instance, accept=[AS_STORED], by=by):
            _copy(part.chunks(), file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _datasets(archive: ArchiveReader, scope: Scope, by: Caller) -> dict[tuple[str, str], JsonDataset]:
    """What the directory needs of each instance."""
    documents = archive.metadata(scope, by=by)
    return {_key(identity): dicomdir.kept(orjson.loads(document)) for identity, document in documents}


def _key(identity: Identity) -> tuple[str, str]:
    return identity.series_uid, identity.sop_uid


def _name(series: int, instance: int, on_medium: bool) -> tuple[str, ...]:
    """Eight characters and no extension where PS3.10 8.2 rules; instances are numbered through the whole study."""
    if on_medium:
        return "DICOM", "ST000001", f"SE{series:06}", f"IM{instance:06}"
    return f"SE{series:06}", f"IM{instance:06}.dcm"


def profile(syntaxes: set[str]) -> str:
    """The general purpose application profile for these transfer syntaxes (PS3.11 D, H), "" when none allows them."""
    if syntaxes <= {_EXPLICIT}:
        return "STD-GEN-CD"
    if syntaxes <= {_EXPLICIT, *_JPEG}:
        return "STD-GEN-DVD-JPEG"
    if syntaxes <= {_EXPLICIT, *_JPEG_2000}:
        return "STD-GEN-DVD-J2K"
    return ""
