"""The compactor: what was deleted is really gone, and what is left is what it was."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.archive import tombstones
from gateway.archive.compactor import Compactor
from gateway.archive.spent import SpentTombstones, custodians
from gateway.archive.steps import COMPACTED, DOOMED, MERGED, PUT, STAGED, VERIFIED
from gateway.archive.tombstones import Tombstone
from storage.dicom.identity import Scope
from storage.objects.memory import MemoryStore
from storage.packs import Pack
from storage.packs.read import read_manifest, recover
from tests.sealing import HOUR, SERIES, STUDY, Archive, Clock, Crash, crash_at, file_of, once
from tests.unit.fake_packing import FakePackingIndex

DAY = 24 * HOUR


class DocumentsOfPacks:
    """The metadata of what is left of a pack, from its object."""

    def __init__(self, archive: Archive) -> None:
        self.store = archive.stores["archive"]

    def documents(self, pack: Pack) -> Sequence[bytes]:
        found = recover(self.store, self.store.head(pack.location.key), "archive", lambda json: b"").documents
        return found if pack.positions is None else [found[n] for n in pack.positions]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    clock = Clock()
    stores = {"spool": MemoryStore(), "archive": MemoryStore()}
    return Archive(FakePackingIndex(clock), stores, tmp_path, clock)


def compactor(archive: Archive, **arguments: object) -> Compactor:
    return Compactor(
        archive.index,
        archive.stores,
        DocumentsOfPacks(archive),
        staging=archive.staging,
        clock=archive.clock,
        **arguments,  # type: ignore[arg-type]
    )


def sweep(archive: Archive) -> None:
    archive.clock.pass_(2 * HOUR)  # type: ignore[attr-defined]
    while archive.sweeper().run_once():
        pass


def bytes_in(store: MemoryStore) -> bytes:
    return b"".join(store.get(meta.key).read() for meta in store.scan())


def test_deleted_bytes_are_gone_and_the_rest_is_as_it_was(archive: Archive) -> None:
    archive.store(numbers=range(1, 7))
    archive.store(numbers=(5,), seed=1)
    archive.sealer().seal_series(STUDY, SERIES)
    (before,) = archive.index.packs()
    archive.remove(Scope(STUDY, SERIES, f"{SERIES}.2"))
    archive.remove(Scope(STUDY, SERIES, f"{SERIES}.4"))
    assert file_of(1, 1, 2) in bytes_in(archive.stores["archive"])
    assert compactor(archive).run_once().done == 1
    (after,) = archive.index.packs()
    assert after.positions is None
    kept = [one for one in before.instances if one.instance_number not in (2, 4)]
    as_before = [(one.sop_uid, one.revision, one.digest, one.received_at, one.source) for one in kept]
    assert [
        (one.sop_uid, one.revision, one.digest, one.received_at, one.source) for one in after.instances
    ] == as_before
    sweep(archive)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()
    left = bytes_in(archive.stores["archive"])
    assert file_of(1, 1, 2) not in left
    assert f"{SERIES}.4.dcm".encode() not in left
    assert file_of(1, 1, 3) in left
    store = archive.stores["archive"]
    recovered = recover(store, store.head(after.location.key), "archive", lambda json: b"")
    for packed, document in zip(after.instances, recovered.documents, strict=True):
        assert f'"{packed.sop_uid}"'.encode() in document
    assert compactor(archive).run_once().done == 0


def test_of_versions_that_do_not_lie_together_the_served_one_has_the_plain_name(archive: Archive) -> None:
    archive.store(numbers=(1, 2, 3))
    archive.store_file(file_of(1, 1, 1, seed=1, InstanceNumber=9))
    archive.sealer().seal_series(STUDY, SERIES)
    archive.remove(Scope(STUDY, SERIES, f"{SERIES}.2"))
    assert compactor(archive).run_once().done == 1
    (pack,) = archive.index.packs()
    store = archive.stores["archive"]
    names = read_manifest(store, store.head(pack.location.key), "archive").names
    assert names[:3] == (f"{SERIES}.1.v1.dcm", f"{SERIES}.3.dcm", f"{SERIES}.1.dcm")
    archive.check_all_is_read_back()


@pytest.mark.parametrize("step", [STAGED, DOOMED, PUT, VERIFIED, COMPACTED])
def test_killed_at_any_step_the_next_run_finishes(archive: Archive, step: str) -> None:
    archive.store(numbers=range(1, 5))
    archive.sealer().seal_series(STUDY, SERIES)
    archive.remove(Scope(STUDY, SERIES, f"{SERIES}.1"))
    with pytest.raises(Crash):
        compactor(archive, at=crash_at(step)).run_once()
    archive.check_all_is_read_back()
    compactor(archive).run_once()
    sweep(archive)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()
    assert file_of(1, 1, 1) not in bytes_in(archive.stores["archive"])


def test_what_is_deleted_while_it_is_written_anew_is_gone_as_soon(archive: Archive) -> None:
    archive.store(numbers=(1, 2, 3))
    archive.sealer().seal_series(STUDY, SERIES)
    archive.remove(Scope(STUDY, SERIES, f"{SERIES}.1"))
    late = once(VERIFIED, lambda: archive.remove(Scope(STUDY, SERIES, f"{SERIES}.2")))
    assert compactor(archive, at=late).run_once().failed == 1
    assert file_of(1, 1, 2) in bytes_in(archive.stores["archive"])
    compactor(archive).run_once()
    archive.clock.pass_(61)  # type: ignore[attr-defined]
    archive.sweeper().run_once()
    assert file_of(1, 1, 2) not in bytes_in(archive.stores["archive"])
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


def test_a_pack_that_is_damaged_stays_and_is_told_of(archive: Archive) -> None:
    archive.store(numbers=(1, 2, 3))
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    archive.remove(Scope(STUDY, SERIES, f"{SERIES}.1"))
    store = archive.stores["archive"]
    data = bytearray(store.get(pack.location.key).read())
    data[pack.instances[2].offset + 700] ^= 1
    store.put(pack.location.key, [data], if_absent=False)
    assert compactor(archive).run_once().failed == 1
    assert [one.pack_id for one in archive.index.packs()] == [pack.pack_id]
    assert list(archive.staging.iterdir()) == []


@pytest.mark.parametrize("harm", ["lose", "flip"])
def test_what_is_not_right_in_the_archive_is_compacted_from_its_copy(archive: Archive, harm: str) -> None:
    archive.stores = {**archive.stores, "copy": MemoryStore()}
    archive.store(numbers=(1, 2, 3))
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    archive.copier().run_once()
    archive.remove(Scope(STUDY, SERIES, f"{SERIES}.1"))
    store, key = archive.stores["archive"], pack.location.key
    data = bytearray(store.get(key).read())
    data[pack.instances[2].offset + 700] ^= 1
    compacting = compactor(archive)
    documents = DocumentsOfPacks(archive)
    documents.store = archive.stores["copy"]
    compacting._documents = documents
    store.delete([key])
    if harm == "flip":
        store.put(key, [data])
    assert compacting.run_once().done == 1
    sweep(archive)
    archive.copier().run_once()
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()
    assert file_of(1, 1, 1) not in bytes_in(store) + bytes_in(archive.stores["copy"])


def trickle(archive: Archive, numbers: Iterable[int] = (5, 2, 8, 1, 7, 3, 6, 4)) -> None:
    """A series whose instances come one by one, with a quiet time after each."""
    for number in numbers:
        archive.store(numbers=(number,))
        archive.sealer().seal_series(STUDY, SERIES)


def test_the_small_packs_of_a_series_become_one(archive: Archive) -> None:
    trickle(archive, range(1, 8))
    archive.store(1, 2, numbers=(1,))
    archive.sealer().seal_series(STUDY, f"{STUDY}.2")
    assert compactor(archive).merge_once().done == 0, "seven are not many"
    trickle(archive, (9,))
    before = {one.sop_uid: one for pack in archive.index.packs() for one in pack.instances}
    assert compactor(archive).merge_once().done == 1
    pack, other = archive.index.packs()
    assert other.series_uid == f"{STUDY}.2"
    assert [one.instance_number for one in pack.instances] == [1, 2, 3, 4, 5, 6, 7, 9]
    assert all(replace(one, offset=before[one.sop_uid].offset) == before[one.sop_uid] for one in pack.instances)
    sweep(archive)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()
    store = archive.stores["archive"]
    documents = recover(store, store.head(pack.location.key), "archive", lambda json: b"").documents
    assert all(f'"{one.sop_uid}"'.encode() in found for one, found in zip(pack.instances, documents, strict=True))
    assert compactor(archive).merge_once().done == 0


def test_versions_that_were_superseded_are_merged_as_such(archive: Archive) -> None:
    for seed in range(8):
        archive.store(numbers=(1,), seed=seed)
        archive.sealer().seal_series(STUDY, SERIES)
    assert compactor(archive).merge_once().done == 1
    (pack,) = archive.index.packs()
    assert [one.revision for one in pack.instances] == list(range(1, 9))
    store = archive.stores["archive"]
    names = read_manifest(store, store.head(pack.location.key), "archive").names
    assert next(name for name in names if ".v" not in name) == f"{SERIES}.1.dcm"
    archive.check_all_is_read_back()


def test_what_was_removed_from_one_of_them_is_not_in_the_merged_pack(archive: Archive) -> None:
    for number in range(1, 16, 2):
        archive.store(numbers=(number, number + 1))
        archive.sealer().seal_series(STUDY, SERIES)
    archive.remove(Scope(STUDY, SERIES, f"{SERIES}.10"))
    assert compactor(archive).merge_once().done == 1
    sweep(archive)
    assert file_of(1, 1, 10) not in bytes_in(archive.stores["archive"])
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


@pytest.mark.parametrize("step", [STAGED, DOOMED, PUT, VERIFIED, MERGED])
def test_killed_at_any_step_of_merging_the_next_run_finishes(archive: Archive, step: str) -> None:
    trickle(archive)
    with pytest.raises(Crash):
        compactor(archive, at=crash_at(step)).merge_once()
    archive.check_all_is_read_back()
    archive.check_each_lies_once()
    compactor(archive).merge_once()
    sweep(archive)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()
    assert len(list(archive.index.packs())) == 1


def test_what_is_deleted_while_it_is_merged_is_gone_as_soon(archive: Archive) -> None:
    trickle(archive, range(1, 10))
    late = once(VERIFIED, lambda: archive.remove(Scope(STUDY, SERIES, f"{SERIES}.2")))
    assert compactor(archive, at=late).merge_once().failed == 1
    archive.clock.pass_(61)  # type: ignore[attr-defined]
    archive.sweeper().run_once()
    assert file_of(1, 1, 2) not in bytes_in(archive.stores["archive"])
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()
    assert compactor(archive).merge_once().done == 1


def test_a_series_that_another_is_at_is_left_to_it(archive: Archive) -> None:
    trickle(archive)
    archive.index.lease(f"seal/{STUDY}/{SERIES}", "another", 60)
    assert compactor(archive).merge_once().busy == 1
    assert len(list(archive.index.packs())) == 8


def test_damaged_packs_are_merged_from_their_copies(archive: Archive) -> None:
    archive.stores = {**archive.stores, "copy": MemoryStore()}
    trickle(archive)
    while archive.copier().run_once().done:
        pass
    lost = next(archive.index.packs())
    documents = DocumentsOfPacks(archive)
    documents.store = archive.stores["copy"]
    archive.stores["archive"].delete([lost.location.key])
    merging = compactor(archive)
    merging._documents = documents
    assert merging.merge_once().done == 1
    sweep(archive)
    archive.copier().run_once()
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()
    assert len(list(archive.stores["copy"].scan())) == 1


def test_packs_that_share_an_instance_stay_as_they_are_and_hold_up_no_other(archive: Archive) -> None:
    trickle(archive)
    twin = replace(next(archive.index.packs()), pack_id="f" * 32)
    archive.index.sealed[STUDY, SERIES, twin.pack_id] = twin
    assert compactor(archive).merge_once().done == 0
    assert len(list(archive.index.packs())) == 9


def spent(archive: Archive) -> SpentTombstones:
    return SpentTombstones(archive.index, archive.stores, clock=archive.clock)


def delete(archive: Archive, scope: Scope) -> None:
    tombstones.put(archive.stores["archive"], Tombstone(scope, archive.clock()))
    archive.remove(scope)


@pytest.mark.parametrize("scope", [Scope(STUDY), Scope(STUDY, SERIES), Scope(STUDY, SERIES, f"{SERIES}.1")])
def test_a_tombstone_goes_when_nothing_is_left_that_it_covers(archive: Archive, scope: Scope) -> None:
    archive.store(numbers=(1, 2))
    archive.store(1, 2, numbers=(1,))
    for series in (SERIES, f"{STUDY}.2"):
        archive.sealer().seal_series(STUDY, series)
    archive.clock.pass_(1)
    delete(archive, scope)
    archive.clock.pass_(2 * DAY)
    assert spent(archive).run_once() == 0, "the object is still there"
    compactor(archive).run_once()
    assert spent(archive).run_once() == 0, "the object is still there"
    sweep(archive)
    assert spent(archive).run_once() == 1
    assert list(archive.stores["archive"].scan("tombstones/")) == []
    archive.check_all_is_read_back()


def test_a_young_tombstone_stays(archive: Archive) -> None:
    tombstones.put(archive.stores["archive"], Tombstone(Scope("1.2.3"), archive.clock()))
    archive.clock.pass_(DAY - 1)
    assert spent(archive).run_once() == 0
    archive.clock.pass_(2)
    assert spent(archive).run_once() == 1


@pytest.mark.parametrize("store", ["archive", "copy"])
def test_a_tombstone_stays_while_there_is_an_object_that_nothing_names(archive: Archive, store: str) -> None:
    archive.stores = {**archive.stores, "copy": MemoryStore()}
    tombstones.put(archive.stores["archive"], Tombstone(Scope(STUDY), archive.clock()))
    archive.clock.pass_(2 * DAY)
    archive.stores[store].put(f"packs/other/{STUDY}/{SERIES}/{1:032x}.zip", [b"who knows"])
    assert spent(archive).run_once() == 0
    archive.stores[store].put(f"packs/other/{STUDY}9/{SERIES}/{1:032x}.zip", [b"of another study"])
    archive.stores[store].delete([f"packs/other/{STUDY}/{SERIES}/{1:032x}.zip"])
    assert spent(archive).run_once() == 1


def test_the_custodians_of_a_store() -> None:
    store = MemoryStore()
    assert custodians(store) == []
    for name in ("local", "91350100M000100Y43", "local2"):
        store.put(f"packs/{name}/1.2/1.3/{1:032x}.zip", [b"x"])
        store.put(f"packs/{name}/1.2/1.4/{1:032x}.zip", [b"x"])
    assert custodians(store) == ["91350100M000100Y43", "local", "local2"]


def test_many_tombstones_are_looked_at_some_at_a_time(archive: Archive) -> None:
    for number in range(150):
        tombstones.put(archive.stores["archive"], Tombstone(Scope(f"1.2.{number}"), 0))
    looking = spent(archive)
    assert [looking.run_once() for _ in range(2)] == [100, 50]
