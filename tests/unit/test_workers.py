"""The threads of the workers: they go on by themselves after trouble, tell of it once, and end when told to."""

import threading
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
from structlog.testing import capture_logs

from gateway.archive import workers as workers_module
from gateway.archive.attempts import Attempts
from gateway.archive.jobs import workers
from gateway.archive.leases import SeriesLease
from gateway.archive.sealer import Sealing
from gateway.archive.steps import Stopped
from gateway.archive.workers import Job, Workers
from storage.errors import Unavailable
from storage.objects.memory import MemoryStore
from storage.packs.blocks import BlockReader
from tests.sealing import SERIES, STUDY, Archive, Clock
from tests.unit.fake_packing import FakePackingIndex
from tests.unit.test_compactor import DocumentsOfPacks
from tests.unit.test_metrics import figure

LONG = 60.0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds."""
    monkeypatch.setattr(workers_module, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(workers_module, "_LONGEST_PAUSE_SECONDS", 0.002)


def run_until(done: Event, job: Job, stop: Event | None = None) -> Workers:
    made = Workers([job], stop=stop or Event())
    made.start()
    assert done.wait(LONG)
    assert made.stop(LONG)
    return made


def test_a_job_runs_again_at_once_while_there_is_more_to_do() -> None:
    done = Event()
    left = [True, True, True, False]

    def run() -> bool:
        more = left.pop(0)
        if not more:
            done.set()
        return more

    run_until(done, Job("seal", run, every_seconds=3600))
    assert left == []


def test_a_nudge_wakes_a_job_that_rests() -> None:
    ran = [Event(), Event()]
    waiting = list(ran)

    def run() -> bool:
        waiting.pop(0).set()
        return False

    made = Workers([Job("seal", run, every_seconds=3600)], stop=Event())
    made.start()
    assert ran[0].wait(LONG)
    made.nudge()
    assert ran[1].wait(LONG)
    assert made.stop(LONG)


@pytest.mark.usefixtures("quick")
def test_trouble_is_told_of_once_and_its_end_too() -> None:
    done = Event()
    outcomes: list[Callable[[], bool]] = [fail, fail, fail, fail, lambda: True, fail, lambda: False]

    def run() -> bool:
        outcome = outcomes.pop(0)
        if not outcomes:
            done.set()
        return outcome()

    with capture_logs() as logs:
        run_until(done, Job("seal", run, every_seconds=3600))
    assert [line["event"] for line in logs] == ["waiting until it works again", "going on"] * 2
    assert logs[0]["why"] == "the bucket does not answer" and "after_seconds" in logs[1]


def fail() -> bool:
    raise Unavailable("the bucket does not answer")


@pytest.mark.usefixtures("quick")
def test_it_is_stalled_all_the_while_that_one_piece_of_work_waits_for_the_end_of_an_outage() -> None:
    done = Event()
    clock = Clock()
    attempts = Attempts("seal", clock=clock, failed=lambda: None)
    found: list[float] = []
    name = 'gateway_upkeep_stalled{act="seal"}'

    def do(_: str) -> None:
        if len(found) < 50:
            raise Unavailable("the bucket does not answer")

    def run() -> bool:
        if len(found) == 51:
            done.set()
            return False
        found.append(figure(name))
        clock.pass_(3)  # tried at each fourth run
        return attempts.run(["a"], key=str, do=do).done > 0

    with capture_logs() as logs:
        run_until(done, Job("seal", run, every_seconds=0.001))
    assert found[1:] == [1.0] * 50 and figure(name) == 0.0
    assert [line["event"] for line in logs] == ["waiting until it works again", "going on"]


@pytest.mark.usefixtures("quick")
def test_what_nobody_foresaw_ends_no_worker() -> None:
    done = Event()
    outcomes = [True, False]

    def run() -> bool:
        if outcomes.pop(0):
            raise ZeroDivisionError
        done.set()
        return False

    with capture_logs() as logs:
        run_until(done, Job("seal", run, every_seconds=3600))
    assert logs[0]["log_level"] == "error" and isinstance(logs[0]["exc_info"], ZeroDivisionError)


def test_stopping_wakes_those_that_rest_after_trouble() -> None:
    failed = Event()

    def run() -> bool:
        failed.set()
        raise Unavailable("away")

    run_until(failed, Job("seal", run, every_seconds=3600))


def test_a_job_that_does_not_end_in_time_is_told_of() -> None:
    begun, go_on = Event(), Event()

    def run() -> bool:
        begun.set()
        go_on.wait(LONG)
        raise Stopped

    made = Workers([Job("copy", run, every_seconds=1)], stop=Event())
    made.start()
    assert begun.wait(LONG)
    with capture_logs() as logs:
        assert not made.stop(0.01)
    assert logs[0]["acts"] == ["copy"]
    go_on.set()
    assert made.stop(LONG)


def test_workers_that_were_never_started_can_be_stopped() -> None:
    assert Workers([Job("seal", lambda: False, 1)], stop=Event()).stop(LONG)


def test_all_that_keeps_an_archive_in_shape(tmp_path: Path) -> None:
    clock = Clock()
    stores = {"spool": MemoryStore(), "archive": MemoryStore(), "copy": MemoryStore()}
    archive = Archive(FakePackingIndex(clock), stores, tmp_path, clock)
    archive.store(numbers=(1, 2, 3))
    copied = Event()
    confirm = archive.index.copied

    def confirmed(pack: object, store: str) -> None:
        confirm(pack, store)
        copied.set()

    archive.index.copied = confirmed
    sealing = Sealing(after_seconds=0, min_free_bytes=0)
    made = workers(
        archive.index,
        stores,
        DocumentsOfPacks(archive),
        BlockReader(stores["archive"]),
        staging=tmp_path,
        sealing=sealing,
    )
    made.start()
    while not copied.wait(0.05):
        made.nudge()
    assert made.stop(LONG)
    archive.check_all_is_read_back()
    assert [meta.key for meta in stores["copy"].scan()] == [meta.key for meta in stores["archive"].scan()]
    assert archive.index.leases == {}


def test_nothing_is_sealed_when_all_is_to_stay_loose(tmp_path: Path) -> None:
    stores = {"spool": MemoryStore(), "archive": MemoryStore()}
    archive = Archive(FakePackingIndex(Clock()), stores, tmp_path, Clock())
    made = workers(
        archive.index, stores, DocumentsOfPacks(archive), BlockReader(stores["archive"]), staging=tmp_path, sealing=None
    )
    assert [thread.name for thread in made._threads] == ["compact", "merge", "sweep", "delete", "tombstones", "cache"]


def test_a_lease_is_renewed_while_it_is_held(tmp_path: Path) -> None:
    index = FakePackingIndex(Clock())
    renewed, calls = Event(), []

    def before(method: str) -> None:
        calls.append(threading.current_thread().name)
        if calls.count("lease") >= 2:
            renewed.set()

    index.before = before
    with SeriesLease(index, STUDY, SERIES, seconds=0.02):
        assert renewed.wait(LONG)
    assert index.leases == {}
