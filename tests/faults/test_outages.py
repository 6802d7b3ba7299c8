"""Servers that the gateway needs are killed and come back while it stores and seals: nothing is lost, nothing twice."""

import resource
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset

from tests import samples
from tests.faults.commands import run
from tests.faults.ledger import Ledger, sending, until
from tests.gateway_process import GatewayProcess
from tests.postgres import Postgres, postgres
from tests.seaweed import Seaweed
from tests.seaweed import seaweed as fresh_seaweed

pytestmark = pytest.mark.timeout(300)  # servers start and stop, also on a machine that is busy
IMPATIENT = "&retry_seconds=1&connect_timeout_seconds=1&read_timeout_seconds=5"
SEALING = {"GATEWAY_ARCHIVE__SEAL_AFTER_SECONDS": "0"}


def slices(study: int, series: int, numbers: int) -> Iterator[Dataset]:
    """Instances of so many series, in turn."""
    for number in range(1, numbers + 1):
        for each in range(1, series + 1):
            yield samples.ct(study, each, number)


def sealed(gateway: GatewayProcess) -> int:
    """How many packs the index names."""
    return count(gateway, "packs")


def count(gateway: GatewayProcess, table: str) -> int:
    with closing(sqlite3.connect(gateway.data / "index.sqlite", timeout=60)) as connection:
        [[found]] = connection.execute(f"SELECT count(*) FROM {table}")
        return int(found)


def drained(loose: Callable[[], int]) -> None:
    until(lambda: loose() == 0, "the backlog drains")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """One to be killed."""
    with fresh_seaweed(tmp_path_factory.mktemp("mortal") / "server") as server:
        server.make_bucket("archive")
        yield server


def stores(server: Seaweed, *names: str) -> dict[str, str]:
    where = uuid.uuid4().hex
    urls = {f"GATEWAY_{name.upper()}__URL": server.url("archive", f"{where}/{name}") + IMPATIENT for name in names}
    return SEALING | urls


def outages(tmp_path: Path, server: Seaweed, *names: str, rounds: int, series: int, verified: bool = True) -> Ledger:
    """Kill it amid storing and sealing, `rounds` times."""
    ledger = Ledger()
    with GatewayProcess(tmp_path / "data", env=stores(server, *names)) as gateway:
        for study in range(1, rounds + 1):
            packs, got = sealed(gateway), len(ledger.acknowledged)
            with sending(gateway, ledger, slices(study, series, 3)):
                until(lambda: sealed(gateway) > packs and len(ledger.acknowledged) > got + series, "some are sealed")  # noqa: B023
                server.kill()
                if "spool" not in names:
                    until(lambda: len(ledger.acknowledged) == got + 3 * series, "storing goes on")  # noqa: B023
                else:
                    until(lambda: sum(ledger.refused.values()), "refused while there is nowhere to store")
                server.restart()
            drained(lambda: count(gateway, "instances"))
            ledger.check_all(gateway)
        if verified:
            run(gateway, "verify")
    return ledger


def test_the_archives_bucket_is_killed_and_storing_goes_on(tmp_path: Path, server: Seaweed) -> None:
    ledger = outages(tmp_path, server, "archive", rounds=1, series=8)
    assert not ledger.refused


@pytest.mark.long
def test_the_bucket_of_spool_and_archive_is_killed(tmp_path: Path, server: Seaweed) -> None:
    ledger = outages(tmp_path, server, "spool", "archive", rounds=1, series=8, verified=False)
    assert ledger.refused


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("names", [("archive",), ("spool", "archive")], ids=["archive", "spool and archive"])
def test_buckets_are_killed_again_and_again(tmp_path: Path, server: Seaweed, names: tuple[str, ...]) -> None:
    outages(tmp_path, server, *names, rounds=10, series=20)


@pytest.fixture
def database() -> Iterator[Postgres]:
    """One to be killed."""
    with postgres() as server:
        yield server


def postgres_outages(tmp_path: Path, database: Postgres, rounds: int, series: int, *, patient: bool) -> None:
    name = database.make_database()
    ledger = Ledger()
    env = SEALING | {"GATEWAY_INDEX__URL": database.url(name)}

    def found(table: str) -> int:
        [[number]] = database.run(f"SELECT count(*) FROM {table}", name)
        return int(str(number))

    with GatewayProcess(tmp_path / "data", env=env) as gateway:
        for study in range(1, rounds + 1):
            got, refused = len(ledger.acknowledged), sum(ledger.refused.values())
            with sending(gateway, ledger, slices(study, series, 4)):
                until(lambda: len(ledger.acknowledged) > got + series, "some are stored")  # noqa: B023
                database.kill()
                until(lambda: sum(ledger.refused.values()) > refused, "refused while there is no index")  # noqa: B023
                database.restart()
                if not patient:
                    database.run("DELETE FROM leases", name)  # else what was being sealed waits until they run out
            drained(lambda: found("instances"))
            ledger.check_all(gateway)
        assert set(ledger.refused) <= {503, 0xA700}
        run(gateway, "verify")


def test_the_database_is_killed(tmp_path: Path, database: Postgres) -> None:
    postgres_outages(tmp_path, database, rounds=1, series=6, patient=False)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_database_is_killed_again_and_again(tmp_path: Path, database: Postgres) -> None:
    postgres_outages(tmp_path, database, rounds=6, series=20, patient=True)


def test_the_disk_is_full_while_packs_are_written(tmp_path: Path) -> None:
    """A limit on the size of files makes the kernel refuse writes in the middle, as a full disk does."""
    env = {"GATEWAY_ARCHIVE__SEAL_AFTER_SECONDS": "3600", "GATEWAY_ARCHIVE__SEAL_BYTES": str(8 << 20)}
    ledger = Ledger()
    with GatewayProcess(tmp_path / "data", env=env) as gateway:
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (6 << 20, resource.RLIM_INFINITY))
        with sending(gateway, ledger, [samples.ct(1, 1, n, size=512) for n in range(18)]):
            pass
        until(lambda: 'gateway_upkeep_stalled{act="seal"} 1.0' in metrics(gateway), "sealing fails")
        with sending(gateway, ledger, slices(2, 1, 3)):
            pass
        assert count(gateway, "packs") == 0
        ledger.check_all(gateway)
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        until(lambda: count(gateway, "packs") == 1, "it is sealed when there is room")
        ledger.check_all(gateway)
        assert len(list((tmp_path / "data").rglob("*.zip"))) == 1
        run(gateway, "verify")


def metrics(gateway: GatewayProcess) -> str:
    return httpx.get(f"{gateway.web}/metrics", timeout=60).raise_for_status().text
