"""`gateway seal`: what it seals, what it tells, and its exit status."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.archive.leases import SeriesLease
from gateway.cli import app
from gateway.cli.closed_doors import opened
from gateway.cli.seal import Run, everything_loose
from gateway.cli.tale import Tale
from gateway.config import Config, load
from storage.errors import Unavailable
from storage.objects.memory import MemoryStore
from tests import samples
from tests.sealing import SERIES, STUDY, Archive, Clock
from tests.unit.fake_packing import FakePackingIndex
from tests.unit.fakes import WatchedStore


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of an archive with two studies: of two series, and of one."""
    monkeypatch.setenv("GATEWAY_SPOOL__MIN_FREE_BYTES", "0")
    folder = tmp_path / "data"
    with opened(settings(folder), must_exist=False) as backend:
        archive = Archive(backend.index, backend.places.stores, backend.places.packing, lambda: 1)
        archive.store(1, 1, (1, 2))
        archive.store(1, 2, (1,))
        archive.store(2, 1, (1,))
    return folder


def settings(folder: Path) -> Config:
    return load(None, {"data": folder})


def seal(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["seal", *map(str, arguments)])


def told(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def sealed(folder: Path) -> list[str]:
    with opened(settings(folder)) as backend:
        return [pack.series_uid for pack in backend.index.packs()]


def test_a_series_alone(data: Path) -> None:
    result = seal(STUDY, SERIES, "--data", data, "--json")
    assert result.exit_code == 0
    pack, summary = told(result)
    assert pack["pack"].startswith(f"packs/local/{STUDY}/{SERIES}/") and pack["instances"] == 2
    assert summary["summary"] == {
        "series": 1,
        "packs": 1,
        "instances": 2,
        "bytes": pack["bytes"],
        "failed": 0,
        "exit_status": 0,
    }
    assert sealed(data) == [SERIES]
    assert (data / "archive" / pack["pack"]).stat().st_size == pack["bytes"]


def test_a_study(data: Path) -> None:
    result = seal(STUDY, "--data", data)
    assert result.exit_code == 0
    assert "2 series sealed in 2 packs: 3 instances" in result.stdout
    assert sealed(data) == [SERIES, f"{STUDY}.2"]
    again = seal(STUDY, "--data", data, "--json")
    assert again.exit_code == 0
    assert told(again)[0]["summary"]["packs"] == 0


def test_everything(data: Path) -> None:
    assert seal("--all", "--data", data).exit_code == 0
    assert sealed(data) == [SERIES, f"{STUDY}.2", f"{samples.ROOT}.2.1"]


def test_beside_a_worker_that_is_killed_it_waits_for_its_lease(data: Path) -> None:
    with opened(settings(data)) as backend, SeriesLease(backend.index, STUDY, SERIES, seconds=2):
        pass  # given back
    with opened(settings(data)) as backend:
        assert backend.index.lease(f"seal/{STUDY}/{SERIES}", "killed", 0.5)
    assert seal(STUDY, SERIES, "--data", data).exit_code == 0
    assert sealed(data) == [SERIES]


def test_what_is_damaged_is_told_of_and_the_rest_is_sealed(data: Path) -> None:
    path = next((data / "objects" / "spool" / STUDY / f"{STUDY}.2").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    result = seal("--all", "--data", data, "--json")
    assert result.exit_code == 1
    failed = next(line for line in told(result) if "failed" in line)
    assert failed["series_uid"] == f"{STUDY}.2" and "stay loose" in failed["failed"]
    damaged = next(line for line in told(result) if "damaged" in line)
    assert damaged["sop_uid"] == f"{STUDY}.2.1" and damaged["key"].endswith(path.name)
    assert "not those that were stored" in damaged["damaged"]
    assert sealed(data) == [SERIES, f"{samples.ROOT}.2.1"]


def test_when_all_of_a_series_is_lost_nothing_is_said_of_others_and_nothing_twice(data: Path) -> None:
    lost = sorted((data / "objects" / "spool" / STUDY / f"{STUDY}.2").iterdir())
    for path in lost:
        path.unlink()
    result = seal(STUDY, f"{STUDY}.2", "--data", data)
    assert result.exit_code == 2
    assert "there are no others" in result.stderr and "others are sealed" not in result.stderr
    assert [result.stderr.count(path.name) for path in lost] == [1] * len(lost)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "--all"),
        ((STUDY, "--all"), "--all"),
        (("1.2..3",), "UID"),
        (("1.2.3.4",), "there is no such"),
        ((STUDY, "1.2.3"), "there is no such"),
    ],
)
def test_what_cannot_be_sealed_at_all(data: Path, arguments: tuple[str, ...], problem: str) -> None:
    result = seal(*arguments, "--data", data, "--json")
    assert result.exit_code == 2
    assert problem in told(result)[-1]["summary"]["problem"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert seal("--all", "--data", tmp_path / "none").exit_code == 2
    assert not (tmp_path / "none").exists()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    clock = Clock()
    stores = {"spool": MemoryStore(), "archive": MemoryStore()}
    return Archive(FakePackingIndex(clock), stores, tmp_path, clock)


def test_what_another_is_at_is_tried_again_and_then_told_of(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.store(1, 1)
    archive.store(1, 2)
    pauses: list[float] = []
    with SeriesLease(archive.index, STUDY, SERIES):
        run = Run(archive.sealer(), Tale(as_json=True), pause=pauses.append)
        assert run.seal(everything_loose(archive.index), 2) == 1
    assert len(pauses) == 90
    assert "another worker is at it" in capsys.readouterr().out
    assert [pack.series_uid for pack in archive.index.packs()] == [f"{STUDY}.2"]


def test_when_the_archive_is_away_it_ends_at_once(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    for series in range(1, 4):
        archive.store(1, series)
    puts: list[str] = []

    def away(method: str, key: str) -> None:
        puts.append(key)
        raise Unavailable("the bucket does not answer")

    archive.stores = {**archive.stores, "archive": WatchedStore(archive.stores["archive"], away)}
    assert Run(archive.sealer(), Tale(as_json=True)).seal(everything_loose(archive.index), 3) == 2
    assert len(puts) == 1
    found = json.loads(capsys.readouterr().out)["summary"]
    assert (found["series"], found["failed"], found["exit_status"]) == (0, 3, 2)
    assert found["problem"] == "the bucket does not answer"


def test_what_is_left_when_the_archive_goes_away_is_counted(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    for series in range(1, 5):
        archive.store(1, series)
    puts: list[str] = []

    def goes_away(method: str, key: str) -> None:
        puts.append(key)
        if len(puts) > 4:
            raise Unavailable("the bucket does not answer")

    archive.stores = {**archive.stores, "archive": WatchedStore(archive.stores["archive"], goes_away)}
    assert Run(archive.sealer(), Tale(as_json=False)).seal(everything_loose(archive.index), 4) == 1
    assert f"{4 - len(list(archive.index.packs()))} not sealed" in capsys.readouterr().out


def test_many_series_are_asked_for_some_at_a_time(archive: Archive) -> None:
    for series in range(1, 131):
        archive.store(1, series)
    limits: list[int] = []
    unsealed = archive.index.unsealed
    archive.index.unsealed = lambda **asked: limits.append(asked["limit"]) or unsealed(**asked)
    assert Run(archive.sealer(), Tale(as_json=False)).seal(everything_loose(archive.index), 130) == 0
    assert len(list(archive.index.packs())) == 130
    assert max(limits) == 100


def test_series_that_cannot_be_sealed_hide_no_others(archive: Archive) -> None:
    for series in range(1, 131):
        archive.store(1, series)
        if series <= 115:
            (one,) = archive.index.loose(STUDY, f"{STUDY}.{series}")
            archive.stores["spool"].put(one.location.key, [b"x"], if_absent=False)
    assert Run(archive.sealer(), Tale(as_json=False)).seal(everything_loose(archive.index), 130) == 1
    assert len(list(archive.index.packs())) == 15
