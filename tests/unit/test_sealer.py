"""The sealer: quiet series become packs, and nothing that was stored is ever away."""

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from gateway import metrics
from gateway.archive.leases import Busy, SeriesLease
from gateway.archive.sealer import PartlySealed
from gateway.archive.steps import DOOMED, PUT, STAGED, STEPS, VERIFIED, Stopped
from storage.dicom.identity import Scope
from storage.errors import Conflict, Exhausted, NotFound, Unavailable
from storage.objects.disk import DiskStore
from storage.objects.memory import MemoryStore
from storage.packs import Damaged, Pack
from storage.packs.read import read_manifest, recover
from storage.packs.verify import verify_pack
from tests import samples
from tests.sealing import HOUR, SERIES, STUDY, Archive, Clock, Crash, crash_at, file_of, once, take_lease
from tests.unit.fake_packing import FakePackingIndex
from tests.unit.fakes import WatchedStore


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def archive(tmp_path: Path, clock: Clock) -> Archive:
    (tmp_path / "staging").mkdir()
    stores = {"spool": MemoryStore(), "archive": MemoryStore()}
    return Archive(FakePackingIndex(clock), stores, tmp_path / "staging", clock)


def sweep(archive: Archive, clock: Clock) -> None:
    clock.pass_(2 * HOUR)
    while archive.sweeper().run_once():
        pass


def test_a_quiet_series_becomes_a_pack_and_its_loose_objects_go_later(archive: Archive, clock: Clock) -> None:
    archive.store(numbers=range(1, 6))
    sealer = archive.sealer()
    clock.pass_(599)
    assert sealer.run_once().done == 0
    clock.pass_(2)
    assert sealer.run_once().done == 1
    (pack,) = archive.index.packs()
    assert [one.instance_number for one in pack.instances] == [1, 2, 3, 4, 5]
    assert read_manifest(archive.stores["archive"], archive.stores["archive"].head(pack.location.key), "archive")
    archive.check_all_is_read_back()
    assert len(list(archive.stores["spool"].scan())) == 5, "who began to read a loose object may finish"
    assert archive.sweeper().run_once() == 0
    clock.pass_(61)
    assert archive.sweeper().run_once() == 5
    archive.check_nothing_is_left_over()
    assert sealer.run_once().done == 0


def test_a_series_with_much_is_sealed_though_it_is_not_quiet(archive: Archive) -> None:
    archive.store(numbers=range(1, 4))
    length = len(file_of(1, 1, 1))
    assert archive.sealer(series_bytes=3 * length + 1).run_once().done == 0
    assert archive.sealer(series_bytes=3 * length).run_once().done == 1


def test_late_instances_and_versions_make_another_pack(archive: Archive, clock: Clock) -> None:
    archive.store(numbers=(1, 2, 3))
    archive.sealer().seal_series(STUDY, SERIES)
    archive.store(numbers=(4, 5))
    archive.store(numbers=(2,), seed=1)
    archive.check_all_is_read_back()
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    assert [(one.instance_number, one.revision) for one in pack.instances] == [(2, 2), (4, 1), (5, 1)]
    assert archive.sealer().seal_series(STUDY, SERIES) == []
    sweep(archive, clock)
    archive.check_all_is_read_back()
    archive.check_each_lies_once()
    archive.check_nothing_is_left_over()


def test_versions_that_wait_together_are_sealed_together(archive: Archive) -> None:
    for seed in range(3):
        archive.store(numbers=(1, 2), seed=seed)
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    assert [(one.instance_number, one.revision) for one in pack.instances] == [
        (n, r) for n in (1, 2) for r in (1, 2, 3)
    ]
    key = pack.location.key
    names = read_manifest(archive.stores["archive"], archive.stores["archive"].head(key), "archive").names
    assert names[:3] == (f"{SERIES}.1.v1.dcm", f"{SERIES}.1.v2.dcm", f"{SERIES}.1.dcm")
    archive.check_all_is_read_back()


def names_in(archive: Archive, pack: Pack) -> list[str]:
    store = archive.stores["archive"]
    return [name for name in read_manifest(store, store.head(pack.location.key), "archive").names if "dcm" in name]


def test_of_versions_that_do_not_lie_together_the_served_one_has_the_plain_name(archive: Archive) -> None:
    archive.store(numbers=(1, 2, 3))
    archive.store_file(file_of(1, 1, 1, seed=1, InstanceNumber=9))
    archive.store_file(file_of(1, 1, 3, seed=1, InstanceNumber=0))
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    assert [(one.instance_number, one.revision) for one in pack.instances] == [(0, 2), (1, 1), (2, 1), (3, 1), (9, 2)]
    plain, superseded = f"{SERIES}.{{}}.dcm", f"{SERIES}.{{}}.v1.dcm"
    expected = [plain.format(3), superseded.format(1), plain.format(2), superseded.format(3), plain.format(1)]
    assert names_in(archive, pack) == expected
    archive.check_all_is_read_back()


def test_a_version_whose_newer_one_is_in_another_pack_is_named_as_superseded(archive: Archive) -> None:
    archive.store(numbers=(1, 2))
    archive.store_file(file_of(1, 1, 1, seed=1, InstanceNumber=9))
    packs = archive.sealer(max_pack_bytes=10).seal_series(STUDY, SERIES)
    assert [names_in(archive, pack)[0] for pack in packs] == [f"{SERIES}.{n}.dcm" for n in ("1.v1", "2", "1")]


def test_a_series_that_is_larger_than_a_pack_becomes_several(archive: Archive, clock: Clock) -> None:
    archive.store(numbers=range(1, 8))
    length = len(file_of(1, 1, 1))
    packs = archive.sealer(max_pack_bytes=int(3.5 * length)).seal_series(STUDY, SERIES)
    assert [len(pack.instances) for pack in packs] == [3, 3, 1]
    archive.store(2, 1, (1, 2))
    packs = archive.sealer(max_pack_bytes=10).seal_series(f"{samples.ROOT}.2", f"{samples.ROOT}.2.1")
    assert [len(pack.instances) for pack in packs] == [1, 1], "what is larger than a pack has one of its own"
    sweep(archive, clock)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


@pytest.mark.parametrize("threads", [0, 3])
def test_reading_ahead_keeps_the_order(archive: Archive, threads: int) -> None:
    archive.store(numbers=range(1, 31))
    (pack,) = archive.sealer(threads=threads).seal_series(STUDY, SERIES)
    assert [one.instance_number for one in pack.instances] == list(range(1, 31))
    archive.check_all_is_read_back()


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("harm", ["flip", "flip header", "cut", "lose"])
def test_a_damaged_loose_object_stays_loose_and_holds_up_nothing(
    archive: Archive, clock: Clock, harm: str, threads: int
) -> None:
    archive.store(1, 1, (1, 2, 3))
    archive.store(1, 2, (1, 2))
    key = next(one.location.key for one in archive.index.loose(STUDY, SERIES) if one.packed.instance_number == 2)
    data = file_of(1, 1, 2)
    if harm == "lose":
        archive.stores["spool"].delete([key])
    else:
        at = 0 if harm == "flip header" else len(data) - 1
        broken = data[:-3] if harm == "cut" else data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        archive.stores["spool"].put(key, [broken], if_absent=False)
    clock.pass_(601)
    sealer = archive.sealer(threads=threads)
    with capture_logs() as logs:
        tally = sealer.run_once()
    assert (tally.done, tally.failed) == (1, 1)
    (why,) = [line["why"] for line in logs if line["log_level"] == "error"]
    assert f"{SERIES}.2 in {key}" in why
    assert [one.location.key for one in archive.index.loose(STUDY, SERIES)] == [key]
    (pack,) = archive.index.packs(Scope(STUDY, SERIES))
    assert names_in(archive, pack) == [f"{SERIES}.1.dcm", f"{SERIES}.3.dcm"]
    found = recover(archive.stores["archive"], archive.stores["archive"].head(pack.location.key), "archive", bytes)
    assert len(found.documents) == 2 and not verify_pack(archive.stores["archive"], found)
    assert "gateway_damaged_loose_objects 1.0" in metrics.render().decode()
    assert sealer.run_once().failed == 0, "it is not tried again at once"
    archive.stores["spool"].put(key, [data], if_absent=False)
    clock.pass_(6)
    assert sealer.run_once().done == 1
    assert "gateway_damaged_loose_objects 0.0" in metrics.render().decode()
    sweep(archive, clock)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


def test_what_comes_after_a_damaged_instance_does_not_wait_with_it(archive: Archive, clock: Clock) -> None:
    archive.store()
    (one,) = archive.index.loose(STUDY, SERIES)
    archive.stores["spool"].put(one.location.key, [b"x"], if_absent=False)
    clock.pass_(601)
    sealer = archive.sealer()
    for _ in range(12):
        sealer.run_once()
        clock.pass_(3600)
    sealer.run_once()
    archive.store(numbers=(2,))
    clock.pass_(601)
    assert sealer.run_once().failed == 1
    assert [len(pack.instances) for pack in archive.index.packs()] == [1]


def test_when_all_that_is_left_is_damaged_no_pack_is_made(archive: Archive) -> None:
    archive.store(numbers=range(1, 15))
    for one in archive.index.loose(STUDY, SERIES):
        archive.stores["spool"].put(one.location.key, [b"x"], if_absent=False)
    with pytest.raises(PartlySealed, match=r"14 damaged .* no others .* and 4 more") as caught:
        archive.sealer().seal_series(STUDY, SERIES)
    assert len(caught.value.damaged) == 14 and caught.value.packs == ()
    assert list(archive.stores["archive"].scan()) == [] == list(archive.staging.iterdir())


def test_what_fails_is_tried_ever_more_rarely(archive: Archive, clock: Clock) -> None:
    archive.store()
    (one,) = archive.index.loose(STUDY, SERIES)
    archive.stores["spool"].put(one.location.key, [b"x"], if_absent=False)
    clock.pass_(601)
    sealer = archive.sealer()
    tried = []
    for _ in range(4000):
        if sealer.run_once().failed:
            tried.append(clock.now)
        clock.pass_(5)
    pauses = [(after - before) // 1_000_000 for before, after in pairwise(tried)]
    assert pauses[:5] == [5, 10, 20, 40, 80]
    assert pauses[-1] == 3600


def test_a_series_that_fails_as_nobody_foresaw_holds_up_no_other(archive: Archive, clock: Clock) -> None:
    for series in (1, 2, 3):
        archive.store(1, series)
        clock.pass_(1)
    clock.pass_(601)
    sealer = archive.sealer(at=once(STAGED, lambda: 1 // 0))
    with capture_logs() as logs:
        tally = sealer.run_once()
    assert (tally.done, tally.failed) == (2, 1)
    assert [isinstance(line["exc_info"], ZeroDivisionError) for line in logs if line["log_level"] == "error"] == [True]
    clock.pass_(6)
    assert sealer.run_once().done == 1


def test_what_fails_hides_no_other_series(archive: Archive, clock: Clock) -> None:
    for series in range(1, 41):
        archive.store(1, series)
        (one,) = archive.index.loose(STUDY, f"{STUDY}.{series}")
        archive.stores["spool"].put(one.location.key, [b"x"], if_absent=False)
        clock.pass_(1)
    archive.store(2, 1)
    clock.pass_(601)
    sealer = archive.sealer()
    assert sum(sealer.run_once().done for _ in range(3)) == 1


def test_instances_that_come_while_sealing_stay_loose(archive: Archive) -> None:
    archive.store(numbers=(1, 2))
    (pack,) = archive.sealer(at=once(STAGED, lambda: archive.store(numbers=(3,)))).seal_series(STUDY, SERIES)
    assert len(pack.instances) == 2
    assert [one.packed.instance_number for one in archive.index.loose(STUDY, SERIES)] == [3]
    archive.check_all_is_read_back()


def test_a_version_that_comes_while_sealing_is_served(archive: Archive, clock: Clock) -> None:
    archive.store(numbers=(1, 2))
    archive.sealer(at=once(VERIFIED, lambda: archive.store(numbers=(2,), seed=7))).seal_series(STUDY, SERIES)
    archive.check_all_is_read_back()
    archive.sealer().seal_series(STUDY, SERIES)
    sweep(archive, clock)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


@pytest.mark.parametrize("step", [STAGED, PUT, VERIFIED])
@pytest.mark.parametrize("scope", [Scope(STUDY), Scope(STUDY, SERIES, f"{SERIES}.2")])
def test_what_is_deleted_while_sealing_does_not_come_back(
    archive: Archive, clock: Clock, step: str, scope: Scope
) -> None:
    archive.store(numbers=(1, 2, 3))
    with pytest.raises(Conflict):
        archive.sealer(at=once(step, lambda: archive.remove(scope))).seal_series(STUDY, SERIES)
    archive.check_all_is_read_back()
    with pytest.raises(NotFound):
        archive.index.locate(scope)
    archive.sealer().seal_series(STUDY, SERIES)
    clock.pass_(61)  # not an hour, after which nothing would be left in any case
    archive.sweeper().run_once()
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()
    assert not any(
        file_of(1, 1, 2) in archive.stores["archive"].get(m.key).read() for m in archive.stores["archive"].scan()
    )


def test_an_object_that_vanishes_because_it_is_deleted_is_no_damage(archive: Archive) -> None:
    archive.store(numbers=(1, 2))

    def deleted(method: str, key: str) -> None:
        if method == "get" and archive.sent:
            archive.remove(Scope(STUDY))
            archive.stores["spool"].inner.delete([key])  # type: ignore[attr-defined]

    archive.stores = {**archive.stores, "spool": WatchedStore(archive.stores["spool"], deleted)}
    with pytest.raises(NotFound):
        archive.sealer().seal_series(STUDY, SERIES)


def test_two_sealers_never_seal_a_series_twice(archive: Archive, clock: Clock) -> None:
    for series in range(1, 9):
        archive.store(1, series, range(1, 6))
    clock.pass_(601)
    sealers = [archive.sealer() for _ in range(4)]
    threads = [threading.Thread(target=sealer.run_once) for sealer in sealers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    archive.sealer().run_once()
    assert len(list(archive.index.packs())) == 8
    archive.check_each_lies_once()
    sweep(archive, clock)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


def test_a_series_that_another_has_is_passed_over(archive: Archive, clock: Clock) -> None:
    archive.store()
    clock.pass_(601)
    with SeriesLease(archive.index, STUDY, SERIES):
        with pytest.raises(Busy):
            archive.sealer().seal_series(STUDY, SERIES)
        assert archive.sealer().run_once().busy == 1
    assert archive.sealer().run_once().done == 1
    assert archive.index.leases == {}


def test_who_has_lost_the_lease_changes_nothing(archive: Archive, clock: Clock) -> None:
    archive.store()

    def stall() -> None:
        clock.pass_(HOUR)
        archive.index.lease(f"seal/{STUDY}/{SERIES}", "another", 60)

    with pytest.raises(Busy):
        archive.sealer(at=once(PUT, stall)).seal_series(STUDY, SERIES)
    assert list(archive.index.packs()) == []
    clock.pass_(61)
    archive.sweeper().run_once()
    assert list(archive.stores["archive"].scan()) == []
    archive.sealer().seal_series(STUDY, SERIES)
    archive.check_all_is_read_back()


def test_a_lease_that_another_had_in_between_is_not_taken_anew(archive: Archive) -> None:
    archive.store()

    def stall() -> None:
        take_lease(archive)
        archive.index.release(f"seal/{STUDY}/{SERIES}", "another")

    with pytest.raises(Busy):
        archive.sealer(at=once(VERIFIED, stall)).seal_series(STUDY, SERIES)
    assert list(archive.index.packs()) == [] and archive.index.leases == {}


def test_who_has_lost_the_lease_puts_nothing(archive: Archive) -> None:
    archive.store()
    with pytest.raises(Busy):
        archive.sealer(at=once(DOOMED, lambda: take_lease(archive))).seal_series(STUDY, SERIES)
    assert list(archive.stores["archive"].scan()) == []


@pytest.mark.parametrize("harm", [None, b"half a pack"])
def test_what_an_earlier_run_left_is_left_alone_and_goes(archive: Archive, clock: Clock, harm: bytes | None) -> None:
    archive.store(numbers=(1, 2))
    with pytest.raises(Crash):
        archive.sealer(at=crash_at(VERIFIED)).seal_series(STUDY, SERIES)
    (left,) = archive.stores["archive"].scan()
    if harm:
        archive.stores["archive"].put(left.key, [harm], if_absent=False)
    touched: set[str] = set()
    watched = WatchedStore(archive.stores["archive"], lambda method, key: touched.add(key))
    (pack,) = replace(archive, stores={**archive.stores, "archive": watched}).sealer().seal_series(STUDY, SERIES)
    assert touched == {pack.location.key} and ("archive", left.key) in archive.index.removals
    clock.pass_(2 * HOUR)
    archive.sweeper().run_once()
    assert [meta.key for meta in archive.stores["archive"].scan()] == [pack.location.key]
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


def test_a_deletion_that_comes_late_never_means_a_pack_that_was_sealed_since(archive: Archive, clock: Clock) -> None:
    archive.store(numbers=(1, 2))
    archive.sealer().seal_series(STUDY, SERIES)
    archive.remove(Scope(STUDY))
    clock.pass_(61)

    def stall() -> None:
        clock.pass_(HOUR)
        archive.store(numbers=(1, 2))
        archive.sealer().seal_series(STUDY, SERIES)

    at_delete = once("delete", stall)
    watched = WatchedStore(archive.stores["archive"], lambda method, key: at_delete(method))
    replace(archive, stores={**archive.stores, "archive": watched}).sweeper().run_once()
    assert len(list(archive.index.packs())) == 1
    archive.check_all_is_read_back()
    sweep(archive, clock)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


def test_what_was_put_in_vain_goes_soon(archive: Archive, clock: Clock) -> None:
    archive.store(numbers=(1, 2))

    def unreadable(method: str, key: str) -> None:
        if method == "get":
            raise Unavailable("the archive takes what it is given, and gives nothing back")

    watched = WatchedStore(archive.stores["archive"], unreadable)
    failing = replace(archive, stores={**archive.stores, "archive": watched}).sealer()
    for _ in range(3):
        with pytest.raises(Unavailable):
            failing.seal_series(STUDY, SERIES)
    clock.pass_(61)  # not an hour
    archive.sweeper().run_once()
    assert list(archive.stores["archive"].scan()) == []
    archive.sealer().seal_series(STUDY, SERIES)
    archive.check_all_is_read_back()


def test_what_was_deleted_and_comes_again_is_sealed_at_once(archive: Archive, clock: Clock) -> None:
    archive.store(numbers=(1, 2))
    archive.sealer().seal_series(STUDY, SERIES)
    archive.remove(Scope(STUDY))
    clock.pass_(61)
    archive.sweeper().run_once()
    archive.store(numbers=(1, 2))
    archive.sealer().seal_series(STUDY, SERIES)
    archive.remove(Scope(STUDY))
    archive.stores["spool"].delete([meta.key for meta in archive.stores["spool"].scan()])
    archive.index.removals = {name: row for name, row in archive.index.removals.items() if name[0] == "archive"}
    archive.store(numbers=(1, 2))
    archive.sealer().seal_series(STUDY, SERIES)
    sweep(archive, clock)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


def test_what_does_not_come_back_as_it_was_is_not_sealed(archive: Archive, clock: Clock) -> None:
    archive.store(numbers=(1, 2))

    inner = archive.stores["archive"]
    harm_once = iter([True])

    def before(method: str, key: str) -> None:
        if method == "get" and next(harm_once, False):
            data = bytearray(inner.get(key).read())
            data[500] ^= 4
            inner.put(key, [data], if_absent=False)

    archive.stores = {**archive.stores, "archive": WatchedStore(inner, before)}
    with pytest.raises(Damaged):
        archive.sealer().seal_series(STUDY, SERIES)
    assert len(list(archive.index.loose(STUDY, SERIES))) == 2
    archive.check_all_is_read_back()
    sweep(archive, clock)
    assert list(inner.scan()) == []
    archive.sealer().seal_series(STUDY, SERIES)
    archive.check_all_is_read_back()


def test_when_the_archive_is_away_it_is_tried_again_later(archive: Archive, clock: Clock) -> None:
    for series in range(1, 6):
        archive.store(1, series)
    clock.pass_(601)
    away = Event()
    away.set()

    def before(method: str, key: str) -> None:
        if away.is_set():
            raise Unavailable("the bucket does not answer")

    stores = archive.stores
    archive.stores = {**stores, "archive": WatchedStore(stores["archive"], before)}
    sealer = archive.sealer()
    with pytest.raises(Unavailable):
        sealer.run_once()
    away.clear()
    assert sealer.run_once().done == 2, "those that were tried wait a while"
    clock.pass_(10)
    assert sealer.run_once().done == 3
    archive.check_all_is_read_back()


def test_without_room_for_a_pack_nothing_is_begun(archive: Archive, clock: Clock) -> None:
    archive.store()
    clock.pass_(601)
    with pytest.raises(Exhausted):
        archive.sealer(min_free_bytes=1 << 60).run_once()
    assert list(archive.staging.iterdir()) == []
    assert list(archive.stores["archive"].scan()) == []


def test_a_series_that_there_is_no_room_for_holds_up_no_smaller_one(
    archive: Archive, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = len(file_of(1, 1, 1))
    for series in range(1, 36):
        archive.store(1, series, (1, 2, 3))
        clock.pass_(1)
    archive.store(1, 36, (1,))
    clock.pass_(601)
    free = [2 * length]
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free[0]))
    sealer = archive.sealer()
    with pytest.raises(Exhausted):
        sealer.run_once()
    assert sealer.run_once().done == 1, "the small one, which came last"
    free[0] = 1 << 40
    clock.pass_(61)
    assert sum(sealer.run_once().done for _ in range(2)) == 35
    archive.check_all_is_read_back()


def test_it_stops_between_two_instances(archive: Archive) -> None:
    archive.store(numbers=(1, 2))
    stop = Event()
    stop.set()
    with pytest.raises(Stopped):
        archive.sealer(stop=stop).seal_series(STUDY, SERIES)
    assert list(archive.staging.iterdir()) == []
    assert archive.index.leases == {}


@pytest.mark.parametrize("step", STEPS[:5])
def test_an_error_at_any_step_loses_nothing(archive: Archive, clock: Clock, step: str) -> None:
    archive.store(numbers=range(1, 5))
    with pytest.raises(Crash):
        archive.sealer(at=crash_at(step)).seal_series(STUDY, SERIES)
    archive.check_all_is_read_back()
    sweep(archive, clock)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()
    archive.sealer().seal_series(STUDY, SERIES)
    sweep(archive, clock)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


def test_packs_in_folders_are_linked_from_staging(tmp_path: Path, clock: Clock) -> None:
    spool, store = DiskStore(tmp_path / "spool"), DiskStore(tmp_path / "archive")
    archive = Archive(FakePackingIndex(clock), {"spool": spool, "archive": store}, store.staging, clock)
    archive.store(numbers=(1, 2))
    archive.sealer().seal_series(STUDY, SERIES)
    sweep(archive, clock)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()
    spool.close()
    store.close()
