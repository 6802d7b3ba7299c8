"""A gateway and its commands work on the object stores that the index means, and on no others."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.archive import Expected
from gateway.archive.identities import WrongStore
from gateway.cli import app
from gateway.cli.closed_doors import opened
from gateway.compose_archive import Backend, open_archive
from gateway.config import Config, load
from gateway.security.caller import Caller, Right
from storage.dicom.identity import Scope
from storage.objects import keys
from tests import samples
from tests.postgres import Postgres

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


def config(folder: Path, **environment: str) -> Config:
    return load(None, {"data": folder, "spool": {"min_free_bytes": 0}}, environment)


def run(*words: Any, **environment: str) -> Result:
    env = {"GATEWAY_SPOOL__MIN_FREE_BYTES": "0", **environment}
    return CliRunner().invoke(app, [str(word) for word in words], env=env)


@contextmanager
def started(config: Config) -> Iterator[Backend]:
    with closing(open_archive(config)) as backend:
        backend.start()
        yield backend


def check_refused(config: Config, what: str) -> None:
    with pytest.raises(WrongStore, match=what), started(config):
        pass


def check_all_is_read(config: Config) -> None:
    with started(config) as backend:
        parts = backend.local.retrieve(Scope(STUDY), accept=["*"], by=BY)
        assert [b"".join(part.chunks()) for part in parts] == FILES


COMMANDS = [("seal", "--all"), ("verify",), ("delete", STUDY, "--yes"), ("export", STUDY, "-", "--zip")]


@pytest.mark.parametrize("name", ["archive", "objects"])
def test_a_mount_that_is_lost_is_not_taken_for_an_empty_store(data: Path, name: str) -> None:
    (data / name).rename(data / "elsewhere")
    what = "archive" if name == "archive" else "spool"
    check_refused(config(data), f"the {what} is empty or another")
    for command in COMMANDS:
        result = run(*command, "--data", data)
        assert result.exit_code == 2 and f"the {what} is empty or another" in result.stderr
    shutil.rmtree(data / name)
    (data / "elsewhere").rename(data / name)
    check_all_is_read(config(data))


def test_a_gateway_with_a_spool_of_its_own_does_not_join_others(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shared = {"GATEWAY_INDEX__URL": f"sqlite:///{data}/index.sqlite", "GATEWAY_ARCHIVE__URL": f"file://{data}/archive"}
    other.mkdir()
    check_refused(config(other, **shared), "the spool .*share one spool")
    assert run("delete", STUDY, "--yes", "--now", "--data", other, **shared).exit_code == 2
    check_all_is_read(config(data))
    shared["GATEWAY_SPOOL__URL"] = f"file://{data}/objects"
    check_all_is_read(config(other, **shared))


def test_of_gateways_on_one_database_that_start_at_once_with_spools_of_their_own_one_starts(
    tmp_path: Path, postgres: Postgres
) -> None:
    shared = {"GATEWAY_INDEX__URL": postgres.empty_index(), "GATEWAY_ARCHIVE__URL": f"file://{tmp_path}/archive"}
    outcomes = list(started_at_once([config(tmp_path / str(number), **shared) for number in range(3)]))
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [WrongStore] * 2
    shared["GATEWAY_SPOOL__URL"] = f"file://{tmp_path}/spool"
    shared["GATEWAY_INDEX__URL"] = postgres.empty_index()
    assert list(started_at_once([config(tmp_path / str(number), **shared) for number in range(3)])) == [None] * 3


def started_at_once(configs: list[Config]) -> Iterator[BaseException | None]:
    def start(config: Config) -> None:
        with started(config):
            pass

    with ThreadPoolExecutor(len(configs)) as threads:
        begun = [threads.submit(start, config) for config in configs]
    yield from (one.exception() for one in begun)


def test_a_store_that_is_moved_whole_is_the_same(data: Path, tmp_path: Path) -> None:
    shutil.move(data / "archive", tmp_path / "moved")
    check_all_is_read(config(data, GATEWAY_ARCHIVE__URL=f"file://{tmp_path}/moved"))


def test_one_that_was_moved_without_its_identity_is_taken_over_by_a_rebuild(data: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(data / "archive" / "packs", moved / "packs")
    url = {"GATEWAY_ARCHIVE__URL": f"file://{moved}"}
    check_refused(config(data, **url), "reindex --resume")
    assert run("reindex", "--resume", "--data", data, **url).exit_code == 0
    check_all_is_read(config(data, **url))
    check_refused(config(data), "the archive is another")


def test_a_rebuilt_index_means_the_stores_that_it_was_made_from(data: Path, tmp_path: Path) -> None:
    assert run("reindex", "--into", tmp_path / "new.sqlite", "--data", data).exit_code == 0
    new = {"GATEWAY_INDEX__URL": f"sqlite:///{tmp_path}/new.sqlite"}
    check_all_is_read(config(data, **new))
    (data / "archive" / keys.STORE_ID).unlink()
    check_refused(config(data, **new), "the archive is empty or another")


def test_a_copy_in_another_place_is_refused_and_one_that_is_away_is_waited_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    check_all_is_read(config(data, GATEWAY_COPIES__URL=f"file://{tmp_path}/copy"))
    check_refused(config(data, GATEWAY_COPIES__URL=f"file://{tmp_path}/other"), "the copy is empty or another")
    away = "s3://bucket?endpoint=http://127.0.0.1:1&retry_seconds=0&read_retry_seconds=0&connect_timeout_seconds=1"
    with started(config(data, GATEWAY_COPIES__URL=away)) as backend:
        assert "copy: " in backend.local.check()
        assert set(backend.lookouts) == {"spool", "archive", "copy"}
