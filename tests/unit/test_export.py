"""Exports: whole, numbered instead of named, complete or not there, and by somebody who may."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest

from gateway.archive import Part
from gateway.archive.guarded import GuardedArchive
from gateway.security.audit import Outcome
from gateway.security.caller import Caller, Right
from gateway.security.policy import Forbidden, RightsPolicy
from gateway.upkeep.export import Exported, Zip, export, profile, rescue, to_folder, to_zip
from storage.dicom.identity import Identity, Scope
from storage.dicom.parse import parse
from storage.errors import Conflict, NotFound, StorageError, Unavailable
from tests import samples
from tests.unit.fakes import KeptAudit

BY = Caller("operator", "", "command", frozenset({Right.READ}))
STUDY = f"{samples.ROOT}.1"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"


@dataclass
class ShelfPart:
    identity: Identity
    transfer_syntax: str
    data: bytes
    place: str = ""

    @property
    def length(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[bytes]:
        yield self.data[:100]
        if self.data.endswith(b"broken"):
            raise Unavailable("it is cut short")
        yield self.data[100:]

    def close(self) -> None: ...


class Shelf:
    """As much of an archive as an export reads."""

    def __init__(self, *files: bytes) -> None:
        self.files = [(parse(data), data) for data in files]

    def retrieve(self, scope: Scope, *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        found = [(i, data) for i, data in self.files if i.identity.study_uid == scope.study_uid]
        if scope.sop_uid is not None:
            found = [(i, data) for i, data in found if i.identity.sop_uid == scope.sop_uid]
        if not found:
            raise NotFound("there is no such study")
        return (ShelfPart(instance.identity, instance.transfer_syntax, data) for instance, data in found)

    def metadata(self, scope: Scope, *, by: Caller) -> Iterator[tuple[Identity, bytes]]:
        return ((instance.identity, instance.metadata) for instance, _ in self.files)


FILES = [samples.part10(samples.ct(1, series, number)) for series in (1, 2) for number in (1, 2)]


@pytest.fixture
def shelf() -> Any:
    return Shelf(*FILES)


def test_a_folder_has_every_instance_as_received_and_no_name_of_a_patient(shelf: Any, tmp_path: Path) -> None:
    told: list[int] = []
    with to_folder(tmp_path / "out") as medium:
        done = export(shelf, STUDY, medium, by=BY, tell=told.append)
    assert done == Exported(4, 2, sum(map(len, FILES)), "")
    assert told == [len(data) for data in FILES]
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("*.dcm"))
    assert names == [f"SE00000{s}/IM00000{n}.dcm" for s, n in ((1, 1), (1, 2), (2, 3), (2, 4))]
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == FILES


def test_a_zip_has_the_same(shelf: Any, tmp_path: Path) -> None:
    with to_zip(tmp_path / "out.zip") as medium:
        export(shelf, STUDY, medium, by=BY)
    with zipfile.ZipFile(tmp_path / "out.zip") as found:
        assert found.testzip() is None
        assert [found.read(name) for name in found.namelist()] == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["out.zip"]


def test_a_zip_can_go_down_a_pipe(shelf: Any) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError("a pipe has no position")

        def seek(self, *where: int) -> int:
            raise OSError("a pipe cannot be rewound")

    pipe = Pipe()
    medium = Zip(pipe)
    export(shelf, STUDY, medium, by=BY)
    medium.close()
    with zipfile.ZipFile(io.BytesIO(pipe.getvalue())) as found:
        assert [found.read(name) for name in found.namelist()] == FILES


def test_a_medium_has_a_directory_of_what_is_on_it(shelf: Any, tmp_path: Path) -> None:
    with to_folder(tmp_path) as medium:
        done = export(shelf, STUDY, medium, with_directory=True, by=BY)
    assert done.profile == "STD-GEN-CD"
    directory = pydicom.dcmread(tmp_path / "DICOMDIR")
    files = [record.ReferencedFileID for record in directory.DirectoryRecordSequence if "ReferencedFileID" in record]
    assert [tmp_path.joinpath(*name).read_bytes() for name in files] == FILES
    assert all(len(part) <= 8 and part == part.upper() for name in files for part in name)


def test_what_is_there_is_not_touched(shelf: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(Conflict), to_folder(tmp_path):
        raise AssertionError("not reached")
    with pytest.raises(Conflict), to_zip(tmp_path / "mine"):
        raise AssertionError("not reached")
    assert (tmp_path / "mine").read_text() == "kept"


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    shelf: Any = Shelf(*FILES)
    shelf.files.append((parse(FILES[0]), FILES[0] + b"broken"))
    (tmp_path / "mine").mkdir()
    for target in (tmp_path / "mine", tmp_path / "mine" / "new" / "out"):
        with pytest.raises(Unavailable), to_folder(target) as folder:
            export(shelf, STUDY, folder, by=BY)
    with pytest.raises(Unavailable), to_zip(tmp_path / "out.zip") as archive:
        export(shelf, STUDY, archive, by=BY)
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def scopes(shelf: Any) -> list[Scope]:
    identities = [instance.identity for instance, _ in shelf.files]
    return [Scope(one.study_uid, one.series_uid, one.sop_uid) for one in identities]


def test_what_can_be_read_is_rescued_and_the_rest_is_told(tmp_path: Path) -> None:
    shelf: Any = Shelf(*FILES)
    shelf.files[0] = (shelf.files[0][0], FILES[0] + b"broken")
    told: list[tuple[Scope, str]] = []

    def missing(instance: Scope, error: StorageError) -> None:
        told.append((instance, str(error)))

    with to_zip(tmp_path / "out.zip") as medium:
        done = rescue(shelf, scopes(shelf), medium, by=BY, missing=missing)
    assert done == Exported(3, 2, sum(map(len, FILES[1:])), missing=1)
    assert told == [(scopes(shelf)[0], "it is cut short")]
    with zipfile.ZipFile(tmp_path / "out.zip") as found:
        assert found.testzip() is None
        assert [found.read(name) for name in found.namelist()] == FILES[1:]


def test_where_nothing_can_be_read_nothing_is_left(tmp_path: Path) -> None:
    shelf: Any = Shelf(*FILES)
    shelf.files = [(instance, data + b"broken") for instance, data in shelf.files]
    with pytest.raises(Unavailable), to_folder(tmp_path / "out") as medium:
        rescue(shelf, scopes(shelf), medium, by=BY, missing=lambda instance, error: None)
    assert list(tmp_path.iterdir()) == []


def test_it_is_audited_with_who_took_what(shelf: Any, tmp_path: Path) -> None:
    audit = KeptAudit()
    guarded = GuardedArchive(shelf, RightsPolicy(), audit)
    with to_folder(tmp_path / "one") as medium:
        export(guarded, STUDY, medium, by=BY)
    [event] = audit.events
    assert (event.act, event.outcome, event.identity, event.study_uid) == (
        "retrieve",
        Outcome.SUCCESS,
        "operator",
        STUDY,
    )
    with pytest.raises(Forbidden), to_folder(tmp_path / "two") as medium:
        export(guarded, STUDY, medium, by=Caller("nobody", "", "command"))
    with pytest.raises(NotFound), to_folder(tmp_path / "three") as medium:
        export(guarded, "1.2.3", medium, by=BY)


@pytest.mark.parametrize(
    ("syntaxes", "expected"),
    [
        ({"1.2.840.10008.1.2.1"}, "STD-GEN-CD"),
        ({"1.2.840.10008.1.2.1", JPEG_LOSSLESS}, "STD-GEN-DVD-JPEG"),
        ({"1.2.840.10008.1.2.4.90"}, "STD-GEN-DVD-J2K"),
        ({JPEG_LOSSLESS, "1.2.840.10008.1.2.4.90"}, ""),
        ({"1.2.840.10008.1.2"}, ""),
    ],
)
def test_the_profile_follows_from_the_transfer_syntaxes(syntaxes: set[str], expected: str) -> None:
    assert profile(syntaxes) == expected
