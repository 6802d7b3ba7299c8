"""Deletions that were cut off between the tombstone and the index are finished, and nothing else is removed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.archive import tombstones
from gateway.archive.clock import microseconds
from gateway.archive.steps import Stopped
from gateway.archive.tombstones import Tombstone, version_name
from gateway.archive.unfinished import UnfinishedDeletions
from storage.dicom.identity import Scope
from storage.errors import NotFound, Unavailable
from storage.index.sqlite import SqliteIndex
from storage.objects.memory import MemoryStore
from storage.packs import PackedInstance
from storage.packs.blocks import BlockReader
from storage.packs.documents import PackDocuments
from tests.sealing import SERIES, STUDY, Archive, Clock

SCOPES = [Scope(STUDY), Scope(STUDY, SERIES), Scope(STUDY, SERIES, f"{SERIES}.2")]
PATIENCE = 300


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    (tmp_path / "staging").mkdir()
    store = MemoryStore()
    index = SqliteIndex(tmp_path / "index.sqlite", documents=PackDocuments({"archive": BlockReader(store)}))
    stores = {"spool": MemoryStore(), "archive": store}
    yield Archive(index, stores, tmp_path / "staging", Clock(microseconds()))
    index.close()


def versions(archive: Archive, series: Scope) -> Iterator[PackedInstance]:
    assert series.series_uid is not None
    yield from (loose.packed for loose in archive.index.loose(series.study_uid, series.series_uid))
    yield from (one for pack in archive.index.packs(series) for one in pack.instances)


def announce(archive: Archive, scope: Scope) -> str:
    """A tombstone as a deletion puts it, which then is cut off."""
    found = {one.identity.series_uid for one in archive.index.locate(scope)}
    names = [
        version_name(one.sop_uid, one.digest, one.received_at)
        for series_uid in found
        for one in versions(archive, Scope(scope.study_uid, series_uid))
        if scope.sop_uid in (None, one.sop_uid)
    ]
    return tombstones.put(archive.stores["archive"], Tombstone.of(scope, archive.clock(), names))


def forget(archive: Archive, scope: Scope) -> None:
    """What is below it was deleted."""
    uids = [uid for uid in (scope.study_uid, scope.series_uid, scope.sop_uid) if uid is not None]
    archive.sent = {name: data for name, data in archive.sent.items() if list(name[: len(uids)]) != uids}


def wait(archive: Archive, seconds: int = PATIENCE) -> None:
    archive.clock.pass_(seconds)  # type: ignore[attr-defined]


def finisher(archive: Archive) -> UnfinishedDeletions:
    return UnfinishedDeletions(archive.index, archive.stores, clock=archive.clock)


def seal(archive: Archive) -> None:
    for series_uid in (SERIES, f"{STUDY}.2"):
        archive.sealer().seal_series(STUDY, series_uid)


@pytest.mark.parametrize("sealed", ["before", "after", "never"])
@pytest.mark.parametrize("scope", SCOPES, ids=["study", "series", "instance"])
def test_what_was_announced_goes_and_the_rest_stays(archive: Archive, scope: Scope, sealed: str) -> None:
    archive.store(numbers=(1, 2, 3))
    archive.store(numbers=(2,), seed=1)
    archive.store(1, 2, numbers=(1,))
    archive.store(2, 1, numbers=(1,))
    if sealed == "before":
        seal(archive)
    announce(archive, scope)
    if sealed == "after":
        seal(archive)
    wait(archive)
    finisher(archive).run_once()
    forget(archive, scope)
    archive.check_all_is_read_back()
    with pytest.raises(NotFound):
        archive.index.locate(scope)
    assert archive.index.doomed(1 << 62, 100) or sealed == "before"


def test_a_deletion_that_may_be_under_way_is_left_alone(archive: Archive) -> None:
    archive.store(numbers=(1, 2))
    announce(archive, Scope(STUDY))
    wait(archive, PATIENCE - 1)
    finishing = finisher(archive)
    finishing.run_once()
    archive.check_all_is_read_back()
    wait(archive, 1)
    finishing.run_once()
    with pytest.raises(NotFound):
        archive.index.locate(Scope(STUDY))


@pytest.mark.parametrize("again", [0, 1], ids=["the same bytes", "other bytes"])
def test_what_came_since_stays(archive: Archive, again: int) -> None:
    archive.store(numbers=(1, 2, 3))
    announce(archive, Scope(STUDY))
    if again == 0:  # the deletion went through, and all was stored anew
        archive.index.remove(Scope(STUDY))
        archive.sent.clear()
        wait(archive, 1)
        archive.store(numbers=(2,))
    else:
        wait(archive, 1)
        archive.store(numbers=(2,), seed=1)
        archive.store(numbers=(4,))
    wait(archive)
    finisher(archive).run_once()
    for number in (1, 3):
        forget(archive, Scope(STUDY, SERIES, f"{SERIES}.{number}"))
    archive.check_all_is_read_back()


def test_one_that_is_withdrawn_meanwhile_counts_for_nothing(archive: Archive) -> None:
    archive.store(numbers=(1, 2))
    key = announce(archive, Scope(STUDY))
    wait(archive)
    locate = archive.index.locate

    def withdrawn(scope: Scope) -> object:
        archive.stores["archive"].delete([key])
        return locate(scope)

    archive.index.locate = withdrawn
    finisher(archive).run_once()
    archive.index.locate = locate
    archive.check_all_is_read_back()


def test_each_is_read_once(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.store(numbers=(1, 2))
    keys = [announce(archive, scope) for scope in SCOPES]
    wait(archive)
    read: list[str] = []
    get = archive.stores["archive"].get

    def noted(key: str, *arguments: object) -> object:
        read.append(key)
        return get(key, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(archive.stores["archive"], "get", noted)
    finishing = finisher(archive)
    for _ in range(3):
        finishing.run_once()
    assert sorted(read) == sorted(keys)
    archive.stores["archive"].delete(keys)
    finishing.run_once()
    assert finishing._finished == set()


def test_one_that_cannot_be_read_or_finished_holds_up_no_other(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.store(1, 1, numbers=(1,))
    archive.store(2, 1, numbers=(1,))
    archive.stores["archive"].put("tombstones/1.2/0123456789abcdef.json", [b"who knows"])
    announce(archive, Scope(STUDY))
    announce(archive, Scope(f"{STUDY[:-1]}2"))
    wait(archive)
    remove = archive.index.remove

    def fail(scope: Scope) -> object:
        if scope == Scope(STUDY):
            raise Unavailable("the metadata of what comes to speak is away")
        return remove(scope)

    monkeypatch.setattr(archive.index, "remove", fail)
    finishing = finisher(archive)
    assert finishing.run_once().failed == 2
    forget(archive, Scope(f"{STUDY[:-1]}2"))
    archive.check_all_is_read_back()
    monkeypatch.setattr(archive.index, "remove", remove)
    wait(archive, 60)
    finishing.run_once()
    with pytest.raises(NotFound):
        archive.index.locate(Scope(STUDY))


def test_another_gateway_may_be_faster(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.store(numbers=(1, 2))
    announce(archive, Scope(STUDY))
    wait(archive)
    remove = archive.index.remove

    def second(scope: Scope) -> object:
        remove(scope)
        return remove(scope)

    monkeypatch.setattr(archive.index, "remove", second)
    tally = finisher(archive).run_once()
    assert (tally.done, tally.failed) == (1, 0)


def test_it_ends_when_the_gateway_stops(archive: Archive) -> None:
    announce_nothing = Tombstone.of(Scope(STUDY), archive.clock(), [])
    tombstones.put(archive.stores["archive"], announce_nothing)
    finishing = finisher(archive)
    finishing._stop.set()
    with pytest.raises(Stopped):
        finishing.run_once()
