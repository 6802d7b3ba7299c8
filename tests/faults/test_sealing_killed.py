"""The process is killed at each step of sealing, compacting and sweeping: nothing is lost, the next run finishes."""

import multiprocessing
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from gateway.archive.clock import SECOND, microseconds
from gateway.archive.compactor import Compactor
from gateway.archive.steps import COMPACTED, DOOMED, MERGED, PUT, SEALED, STAGED, SWEPT, VERIFIED
from storage.dicom.identity import Scope
from storage.index.sqlite import SqliteIndex
from storage.objects.disk import DiskStore
from storage.packs.blocks import BlockReader
from storage.packs.documents import PackDocuments
from tests.sealing import HOUR, SERIES, STUDY, Archive, file_of

KILLED = 9
Sent = dict[tuple[str, str, str], bytes]
SEALING = (STAGED, DOOMED, PUT, VERIFIED, SEALED)


@contextmanager
def opened(folder: Path) -> Iterator[Archive]:
    """An archive in folders with a real index."""
    spool, store = DiskStore(folder / "spool"), DiskStore(folder / "archive")
    documents = PackDocuments({"archive": BlockReader(store, None)})
    index = SqliteIndex(folder / "index.sqlite", documents=documents)
    try:
        yield Archive(index, {"spool": spool, "archive": store}, store.staging, microseconds)
    finally:
        index.close()
        spool.close()
        store.close()


def compactor(archive: Archive, **arguments: object) -> Compactor:
    documents = PackDocuments({"archive": BlockReader(archive.stores["archive"], None)})
    return Compactor(archive.index, archive.stores, documents, staging=archive.staging, **arguments)  # type: ignore[arg-type]


def begun(folder: Path, act: str, step: str) -> BaseProcess:
    """A process of its own that does `act`, and is gone at `step` (with an empty `step`, when it is done)."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    process = processes.Process(target=main, args=(folder, act, step))
    process.start()
    return process


def run_until_killed(folder: Path, act: str, step: str) -> None:
    process = begun(folder, act, step)
    process.join(100)
    assert process.exitcode == KILLED


def main(folder: Path, act: str, step: str) -> None:
    def at(reached: str) -> None:
        if reached == step:
            os._exit(KILLED)

    with opened(folder) as archive:
        if act == "seal":
            archive.sealer(at=at).seal_series(STUDY, SERIES)
        elif act == "compact":
            compactor(archive, at=at).run_once()
        elif act == "merge":
            compactor(archive, at=at).merge_once()
        elif act == "seal all":
            archive.clock = lambda: microseconds() + SECOND
            archive.sealer(at=at, after_seconds=0).run_once()
        else:  # in three hours all that is doomed is due
            archive.clock = lambda: microseconds() + 3 * HOUR * SECOND
            archive.sweeper(at=at).run_once()


def finish(folder: Path) -> None:
    """What the next runs do, when the leases of who was killed have run out."""
    with closing(sqlite3.connect(folder / "index.sqlite")) as connection, connection:
        connection.execute("delete from leases")
    for act in ("seal", "compact", "merge", "sweep"):
        main(folder, act, "")


def check_in(folder: Path, sent: Sent) -> None:
    with opened(folder) as archive:
        archive.sent = sent
        archive.check_all_is_read_back()
        archive.check_each_lies_once()
        assert len(list(archive.index.metadata(Scope(STUDY)))) == len(sent)


def check_finished(folder: Path, sent: Sent) -> None:
    check_in(folder, sent)
    with opened(folder) as archive:
        archive.sent = sent
        archive.check_nothing_is_left_over()
        assert archive.index.backlog().instances == 0


@pytest.mark.parametrize("step", SEALING)
def test_killed_while_sealing(tmp_path: Path, step: str) -> None:
    with opened(tmp_path) as archive:
        archive.store(numbers=range(1, 5))
        archive.store(numbers=(2,), seed=1)
        sent = archive.sent
    run_until_killed(tmp_path, "seal", step)
    check_in(tmp_path, sent)
    finish(tmp_path)
    check_finished(tmp_path, sent)


def test_killed_while_sealing_and_then_something_comes(tmp_path: Path) -> None:
    with opened(tmp_path) as archive:
        archive.store(numbers=(1, 2))
        sent = archive.sent
    run_until_killed(tmp_path, "seal", VERIFIED)
    with opened(tmp_path) as archive:
        archive.sent = sent
        archive.store(numbers=(3,))
    finish(tmp_path)
    check_finished(tmp_path, sent)


@pytest.mark.parametrize("step", [STAGED, DOOMED, PUT, VERIFIED, COMPACTED])
def test_killed_while_compacting(tmp_path: Path, step: str) -> None:
    with opened(tmp_path) as archive:
        archive.store(numbers=range(1, 5))
        archive.sealer().seal_series(STUDY, SERIES)
        archive.remove(Scope(STUDY, SERIES, f"{SERIES}.3"))
        sent = archive.sent
    run_until_killed(tmp_path, "compact", step)
    check_in(tmp_path, sent)
    finish(tmp_path)
    check_finished(tmp_path, sent)
    packs = [path.read_bytes() for path in (tmp_path / "archive").rglob("*.zip")]
    assert len(packs) == 1
    assert file_of(1, 1, 3) not in packs[0]


@pytest.mark.parametrize("step", [STAGED, DOOMED, PUT, VERIFIED, MERGED])
def test_killed_while_merging(tmp_path: Path, step: str) -> None:
    with opened(tmp_path) as archive:
        for number in (5, 2, 8, 1, 7, 3, 6, 4):
            archive.store(numbers=(number,))
            archive.sealer().seal_series(STUDY, SERIES)
        archive.remove(Scope(STUDY, SERIES, f"{SERIES}.3"))
        archive.store(numbers=(3,), seed=1)
        archive.sealer().seal_series(STUDY, SERIES)
        sent = archive.sent
    run_until_killed(tmp_path, "merge", step)
    check_in(tmp_path, sent)
    finish(tmp_path)
    check_finished(tmp_path, sent)
    [pack] = (tmp_path / "archive").rglob("*.zip")
    assert file_of(1, 1, 3) not in pack.read_bytes()


def test_killed_while_sweeping(tmp_path: Path) -> None:
    with opened(tmp_path) as archive:
        archive.store(numbers=range(1, 5))
        archive.sealer().seal_series(STUDY, SERIES)
        sent = archive.sent
    run_until_killed(tmp_path, "sweep", SWEPT)
    check_in(tmp_path, sent)
    finish(tmp_path)
    check_finished(tmp_path, sent)


def test_many_processes_seal_at_once(tmp_path: Path) -> None:
    series = [f"{STUDY}.{number}" for number in range(1, 13)]
    with opened(tmp_path) as archive:
        for number in range(1, 13):
            archive.store(1, number, range(1, 6))
        sent = archive.sent
    running = [begun(tmp_path, "seal all", "") for _ in range(3)]
    for process in running:
        process.join(100)
    assert [process.exitcode for process in running] == [0, 0, 0]
    check_in(tmp_path, sent)
    with opened(tmp_path) as archive:
        assert [pack.series_uid for pack in archive.index.packs()] == sorted(series)
    main(tmp_path, "sweep", "")
    check_finished(tmp_path, sent)
