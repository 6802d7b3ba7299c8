"""The sweeper: doomed objects go, what came to be named stays, and trouble in one store holds up no other."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway import metrics
from gateway.archive.leases import SeriesLease
from gateway.archive.steps import VERIFIED
from storage.dicom.identity import Scope
from storage.errors import Unavailable
from storage.objects import Location
from storage.objects.memory import MemoryStore
from tests.sealing import HOUR, SERIES, STUDY, Archive, Clock, Crash, at_call, crash_at, take_lease
from tests.unit.fake_packing import FakePackingIndex
from tests.unit.fakes import WatchedStore


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    clock = Clock()
    stores = {"spool": MemoryStore(), "archive": MemoryStore(), "copy": MemoryStore()}
    return Archive(FakePackingIndex(clock), stores, tmp_path, clock)


def test_a_deleted_pack_goes_from_the_archive_and_from_its_copy(archive: Archive) -> None:
    archive.store(numbers=(1, 2))
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    archive.copier().run_once()
    assert [meta.key for meta in archive.stores["copy"].scan()] == [pack.location.key]
    archive.remove(Scope(STUDY))
    archive.clock.pass_(61)
    told: list[str] = []
    archive.sweeper(deleted=told.append).run_once()
    assert set(told) == {pack.location.key}, "so that it leaves the cache"
    assert [list(store.scan()) for store in archive.stores.values()] == [[], [], []]
    archive.check_nothing_is_left_over()


def test_while_the_copy_is_away_nothing_is_forgotten(archive: Archive) -> None:
    archive.store()
    archive.sealer().seal_series(STUDY, SERIES)
    archive.copier().run_once()
    archive.remove(Scope(STUDY))
    archive.clock.pass_(61)

    def away(method: str, key: str) -> None:
        raise Unavailable("the second data centre does not answer")

    stores = archive.stores
    archive.stores = {**stores, "copy": WatchedStore(stores["copy"], away)}
    with pytest.raises(Unavailable):
        archive.sweeper().run_once()
    assert list(stores["spool"].scan()) == [], "the spool is swept all the same"
    archive.stores = stores
    archive.sweeper().run_once()
    assert list(stores["copy"].scan()) == []
    archive.check_nothing_is_left_over()


def test_a_doomed_object_that_a_pack_names_stays(archive: Archive) -> None:
    archive.store()
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    archive.index.doom([pack.location, Location("copy", pack.location.key, 0, 1)], 0)
    archive.copier().run_once()
    archive.clock.pass_(2 * HOUR)
    told: list[str] = []
    archive.sweeper(deleted=told.append).run_once()
    archive.check_all_is_read_back()
    assert told == []
    assert [meta.key for meta in archive.stores["copy"].scan()] == [pack.location.key]
    archive.check_nothing_is_left_over()


def test_a_pack_whose_series_is_being_worked_on_waits(archive: Archive) -> None:
    archive.store()
    with pytest.raises(Crash):
        archive.sealer(at=crash_at(VERIFIED)).seal_series(STUDY, SERIES)
    archive.clock.pass_(2 * HOUR)
    with SeriesLease(archive.index, STUDY, SERIES):
        assert archive.sweeper().run_once() == 0
    assert len(list(archive.stores["archive"].scan())) == 1
    assert archive.sweeper().run_once() == 1
    archive.check_nothing_is_left_over()


def test_who_was_reading_has_a_minute_of_grace(archive: Archive) -> None:
    archive.store()
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    archive.clock.pass_(59)
    archive.remove(Scope(STUDY))
    assert archive.sweeper().run_once() == 0
    archive.clock.pass_(2)
    assert archive.sweeper().run_once() == 1, "the loose object"
    assert [meta.key for meta in archive.stores["archive"].scan()] == [pack.location.key]
    archive.clock.pass_(59)
    assert archive.sweeper().run_once() == 1
    archive.check_nothing_is_left_over()


def test_who_has_lost_the_lease_deletes_nothing(archive: Archive) -> None:
    archive.store()
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    archive.remove(Scope(STUDY))
    archive.clock.pass_(HOUR)
    archive.index.before = at_call("names", lambda: take_lease(archive))
    assert archive.sweeper().run_once() == 1, "the loose object"
    assert [meta.key for meta in archive.stores["archive"].scan()] == [pack.location.key]
    archive.clock.pass_(HOUR)
    assert archive.sweeper().run_once() == 1
    archive.check_nothing_is_left_over()


def test_what_cannot_be_deleted_hides_nothing_else(archive: Archive) -> None:
    stuck = [Location("archive", f"packs/local/{STUDY}/{SERIES}/{n:032x}.zip", 0, 1) for n in range(1100)]
    archive.index.doom(stuck, 0)
    archive.stores["spool"].put("spool/late", [b"1"])
    archive.index.doom([Location("spool", "spool/late", 0, 1)], 1)

    def away(method: str, key: str) -> None:
        raise Unavailable("the bucket does not answer")

    archive.stores = {**archive.stores, "archive": WatchedStore(archive.stores["archive"], away)}
    sweeper = archive.sweeper()
    for _ in range(2):
        with pytest.raises(Unavailable):
            sweeper.run_once()
    assert list(archive.stores["spool"].scan()) == []


def test_a_store_that_is_not_configured_holds_up_nothing_and_is_told_of_once(archive: Archive) -> None:
    archive.index.doom([Location("former", f"spool/{number}", 0, 1) for number in range(2000)], 0)
    archive.stores["spool"].put("spool/late", [b"1"])
    archive.index.doom([Location("spool", "spool/late", 0, 1)], 1)
    sweeper = archive.sweeper()
    with capture_logs() as logs:
        assert [sweeper.run_once() for _ in range(2)] == [1, 0]
    assert [line["store"] for line in logs] == ["former"]
    assert "gateway_doomed_objects 1000.0" in metrics.render().decode()
    assert len(archive.index.doomed(archive.clock(), 9999)) == 2000


def test_a_copy_goes_though_the_worker_that_deleted_the_pack_did_not_have_it(archive: Archive) -> None:
    archive.store(numbers=(1, 2))
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    stores = archive.stores
    archive.copier().run_once()
    archive.remove(Scope(STUDY))
    archive.clock.pass_(61)
    archive.stores = {name: stores[name] for name in ("spool", "archive")}
    archive.sweeper().run_once()
    assert list(stores["archive"].scan()) == []
    assert [meta.key for meta in stores["copy"].scan()] == [pack.location.key]
    archive.stores = stores
    archive.sweeper().run_once()
    assert list(stores["copy"].scan()) == []
    archive.check_nothing_is_left_over()


def test_killed_between_deleting_and_forgetting_it_deletes_again(archive: Archive) -> None:
    archive.store(numbers=(1, 2, 3))
    archive.sealer().seal_series(STUDY, SERIES)
    archive.clock.pass_(61)
    with pytest.raises(Crash):
        archive.sweeper(at=crash_at("swept")).run_once()
    assert archive.sweeper().run_once() == 3
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()
