"""`gateway delete`: who is asked, what is gone when, what the audit keeps, and the exit status."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import gateway.cli.delete as command
from gateway.archive.clock import microseconds
from gateway.archive.places import Places
from gateway.cli import app
from gateway.cli.closed_doors import opened
from gateway.config import load
from gateway.upkeep.erasure import erase
from storage.dicom.identity import Scope
from storage.errors import NotFound, Unavailable
from storage.objects.memory import MemoryStore
from tests import samples
from tests.sealing import Archive
from tests.unit.fakes import WatchedStore

STUDY = f"{samples.ROOT}.1"
SERIES, INSTANCE = f"{STUDY}.1", f"{STUDY}.1.2"
OTHER = f"{samples.ROOT}.2"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study with a sealed and a loose series of three instances, and another study; nobody needs be waited for."""
    monkeypatch.setenv("GATEWAY_SPOOL__MIN_FREE_BYTES", "0")
    monkeypatch.setattr(command, "erase", partial(erase, grace_seconds=0.0))
    folder = tmp_path / "data"
    with opened(load(None, {"data": folder}), must_exist=False) as backend:
        archive = Archive(backend.index, backend.places.stores, backend.places.packing, microseconds)
        archive.store(1, 1, (1, 2, 3))
        archive.sealer().seal_series(STUDY, SERIES)
        archive.store(1, 2, (1, 2, 3))
        archive.store(2, 1, (1,))
    return folder


def delete(*words: Any) -> Result:
    return CliRunner().invoke(app, ["delete", *map(str, words)])


def found(folder: Path, *uids: str) -> int:
    """How many instances of this are found."""
    with opened(load(None, {"data": folder})) as backend:
        try:
            return len(backend.index.locate(Scope(*uids)))
        except NotFound:
            return 0


def holding(folder: Path, uid: str) -> list[str]:
    """The stored objects in which a UID stands, or in whose names."""
    stored = [path for store in ("objects/spool", "archive/packs") for path in (folder / store).rglob("*.*")]
    files = [path for path in stored if path.is_file()]
    return [str(path) for path in files if uid in str(path) or uid.encode() in path.read_bytes()]


def test_what_is_deleted_is_found_no_more_and_the_rest_is(data: Path) -> None:
    result = delete(STUDY, SERIES, "--yes", "--data", data)
    assert result.exit_code == 0
    assert result.stdout.startswith("3 instances deleted: found no more from now on; the bytes go a minute later")
    assert (found(data, STUDY, SERIES), found(data, STUDY), found(data, OTHER)) == (0, 3, 1)
    again = delete(STUDY, SERIES, "--yes", "--data", data)
    assert again.exit_code == 2 and "there is no such" in again.stderr


@pytest.mark.parametrize("uids", [(STUDY,), (STUDY, SERIES), (STUDY, SERIES, INSTANCE), (STUDY, f"{STUDY}.2")])
def test_the_bytes_are_gone_when_it_returns(data: Path, uids: tuple[str, ...]) -> None:
    before = found(data, STUDY)
    assert holding(data, uids[-1])
    result = delete(*uids, "--yes", "--now", "--data", data, "--json")
    assert result.exit_code == 0, result.stdout
    told = json.loads(result.stdout)["summary"]
    assert told["bytes_gone"] and told["instances"] == before - found(data, STUDY)
    assert holding(data, uids[-1]) == []
    assert found(data, OTHER) == 1
    assert CliRunner().invoke(app, ["verify", "--data", str(data)]).exit_code == 0


def test_it_stays_deleted_when_the_index_is_made_anew(data: Path) -> None:
    assert delete(STUDY, SERIES, INSTANCE, "--yes", "--data", data).exit_code == 0
    for path in data.glob("index.sqlite*"):
        path.unlink()
    assert CliRunner().invoke(app, ["reindex", "--data", str(data)]).exit_code == 0
    assert (found(data, STUDY, SERIES, INSTANCE), found(data, STUDY)) == (0, 5)


def test_who_did_it_and_why_is_audited(data: Path) -> None:
    assert delete(STUDY, "--yes", "--reason", "sent to the wrong archive", "--data", data).exit_code == 0
    lines = [json.loads(line) for path in (data / "audit").iterdir() for line in path.read_text().splitlines()]
    [event] = [line for line in lines if line["act"] == "delete"]
    assert (event["outcome"], event["door"], event["study_uid"], event["count"]) == ("success", "command", STUDY, 6)
    assert event["purpose"] == "sent to the wrong archive"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((STUDY,), "--yes"),
        ((STUDY, "--json"), "--yes"),
        (("1.2..3", "--yes"), "UID"),
        (("1.2.3", "--yes"), "there is no such"),
        (("1.2.3",), "there is no such"),
        ((STUDY, SERIES, "1.2.3", "--yes"), "there is no such"),
    ],
)
def test_when_nothing_is_deleted_it_says_why(data: Path, words: tuple[str, ...], problem: str) -> None:
    result = delete(*words, "--data", data)
    assert result.exit_code == 2
    assert problem in result.output
    assert found(data, STUDY) == 6
    assert not (data / "archive" / "tombstones").exists()


@pytest.mark.parametrize(("agrees", "left"), [(True, 0), (False, 6)])
def test_a_person_at_a_terminal_is_asked(data: Path, monkeypatch: pytest.MonkeyPatch, agrees: bool, left: int) -> None:
    asked: list[str] = []

    def confirm(text: str, **how: Any) -> bool:
        asked.append(text)
        return agrees

    monkeypatch.setattr(command, "_is_asked", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)
    assert delete(STUDY, "--data", data).exit_code == (0 if agrees else 2)
    assert asked == ["Delete 6 instances in 2 series, for good?"]
    assert found(data, STUDY) == left


def test_when_the_store_goes_away_it_is_deleted_and_the_bytes_are_not_gone(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*places: Any, **named: Any) -> None:
        raise Unavailable("no route to host")

    monkeypatch.setattr(command, "erase", away)
    result = delete(STUDY, "--yes", "--now", "--data", data)
    assert result.exit_code == 1
    assert "not all bytes are gone: no route to host" in result.stderr
    assert found(data, STUDY) == 0
    with opened(load(None, {"data": data})) as backend:
        erase(backend.places, backend.index, Scope(STUDY), grace_seconds=0.0)
    assert holding(data, STUDY) == []


def away(method: str, key: str) -> None:
    raise Unavailable("no route to host")


def test_while_the_copy_is_away_all_other_bytes_go_and_it_says_what_is_left(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_copy(places: Places, *rest: Any, **named: Any) -> Mapping[str, str]:
        copy = WatchedStore(MemoryStore(), away)
        return erase(replace(places, copy=copy), *rest, grace_seconds=0.0, **named)

    monkeypatch.setattr(command, "erase", without_copy)
    result = delete(STUDY, "--yes", "--now", "--data", data, "--json")
    told = json.loads(result.stdout)["summary"]
    assert (result.exit_code, told["instances"], told["bytes_gone"]) == (1, 6, False)
    assert told["left"] == {"copy": "no route to host"}
    assert told["problem"] == "bytes are left in copy (no route to host); the gateway goes on with it"
    assert holding(data, STUDY) == []


def test_what_cannot_be_deleted_is_named_and_not_waited_for(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []

    def locked(method: str, key: str) -> None:
        if method == "delete" and key.startswith("packs/"):
            keys.append(key)
            raise Unavailable("the object is locked")

    def with_locked(places: Places, *rest: Any, **named: Any) -> Mapping[str, str]:
        archive = WatchedStore(places.archive, locked)
        return erase(replace(places, archive=archive), *rest, grace_seconds=0.0, **named)

    monkeypatch.setattr(command, "erase", with_locked)
    result = delete(STUDY, "--yes", "--now", "--data", data)
    assert result.exit_code == 1
    assert result.stdout == "6 instances deleted: found no more, but not all bytes are gone\n"
    assert f"bytes are left in archive ({keys[0]}: the object is locked)" in result.stderr


def test_while_another_is_at_the_series_it_waits(data: Path) -> None:
    pauses: list[float] = []
    with opened(load(None, {"data": data})) as backend:
        backend.index.lease(f"seal/{STUDY}/{SERIES}", "another", 3600)
        backend.index.remove(Scope(STUDY, SERIES, INSTANCE))

        def give_back(seconds: float) -> None:
            pauses.append(seconds)
            backend.index.release(f"seal/{STUDY}/{SERIES}", "another")

        erase(backend.places, backend.index, Scope(STUDY, SERIES, INSTANCE), grace_seconds=0.0, pause=give_back)
    assert pauses
    assert holding(data, INSTANCE) == []
