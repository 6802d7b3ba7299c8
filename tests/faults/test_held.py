"""The gateway is held at each step of store, seal, compact, sweep, delete and reindex, looked at, and killed there."""

import sqlite3
import threading
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from gateway.archive.steps import COMPACTED, DOOMED, PUT, SEALED, STAGED, SWEPT, VERIFIED
from tests import samples
from tests.faults.commands import run
from tests.faults.held import Held, Point
from tests.faults.ledger import Ledger, NotAcknowledged, sending, until
from tests.gateway_process import GatewayProcess

pytestmark = pytest.mark.timeout(300)  # servers start and stop, also on a machine that is busy
LOOSE = {"GATEWAY_ARCHIVE__SEAL": "false"}
SEALING = {"GATEWAY_ARCHIVE__SEAL_AFTER_SECONDS": "0"}
TO_BE_PUT, LIES = "storage.objects.disk:DiskStore.put:before", "storage.objects.disk:DiskStore.put:after"
COMMITS = "storage.index.connections:WriteTransaction.commit:before"
COMMITTED = "storage.index.connections:WriteTransaction.commit:after"
STORED = "gateway.archive.metered:MeteredArchive.store:after"
ANNOUNCED, REMOVED = "gateway.archive.tombstones:put:after", "storage.index.sql:SqlIndex.remove:after"
ADOPTS, ADOPTED = "storage.index.sql:SqlIndex.adopt:before", "storage.index.sql:SqlIndex.adopt:after"
BRINGS_BACK, BROUGHT_BACK = (
    "storage.index.sql:SqlIndex.bring_back:before",
    "storage.index.sql:SqlIndex.bring_back:after",
)


def point(folder: Path, name: str) -> Point:
    return Point(folder / uuid.uuid4().hex, name)


def kill_amid_stores(tmp_path: Path, points: Sequence[tuple[str, str]]) -> None:
    """At each point, in a store by that door."""
    ledger = Ledger(may_break=True)
    gateway = GatewayProcess(tmp_path / "data", env=LOOSE)
    for number, (name, by) in enumerate(points):
        at = point(tmp_path, name)
        gateway.program = at.program
        gateway.start()
        with sending(gateway, ledger, [samples.ct(1, 1, n) for n in range(10 * number, 10 * number + number)]):
            pass
        at.arm()
        last = threading.Thread(target=store_in_vain, args=(gateway, ledger, 10 * number + 9, by))
        last.start()
        until(at.reached, "a store comes to the point")
        ledger.check(gateway)
        gateway.kill()
        last.join()
    gateway.program = ("-m", "gateway")
    with gateway:
        ledger.check(gateway)
        with sending(gateway, ledger, [samples.ct(1, 1, 10 * n + 9) for n in range(len(points))]):
            pass
        ledger.check_all(gateway)
        assert not list((tmp_path / "data").rglob("*.part"))
        run(gateway, "verify")


def store_in_vain(gateway: GatewayProcess, ledger: Ledger, number: int, by: str) -> None:
    with httpx.Client(timeout=90) as client, pytest.raises(NotAcknowledged):
        ledger.store(gateway, samples.ct(1, 1, number), by=by, client=client)


def test_killed_amid_a_store(tmp_path: Path) -> None:
    kill_amid_stores(tmp_path, [(LIES, "web"), (COMMITTED, "dimse")])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_at_every_step_of_a_store(tmp_path: Path) -> None:
    steps = (TO_BE_PUT, LIES, COMMITS, COMMITTED, STORED)
    kill_amid_stores(tmp_path, [(step, door) for step in steps for door in ("web", "dimse")])


def kill_amid_sealing(tmp_path: Path, steps: Sequence[str]) -> None:
    ledger = Ledger()
    gateway = GatewayProcess(tmp_path / "data", env=LOOSE)
    with gateway, sending(gateway, ledger, [samples.ct(1, series, n) for series in (1, 2) for n in range(5)]):
        pass
    gateway.env |= SEALING | {"GATEWAY_ARCHIVE__SEAL": "true"}
    for step in steps:
        at = point(tmp_path, f"step:{step}")
        at.arm()
        gateway.program = at.program
        gateway.start()
        until(at.reached, "a worker comes to the step")
        ledger.check(gateway)
        gateway.kill()
        forget_leases(gateway)
    gateway.program = ("-m", "gateway")
    with gateway:
        until(lambda: count(gateway, "instances") == 0, "the backlog drains")
        ledger.check_all(gateway)
        run(gateway, "verify")


def forget_leases(gateway: GatewayProcess) -> None:
    """As time does."""
    with closing(sqlite3.connect(gateway.data / "index.sqlite", timeout=60)) as connection, connection:
        connection.execute("DELETE FROM leases")


def count(gateway: GatewayProcess, table: str) -> int:
    with closing(sqlite3.connect(gateway.data / "index.sqlite", timeout=60)) as connection:
        [[found]] = connection.execute(f"SELECT count(*) FROM {table}")
        return int(found)


def test_killed_amid_sealing(tmp_path: Path) -> None:
    kill_amid_sealing(tmp_path, [PUT, SWEPT])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_at_every_step_of_sealing(tmp_path: Path) -> None:
    kill_amid_sealing(tmp_path, [STAGED, DOOMED, PUT, VERIFIED, SEALED, SWEPT])


def test_killed_amid_deleting_and_reindexing(tmp_path: Path) -> None:
    delete_and_reindex(tmp_path, compacting=[COMPACTED], indexing=[ADOPTED, BROUGHT_BACK])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_at_every_step_of_deleting_and_reindexing(tmp_path: Path) -> None:
    delete_and_reindex(
        tmp_path,
        compacting=[STAGED, DOOMED, PUT, VERIFIED, COMPACTED, SWEPT],
        indexing=[ADOPTS, ADOPTED, COMMITS, COMMITTED, BRINGS_BACK, BROUGHT_BACK],
    )


def delete_and_reindex(tmp_path: Path, *, compacting: Sequence[str], indexing: Sequence[str]) -> None:
    """Two studies; half of each is sealed, and one instance of the first and all of the second is deleted."""
    ledger, data = Ledger(), str(tmp_path / "data")
    gateway = GatewayProcess(tmp_path / "data", env=LOOSE)
    first, second = f"{samples.ROOT}.1", f"{samples.ROOT}.2"
    one = (first, f"{first}.1", f"{first}.1.3")
    # The compactor rests until it is its turn, else it has done its work before on a slow machine.
    resting = point(tmp_path, "gateway.archive.compactor:Compactor.run_once:before")
    resting.arm()
    gateway.program = resting.program
    with gateway:
        with sending(gateway, ledger, [samples.ct(study, 1, n) for study in (1, 2) for n in range(1, 5)]):
            pass
        run(gateway, "seal", "--all")
        with sending(gateway, ledger, [samples.ct(study, 2, n) for study in (1, 2) for n in range(1, 5)]):
            pass
        for uids in (one, (second,)):
            with Held(point(tmp_path, ANNOUNCED), "delete", data, *uids):
                ledger.check(gateway)  # nobody was told that it is gone, and it is not
            ledger.check(gateway)
            with Held(point(tmp_path, REMOVED), "delete", data, *uids):
                strike(ledger, uids)
                ledger.check_all(gateway)
        ledger.check_all(gateway)
        gateway.kill()
    for step in compacting:
        at = point(tmp_path, f"step:{step}")
        at.arm()
        gateway.program = at.program
        gateway.start()
        until(at.reached, "a worker comes to the step")
        ledger.check(gateway)
        gateway.kill()
        forget_leases(gateway)
    gateway.program = ("-m", "gateway")
    for file in (tmp_path / "data").glob("index.sqlite*"):
        file.unlink()
    for name in indexing:
        with Held(point(tmp_path, name), "reindex", "--resume", "--data", data):
            pass
    run(gateway, "reindex", "--resume")
    with gateway:
        ledger.check_all(gateway)
        run(gateway, "verify")


def test_a_deletion_that_was_killed_is_finished_when_the_gateway_starts_again(tmp_path: Path) -> None:
    """Nobody asks for it again; half of what it names is sealed."""
    ledger, data = Ledger(), str(tmp_path / "data")
    gateway = GatewayProcess(tmp_path / "data", env=LOOSE)
    study, series = f"{samples.ROOT}.1", f"{samples.ROOT}.2.1"
    with gateway:
        with sending(gateway, ledger, [samples.ct(n, 1, m) for n in (1, 2) for m in range(1, 4)]):
            pass
        run(gateway, "seal", "--all")
        with sending(gateway, ledger, [samples.ct(n, 1, m) for n in (1, 2) for m in range(4, 6)]):
            pass
    for uids in ((study,), (f"{samples.ROOT}.2", series, f"{series}.2")):
        with Held(point(tmp_path, ANNOUNCED), "delete", data, *uids):
            pass
        strike(ledger, uids)
    gateway.program = point(tmp_path, ANNOUNCED).program  # which nobody is at; the workers do not wait for the dead
    with gateway:
        until(lambda: count(gateway, "studies") == 1, "the study goes")
        until(lambda: instances_of(gateway, series) == 4, "the instance goes")
        ledger.check_all(gateway)
    gateway.program = ("-m", "gateway")
    run(gateway, "verify")


def instances_of(gateway: GatewayProcess, series_uid: str) -> int:
    with closing(sqlite3.connect(gateway.data / "index.sqlite", timeout=60)) as connection:
        [[found]] = connection.execute("SELECT instance_count FROM series WHERE series_uid = ?", [series_uid])
        return int(found)


def strike(ledger: Ledger, uids: Sequence[str]) -> None:
    """What is below these UIDs was deleted."""
    for key in [key for key in ledger.sent if key[: len(uids)] == tuple(uids)]:
        del ledger.sent[key]
        ledger.acknowledged.discard(key)
