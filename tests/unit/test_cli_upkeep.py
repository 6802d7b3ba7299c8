"""The commands that work on an archive directly: what they print, what they leave, and the exit status."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.archive import Expected
from gateway.cli import app
from gateway.cli.closed_doors import opened
from gateway.config import Config, load
from gateway.security.caller import Caller, Right
from storage.errors import Unavailable
from storage.objects import ObjectMeta
from storage.objects.disk import DiskStore
from tests import samples

BY = Caller("CT1", "127.0.0.1", "dimse", frozenset(Right))
STUDY = f"{samples.ROOT}.1"
FILES = [samples.part10(samples.ct(1, series, number)) for series in (1, 2) for number in (1, 2)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a study of two series, the first of them sealed."""
    folder = tmp_path / "data"
    with opened(config(folder), must_exist=False) as backend:
        for file in FILES:
            with backend.local.incoming() as incoming:
                incoming.write(file)
                backend.local.store(incoming, Expected(), by=BY)
    assert run("seal", STUDY, f"{STUDY}.1", "--data", folder).exit_code == 0
    return folder


def config(folder: Path) -> Config:
    return load(None, {"data": folder, "spool": {"min_free_bytes": 0}}, {})


def run(*words: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"GATEWAY_SPOOL__MIN_FREE_BYTES": "0"})


def summary(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])["summary"]
    return found


def retrieved(folder: Path, name: str) -> list[bytes]:
    assert run("export", STUDY, folder.parent / name, "--data", folder).exit_code == 0
    return [path.read_bytes() for path in sorted((folder.parent / name).rglob("*.dcm"))]


def test_a_whole_archive_is_verified(data: Path) -> None:
    result = run("verify", "--data", data, "--json")
    assert result.exit_code == 0
    found = summary(result)
    assert (found["objects"], found["findings"], found["exit_status"]) == (3, 0, 0)
    assert (found["doomed"], found["young"]) == (2, 0), "the loose objects of the series that was sealed"
    assert "2 that are to be deleted" in run("verify", "--data", data).stdout
    assert found["bytes"] > sum(map(len, FILES))
    assert summary(run("verify", "--scope", STUDY, "--data", data, "--json"))["objects"] == 3


def test_a_finding_is_a_line_that_says_what_to_do(data: Path) -> None:
    store = DiskStore(data / "archive")
    [pack] = store.scan("packs/")
    store.delete([pack.key])
    result = run("verify", "--data", data)
    assert result.exit_code == 1
    assert f"missing: archive {pack.key}: " in result.stderr and "backup" in result.stderr
    told = json.loads(run("verify", "--data", data, "--json").stdout.splitlines()[0])["finding"]
    assert (told["kind"], told["key"], told["repaired"]) == ("missing", pack.key, False)


def lose_the_index(data: Path) -> None:
    for path in data.glob("index.sqlite*"):
        path.unlink()


def test_what_is_too_young_to_judge_is_counted(data: Path) -> None:
    DiskStore(data / "objects").put("spool/1.2/1.2.3/young.dcm", [b"being stored"])
    result = run("verify", "--data", data, "--json")
    assert result.exit_code == 0
    found = summary(result)
    assert (found["objects"], found["young"]) == (3, 1)
    again = datetime.fromisoformat(found["again_at"])
    told = run("verify", "--data", data).stdout
    assert f"1 too young to judge, look again after {again:%H:%M}" in told


def test_verifying_without_the_index_says_that_it_is_lost(data: Path) -> None:
    lose_the_index(data)
    result = run("verify", "--data", data)
    assert result.exit_code == 1
    assert "lost: index: it is empty" in result.stderr and "gateway reindex" in result.stderr
    assert "after `gateway reindex` run this again, no wait is needed" in result.stdout
    assert "look again after" not in result.stdout
    assert "again_at" not in summary(run("verify", "--data", data, "--json"))
    assert run("reindex", "--data", data).exit_code == 0
    assert run("verify", "--data", data).exit_code == 0


@pytest.mark.parametrize("command", ["verify", "export", "reindex"])
def test_a_data_folder_that_is_not_there_is_not_made(tmp_path: Path, command: str) -> None:
    words = [STUDY, tmp_path / "out"] if command == "export" else []
    result = run(command, *words, "--data", tmp_path / "typo")
    assert result.exit_code == 2
    assert "no data folder" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_not_verified(data: Path) -> None:
    assert run("verify", "--scope", "1.2.3", "--data", data).exit_code == 2
    assert run("verify", "--scope", "patient", "--data", data).exit_code == 2


def test_an_index_that_was_lost_is_made_anew(data: Path) -> None:
    before = retrieved(data, "before")
    lose_the_index(data)
    result = run("reindex", "--data", data, "--json")
    assert result.exit_code == 0
    assert summary(result)["instances"] == len(FILES)
    assert retrieved(data, "after") == before == FILES


def test_where_there_is_nothing_no_index_is_made(tmp_path: Path) -> None:
    result = run("reindex", "--data", tmp_path)
    assert result.exit_code == 2
    assert "there is no pack and no loose instance" in result.stderr
    assert list(tmp_path.glob("index.sqlite*")) == []


@pytest.mark.parametrize("kept", [False, True], ids=["made for it", "there before"])
def test_without_the_archive_nothing_is_rebuilt(data: Path, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    if not kept:
        lose_the_index(data)

    def away(store: DiskStore, prefix: str = "", *, after: str = "") -> Iterator[ObjectMeta]:
        raise Unavailable("no route to host")

    monkeypatch.setattr(DiskStore, "scan", away)
    result = run("reindex", "--resume", "--data", data)
    assert result.exit_code == 2
    assert "no route to host" in result.stderr and result.stdout == ""
    assert bool(list(data.glob("index.sqlite*"))) is kept


def test_an_index_in_use_is_rebuilt_beside_or_not_at_all(data: Path) -> None:
    result = run("reindex", "--data", data)
    assert result.exit_code == 2
    assert "--resume" in result.stderr and "--into" in result.stderr
    assert summary(run("reindex", "--data", data, "--resume", "--json"))["known"] == 3
    beside = data.parent / "beside.sqlite"
    assert summary(run("reindex", "--data", data, "--into", beside, "--json"))["instances"] == len(FILES)
    assert beside.is_file()


def test_what_cannot_be_read_is_told(data: Path) -> None:
    store = DiskStore(data / "archive")
    [pack] = store.scan("packs/")
    store.put(pack.key, [b"nothing of the kind"], if_absent=False)
    result = run("reindex", "--data", data, "--into", data.parent / "new.sqlite", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout.splitlines()[0])
    assert (told["key"], told["fate"]) == (pack.key, "left")
    assert summary(result)["left"] == 1


@pytest.mark.parametrize(
    ("flags", "check"),
    [
        ([], lambda path: len(list(path.rglob("*.dcm"))) == len(FILES)),
        (["--dicomdir"], lambda path: (path / "DICOMDIR").is_file()),
        (["--zip"], lambda path: path.read_bytes()[:2] == b"PK"),
    ],
    ids=["folder", "medium", "zip"],
)
def test_a_study_is_exported(data: Path, flags: list[str], check: Callable[[Path], bool]) -> None:
    target = data.parent / "out"
    result = run("export", STUDY, target, *flags, "--data", data, "--json")
    assert result.exit_code == 0, result.stderr
    found = summary(result)
    assert (found["instances"], found["series"]) == (len(FILES), 2)
    assert found["profile"] == ("STD-GEN-CD" if flags == ["--dicomdir"] else "")
    assert check(target)
    again = run("export", STUDY, target, *flags, "--data", data)
    assert again.exit_code == 2
    assert "there already" in again.stderr


def test_a_zip_goes_to_standard_output_alone(data: Path) -> None:
    result = run("export", STUDY, "-", "--zip", "--data", data)
    assert result.exit_code == 0
    assert result.stdout_bytes[:4] == b"PK\3\4"
    assert result.stdout_bytes[-22:-18] == b"PK\5\6"


def test_an_export_is_audited_with_the_operator_as_caller(data: Path) -> None:
    retrieved(data, "out")
    lines = [json.loads(line) for path in (data / "audit").iterdir() for line in path.read_text().splitlines()]
    [event] = [line for line in lines if line["act"] == "retrieve"]
    assert (event["door"], event["outcome"], event["study_uid"]) == ("command", "success", STUDY)


@pytest.mark.parametrize("target", ["out", "-"])
def test_what_is_left_of_a_damaged_study_is_exported_when_that_is_asked_for(data: Path, target: str) -> None:
    store = DiskStore(data / "archive")
    [pack] = store.scan("packs/")
    with store.get(pack.key) as body:
        found = bytearray(body.read())
    found[found.index(FILES[0]) + 700] ^= 1
    store.put(pack.key, [found], if_absent=False)
    where = target if target == "-" else data.parent / target
    words = ["export", STUDY, where, *(["--zip"] if target == "-" else []), "--data", data]
    whole = run(*words)
    assert whole.exit_code == 2
    assert pack.key in whole.stderr and "--keep-going" in whole.stderr
    assert target == "-" or not Path(where).exists()
    result = run(*words, "--keep-going")
    assert result.exit_code == 1
    assert f"missing: SOP Instance UID {STUDY}.1.1: " in result.stderr and pack.key in result.stderr
    if target == "-":
        with zipfile.ZipFile(io.BytesIO(result.stdout_bytes)) as rescued:
            assert [rescued.read(name) for name in rescued.namelist()] == FILES[1:]
    else:
        assert "3 instances in 2 series" in result.stdout and "1 are missing" in result.stdout
        assert [path.read_bytes() for path in sorted(Path(where).rglob("*.dcm"))] == FILES[1:]


def test_a_medium_is_complete_or_not_made(data: Path) -> None:
    assert run("export", STUDY, data.parent / "out", "--dicomdir", "--keep-going", "--data", data).exit_code == 2


def test_nothing_is_exported_of_a_study_that_is_not_there(data: Path) -> None:
    target = data.parent / "out"
    assert run("export", "1.2.3", target, "--data", data).exit_code == 2
    assert run("export", STUDY, target, "--zip", "--dicomdir", "--data", data).exit_code == 2
    assert not target.exists()


@pytest.mark.parametrize(
    ("target", "flags", "said"),
    [("none/out.zip", ["--zip"], "there is no folder"), ("file/out", [], "file/out: Not a directory")],
)
def test_a_target_that_cannot_be_is_told_in_words(data: Path, target: str, flags: list[str], said: str) -> None:
    (data.parent / "file").touch()
    result = run("export", STUDY, data.parent / target, *flags, "--data", data)
    assert result.exit_code == 2
    assert said in result.stderr and "Errno" not in result.stderr
