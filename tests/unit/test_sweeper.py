"""The sweeper: doomed objects go, what came to be named stays, and trouble in one store holds up no other."""

from collections.abc import Iterable
from dataclasses import dataclass, field
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


@pytest.mark.parametrize("confirmed", [True, False], ids=["a copy", "a copy that nobody knows"])
def test_while_the_copy_is_away_the_archive_is_swept_and_the_copy_is_not_forgotten(
    archive: Archive, confirmed: bool
) -> None:
    archive.store()
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    archive.copier().run_once()
    if not confirmed:
        archive.index.copies.clear()
    archive.remove(Scope(STUDY))
    archive.clock.pass_(61)
    stores = archive.stores
    archive.stores = {**stores, "copy": WatchedStore(stores["copy"], away)}
    for _ in range(2):
        with pytest.raises(Unavailable):
            archive.sweeper().run_once()
        archive.clock.pass_(3600)
    assert [list(stores[name].scan()) for name in ("spool", "archive")] == [[], []]
    assert [one.key for one in archive.index.doomed(archive.clock(), 10)] == [pack.location.key]
    told = metrics.render().decode()
    assert 'gateway_doomed_objects{store="copy"} 1.0' in told and 'gateway_doomed_objects{store="archive"} 0.0' in told
    assert 'gateway_doomed_seconds{store="copy"} 36' in told and 'gateway_doomed_seconds{store="archive"} 0.0' in told
    archive.stores = stores
    archive.sweeper().run_once()
    assert list(stores["copy"].scan()) == []
    assert 'gateway_doomed_seconds{store="copy"} 0.0' in metrics.render().decode()
    archive.check_nothing_is_left_over()


def away(method: str, key: str) -> None:
    raise Unavailable("the data centre does not answer")


@dataclass
class Locking(WatchedStore):
    """A store that refuses to delete some objects, and deletes nothing of a request with one of them."""

    locked: set[str] = field(default_factory=set)
    asked: list[list[str]] = field(default_factory=list)

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self.asked.append(keys)
        if self.locked.intersection(keys):
            raise Unavailable("the S3 store gives these credentials no right to delete (it answers 403 AccessDenied)")
        self.inner.delete(keys)


@pytest.mark.parametrize("locked", [{0}, {7, 8, 30}, set(range(40))], ids=["one", "some", "all"])
def test_a_loose_object_that_cannot_be_deleted_holds_up_no_other_and_is_named(
    archive: Archive, locked: set[int]
) -> None:
    places = [Location("spool", f"spool/{number:02}", 0, 1) for number in range(40)]
    for place in places:
        archive.stores["spool"].put(place.key, [b"1"])
    archive.index.doom(places, 0)
    stuck = {places[number].key for number in locked}
    store = Locking(archive.stores["spool"], locked=stuck)
    archive.stores = {**archive.stores, "spool": store}
    sweeper = archive.sweeper()
    with capture_logs() as logs:
        assert sweeper.run_once() == 40 - len(stuck)
    assert {meta.key for meta in store.scan()} == stuck
    assert {one.key for one in archive.index.doomed(archive.clock(), 100)} == stuck
    (line,) = [line for line in logs if line["event"] == "objects cannot be deleted"]
    assert (line["store"], line["count"], set(line["keys"]) <= stuck) == ("spool", len(stuck), True)
    store.asked.clear()
    assert sweeper.run_once() == 0
    assert store.asked == [], "they rest"
    store.locked = set()
    archive.clock.pass_(HOUR)
    assert sweeper.run_once() == len(stuck)
    archive.check_nothing_is_left_over()


@pytest.mark.parametrize("where", ["archive", "copy"])
def test_a_pack_that_cannot_be_deleted_holds_up_no_other(archive: Archive, where: str) -> None:
    for series in (1, 2):
        archive.store(1, series)
    packs = [pack for series in (1, 2) for pack in archive.sealer().seal_series(STUDY, f"{STUDY}.{series}")]
    archive.copier().run_once()
    archive.remove(Scope(STUDY))
    archive.clock.pass_(61)
    store = Locking(archive.stores[where], locked={packs[0].location.key})
    archive.stores = {**archive.stores, where: store}
    sweeper = archive.sweeper()
    sweeper.run_once()
    assert [meta.key for meta in store.scan()] == [packs[0].location.key]
    assert {one.store for one in archive.index.doomed(1 << 62, 100)} >= {where}
    store.locked = set()
    archive.clock.pass_(HOUR)
    sweeper.run_once()
    archive.clock.pass_(HOUR)
    sweeper.run_once()
    archive.check_nothing_is_left_over()
    assert list(archive.stores["copy"].scan()) == []


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
    assert 'gateway_doomed_objects{store="former"} 2000.0' in metrics.render().decode()
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
