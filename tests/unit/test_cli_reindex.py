"""`gateway reindex --resume` over a dump of the index: what it brings up to date, what it tells, the exit status."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import gateway.cli.delete as deleting
from gateway.archive.clock import microseconds
from gateway.cli import app
from gateway.cli.closed_doors import opened
from gateway.config import load
from gateway.upkeep.erasure import erase
from storage.dicom.identity import Scope
from storage.objects.disk import DiskStore
from tests import samples
from tests.sealing import Archive

STUDY = f"{samples.ROOT}.1"
SERIES = f"{STUDY}.1"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with two sealed instances; nobody needs be waited for."""
    monkeypatch.setenv("GATEWAY_SPOOL__MIN_FREE_BYTES", "0")
    monkeypatch.setattr(deleting, "erase", partial(erase, grace_seconds=0.0))
    folder = tmp_path / "data"
    with opened(load(None, {"data": folder}), must_exist=False) as backend:
        archive = Archive(backend.index, backend.places.stores, backend.places.packing, microseconds)
        archive.store(1, 1, (1, 2))
        archive.sealer().seal_series(STUDY, SERIES)
        archive.sweeper(grace_seconds=0).run_once()
    return folder


def run(*words: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def found(data: Path) -> list[str]:
    with opened(load(None, {"data": data})) as backend:
        return [one.identity.sop_uid for one in backend.index.locate(Scope(STUDY))]


def test_a_dump_is_brought_up_to_date(data: Path) -> None:
    shutil.copy(data / "index.sqlite", data.parent / "dump")
    assert run("delete", STUDY, SERIES, f"{SERIES}.1", "--yes", "--now", "--data", data).exit_code == 0
    [pack] = DiskStore(data / "archive").scan("packs/")
    for path in data.glob("index.sqlite*"):
        path.unlink()
    shutil.copy(data.parent / "dump", data / "index.sqlite")
    result = run("reindex", "--resume", "--data", data, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[0])
    assert (told["fate"], told["key"].split("/")[0]) == ("buried", "tombstones")
    assert found(data) == [f"{SERIES}.2"]
    with opened(load(None, {"data": data})) as backend:
        assert [one.location.key for one in backend.index.packs()] == [pack.key]
    assert run("verify", "--data", data).exit_code == 0


def test_what_is_named_and_not_there_is_told(data: Path) -> None:
    store = DiskStore(data / "archive")
    with opened(load(None, {"data": data})) as backend:
        archive = Archive(backend.index, backend.places.stores, backend.places.packing, microseconds)
        archive.store(1, 1, (3,))
        archive.sealer().seal_series(STUDY, SERIES)
    lost, _ = sorted(meta.key for meta in store.scan("packs/"))
    store.delete([lost])
    result = run("reindex", "--resume", "--data", data, "--json")
    assert result.exit_code == 1
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert {one["key"] for one in told if one.get("fate") == "missing"} == {lost}
    assert told[-1]["summary"]["missing"] == 1
    assert len(found(data)) == 3, "nothing is forgotten"
