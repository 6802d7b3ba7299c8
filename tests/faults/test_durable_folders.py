"""The folders above what is stored: made once, and their names on stable storage before anything lies in them."""

import os
from pathlib import Path

import pytest

from gateway.compose_archive import open_archive
from gateway.config import Config
from storage.errors import Unavailable
from storage.objects import folders
from storage.objects.disk import DiskStore
from tests.faults.test_disk_store import BROKEN, failing


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are flushed, in order."""
    found: list[Path] = []
    sync = folders.Folder.sync

    def note(folder: folders.Folder) -> None:
        found.append(Path(os.readlink(f"/proc/self/fd/{folder._fd}")))
        sync(folder)

    monkeypatch.setattr(folders.Folder, "sync", note)
    return found


def test_every_folder_above_a_store_is_flushed_in_its_parent(tmp_path: Path, flushed: list[Path]) -> None:
    DiskStore(tmp_path / "data" / "new" / "objects")
    above = [*reversed(tmp_path.parents), tmp_path]
    assert flushed[-3:] == [tmp_path, tmp_path / "data", tmp_path / "data" / "new"]
    assert [folder for folder in above if os.access(folder, os.R_OK | os.W_OK)] == flushed[:-2]
    assert (tmp_path / "data" / "new").stat().st_mode & 0o777 == 0o750


def test_folders_that_were_made_and_not_flushed_by_another_are_flushed(tmp_path: Path, flushed: list[Path]) -> None:
    (tmp_path / "data" / "objects").mkdir(parents=True)
    DiskStore(tmp_path / "data" / "objects")
    assert flushed[-2:] == [tmp_path, tmp_path / "data"]


def test_parents_that_are_not_ours_to_write_are_left_alone(
    tmp_path: Path, flushed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(folders.os, "access", lambda path, mode: path == tmp_path)
    folders.make_durable(tmp_path / "data" / "objects")
    assert flushed == [tmp_path, tmp_path / "data"]


def test_folders_below_a_link_and_relative_ones_are_flushed_where_they_are(
    tmp_path: Path, flushed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "volume")
    monkeypatch.chdir(tmp_path)
    folders.make_durable(Path("link/data/objects"))
    assert flushed[-3:] == [tmp_path, tmp_path / "volume", tmp_path / "volume" / "data"]
    with pytest.raises(OSError):
        (tmp_path / "lost").symlink_to(tmp_path / "not mounted")
        folders.make_durable(Path("lost/objects"))


@pytest.mark.parametrize("number", BROKEN)
def test_a_root_whose_parent_cannot_be_flushed_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(folders.Folder, "sync", failing(number))
    with pytest.raises(Unavailable):
        DiskStore(tmp_path / "new" / "objects")


def test_a_gateway_flushes_every_folder_that_it_makes(tmp_path: Path, flushed: list[Path]) -> None:
    data = tmp_path / "new" / "data"
    open_archive(Config(data=data)).close()
    assert {tmp_path, tmp_path / "new", data} <= set(flushed)
    assert all(Path(folder).is_dir() for folder in (data / "objects", data / "audit"))
