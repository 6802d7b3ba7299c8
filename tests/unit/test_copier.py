"""The copier: a copy counts when it was read back, and no copy outlives its pack."""

from pathlib import Path

import pytest

from gateway.archive.copier import COPY_PUT, Copier
from storage.dicom.identity import Scope
from storage.errors import Unavailable
from storage.objects import Source
from storage.objects.memory import MemoryStore
from tests.sealing import HOUR, SERIES, STUDY, Archive, Clock, Crash, at_call, crash_at, once, take_lease
from tests.unit.fake_packing import FakePackingIndex
from tests.unit.fakes import WatchedStore


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    clock = Clock()
    stores = {"spool": MemoryStore(), "archive": MemoryStore(), "copy": MemoryStore()}
    return Archive(FakePackingIndex(clock), stores, tmp_path, clock)


def contents(store: MemoryStore) -> dict[str, bytes]:
    return {meta.key: store.get(meta.key).read() for meta in store.scan()}


def sweep(archive: Archive) -> None:
    archive.clock.pass_(2 * HOUR)
    while archive.sweeper().run_once():
        pass


def test_every_pack_is_copied_once(archive: Archive) -> None:
    for series in (1, 2, 3):
        archive.store(1, series, (1, 2))
        archive.sealer().seal_series(STUDY, f"{STUDY}.{series}")
    copier = archive.copier()
    assert copier.run_once().done == 3
    assert contents(archive.stores["copy"]) == contents(archive.stores["archive"])
    assert copier.run_once().done == 0
    sweep(archive)
    assert contents(archive.stores["copy"]) == contents(archive.stores["archive"])
    archive.check_nothing_is_left_over()


def test_a_copy_that_is_there_already_is_read_and_the_pack_is_not(archive: Archive) -> None:
    """As after the index was rebuilt, which knows of no copies, and after a kill."""
    archive.store()
    archive.sealer().seal_series(STUDY, SERIES)
    with pytest.raises(Crash):
        archive.copier(at=crash_at(COPY_PUT)).run_once()
    calls: list[tuple[str, str]] = []
    inner = archive.stores

    def watched(name: str) -> WatchedStore:
        return WatchedStore(inner[name], lambda method, key: calls.append((name, method)))

    archive.stores = {name: watched(name) for name in inner}
    assert archive.copier().run_once().done == 1
    assert calls == [("copy", "head"), ("copy", "get")]
    assert list(archive.index.uncopied("copy", 10)) == []
    archive.stores = inner
    assert contents(inner["copy"]) == contents(inner["archive"])
    sweep(archive)
    assert contents(inner["copy"]) == contents(inner["archive"]), "its removal was called off"
    archive.check_nothing_is_left_over()


def test_a_copy_that_is_not_right_is_replaced(archive: Archive) -> None:
    archive.store()
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    archive.stores["copy"].put(pack.location.key, [b"half of it"])
    assert archive.copier().run_once().done == 1
    assert contents(archive.stores["copy"]) == contents(archive.stores["archive"])


@pytest.mark.parametrize("harm", ["flip", "cut", "lose"])
def test_a_pack_that_is_not_right_is_not_copied(archive: Archive, harm: str) -> None:
    archive.store(numbers=range(1, 4))
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    store, key = archive.stores["archive"], pack.location.key
    data = store.get(key).read()
    if harm == "lose":
        store.delete([key])
    else:
        store.put(key, [data[:-5] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1])], if_absent=False)
    copier = archive.copier()
    assert copier.run_once().failed == 1
    assert contents(archive.stores["copy"]) == {}
    store.put(key, [data], if_absent=False)
    archive.clock.pass_(6)
    assert copier.run_once().done == 1


def test_a_pack_that_is_deleted_while_it_is_copied_leaves_no_copy(archive: Archive) -> None:
    archive.store()
    archive.sealer().seal_series(STUDY, SERIES)
    archive.copier(at=once(COPY_PUT, lambda: archive.remove(Scope(STUDY)))).run_once()
    sweep(archive)
    assert contents(archive.stores["copy"]) == contents(archive.stores["archive"]) == {}
    archive.check_nothing_is_left_over()


def test_killed_before_the_copy_counts_and_then_deleted_it_leaves_no_copy(archive: Archive) -> None:
    archive.store()
    archive.sealer().seal_series(STUDY, SERIES)
    with pytest.raises(Crash):
        archive.copier(at=crash_at(COPY_PUT)).run_once()
    archive.remove(Scope(STUDY))
    sweep(archive)
    assert contents(archive.stores["copy"]) == {}
    archive.check_nothing_is_left_over()


class Lying(MemoryStore):
    """Keeps something else than it was given."""

    def put(self, key: str, source: Source, *, if_absent: bool = True):  # type: ignore[no-untyped-def]
        assert isinstance(source, Path)
        return super().put(key, [source.read_bytes()[:-1] + b"!"], if_absent=if_absent)


def test_a_copy_that_does_not_come_back_as_it_was_does_not_count(archive: Archive) -> None:
    archive.store()
    archive.sealer().seal_series(STUDY, SERIES)
    archive.stores = {**archive.stores, "copy": Lying()}
    assert archive.copier().run_once().failed == 1
    assert len(list(archive.index.uncopied("copy", 10))) == 1


def test_while_the_copy_is_away_the_rest_goes_on(archive: Archive) -> None:
    for series in range(1, 5):
        archive.store(1, series)
        archive.sealer().seal_series(STUDY, f"{STUDY}.{series}")

    def away(method: str, key: str) -> None:
        raise Unavailable("the second data centre does not answer")

    stores = archive.stores
    archive.stores = {**stores, "copy": WatchedStore(stores["copy"], away)}
    with pytest.raises(Unavailable):
        archive.copier().run_once()
    archive.stores = stores
    assert archive.copier().run_once().done == 4


def test_before_a_copy_is_put_its_removal_is_announced(archive: Archive) -> None:
    archive.store()
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)

    def before(method: str, key: str) -> None:
        assert method != "put" or ("copy", pack.location.key) in archive.index.removals
        methods.append(method)

    methods: list[str] = []
    archive.stores = {**archive.stores, "copy": WatchedStore(archive.stores["copy"], before)}
    assert archive.copier().run_once().done == 1
    assert "put" in methods and not any(store == "copy" for store, _ in archive.index.removals)


def test_who_has_lost_the_lease_puts_no_copy(archive: Archive) -> None:
    archive.store()
    archive.sealer().seal_series(STUDY, SERIES)
    archive.index.before = at_call("respite", lambda: take_lease(archive))
    assert archive.copier().run_once().busy == 1
    assert contents(archive.stores["copy"]) == {}


def test_who_has_lost_the_lease_confirms_no_copy(archive: Archive) -> None:
    archive.store()
    archive.sealer().seal_series(STUDY, SERIES)
    assert archive.copier(at=once(COPY_PUT, lambda: take_lease(archive))).run_once().busy == 1
    assert len(list(archive.index.uncopied("copy", 10))) == 1


def test_it_needs_both_stores(archive: Archive) -> None:
    with pytest.raises(KeyError):
        Copier(archive.index, {"archive": MemoryStore()}, staging=archive.staging)
