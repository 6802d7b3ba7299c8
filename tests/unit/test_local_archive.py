"""Storing and deleting: what is acknowledged is whole and found, what fails leaves nothing, whatever comes between."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.archive import AS_STORED, Expected, Receipt, high_water, local, tombstones
from gateway.archive.high_water import HighWater
from gateway.archive.local import LocalArchive
from gateway.compose_archive import open_archive
from gateway.config import Config, Ingest, Spool
from gateway.security.caller import Caller, Right
from storage.dicom.identity import Identity, Scope
from storage.dicom.query import Level, Query
from storage.errors import Conflict, Exhausted, Fault, Invalid, NotFound, Unavailable
from storage.index import Added, Backlog, Contents, InstanceRecord, MetadataIndex, Outcome
from storage.objects import Location
from storage.objects.disk import DiskStore
from storage.objects.memory import MemoryStore
from tests import samples
from tests.unit.fakes import MemoryIndex, WatchedStore, places

BY = Caller("CT1", "127.0.0.1", "dimse", frozenset(Right))
INGEST = Ingest(memory_bytes_per_instance=4096, max_instance_bytes=16 << 20)
ONE = Scope(f"{samples.ROOT}.1", f"{samples.ROOT}.1.1", f"{samples.ROOT}.1.1.1")


class House:
    """An archive, and what is behind it."""

    def __init__(self, folder: Path, index: MetadataIndex | None = None) -> None:
        self.disk = DiskStore(folder / "objects")
        self.spool = WatchedStore(self.disk)
        self.index: Any = MemoryIndex() if index is None else index
        self.packs = WatchedStore(MemoryStore())
        self.deletions = 0
        self.check_room: Callable[[], None] = lambda: None
        ticks = itertools.count(1_700_000_000_000_000)
        self.archive = LocalArchive(
            places(self.disk.staging, self.spool, self.packs, check_room=lambda: self.check_room()),
            self.index,
            ingest=INGEST,
            deleted=self.count_deletion,
            clock=lambda: next(ticks),
        )

    def count_deletion(self) -> None:
        self.deletions += 1

    def sweep(self) -> None:
        """Delete what is doomed, as the sweeper does after a while."""
        due = self.index.doomed(1 << 62, 1000)
        self.spool.delete(location.key for location in due)
        self.index.forget(due)

    def store(self, data: bytes, expected: Expected | None = None) -> Receipt:
        with self.archive.incoming() as incoming:
            incoming.write(data)
            return self.archive.store(incoming, expected or Expected(), by=BY)

    def retrieved(self, scope: Scope = ONE) -> list[bytes]:
        return [b"".join(part.chunks()) for part in self.archive.retrieve(scope, accept=[AS_STORED], by=BY)]

    @property
    def keys(self) -> list[str]:
        return [found.key for found in self.spool.scan()]

    @property
    def left_in_staging(self) -> list[Path]:
        return list(self.disk.staging.iterdir())


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    assert found.left_in_staging == []


def test_a_stored_instance_comes_back_byte_for_byte(house: House) -> None:
    data = samples.part10(samples.ct())
    receipt = house.store(data)
    assert (receipt.outcome, receipt.revision, receipt.warnings) == (Outcome.NEW, 1, ())
    assert house.retrieved() == [data]
    record = house.index.records[ONE.study_uid, ONE.series_uid or "", ONE.sop_uid or ""][0]
    assert (record.source, record.received_at) == ("dimse:CT1", 1_700_000_000_000_000)
    assert record.location.key.startswith(f"spool/{ONE.study_uid}/{ONE.series_uid}/{ONE.sop_uid}.")


def test_a_large_instance_is_linked_from_staging(house: House) -> None:
    data = samples.part10(samples.ct(size=100))
    assert len(data) > INGEST.memory_bytes_per_instance
    house.store(data)
    assert house.retrieved() == [data]


@pytest.mark.parametrize("size", [16, 100])
def test_a_bare_data_set_is_stored_as_a_whole_file(house: House, size: int) -> None:
    whole = samples.part10(samples.ct(size=size))
    house.store(samples.dataset_bytes(whole))
    [back] = house.retrieved()
    assert back[128:132] == b"DICM"
    assert samples.dataset_bytes(back) == samples.dataset_bytes(whole)


def test_the_same_bytes_again_write_nothing(house: House) -> None:
    data = samples.part10(samples.ct())
    house.store(data)
    before = house.keys
    receipt = house.store(data)
    assert (receipt.outcome, receipt.revision) == (Outcome.SAME, 1)
    assert house.keys == before


def test_other_bytes_are_a_newer_version_and_the_older_one_stays(house: House) -> None:
    house.store(samples.part10(samples.ct()))
    newer = samples.part10(samples.ct(StudyDescription="other"))
    receipt = house.store(newer)
    assert (receipt.outcome, receipt.revision) == (Outcome.VERSION, 2)
    assert any("version 2" in warning for warning in receipt.warnings)
    assert house.retrieved() == [newer]
    assert len(house.keys) == 2


def test_a_repaired_character_set_is_told(house: House) -> None:
    ds = samples.ct()
    data = samples.part10(ds).replace(b"CS\x08\x00GB18030 ", b"CS\x0a\x00ISO_IR 100")
    receipt = house.store(data)
    assert any("character set" in warning for warning in receipt.warnings)


@pytest.mark.parametrize(
    "expected",
    [Expected(study_uid="1.2.3"), Expected(sop_class="1.2.3"), Expected(sop_uid="1.2.3")],
    ids=["study", "class", "instance"],
)
def test_what_was_not_announced_is_a_mismatch(house: House, expected: Expected) -> None:
    with pytest.raises(Invalid) as caught:
        house.store(samples.part10(samples.ct()), expected)
    assert caught.value.fault is Fault.MISMATCH
    assert house.keys == []


def test_what_was_announced_with_padding_is_the_same(house: House) -> None:
    announced = Expected(ONE.study_uid + "\0", samples.CT, (ONE.sop_uid or "") + " ")
    assert house.store(samples.part10(samples.ct()), announced).outcome is Outcome.NEW


@pytest.mark.parametrize("data", [b"", b"x", b"garbage" * 2000, b"\0" * 128 + b"DICM"])
def test_what_is_no_instance_is_invalid_and_leaves_nothing(house: House, data: bytes) -> None:
    with pytest.raises(Invalid):
        house.store(data)
    assert house.keys == []


def test_an_object_left_by_a_crash_is_not_relied_upon(house: House) -> None:
    """It may have another header, so that the data set begins elsewhere, or be about to be deleted."""
    data = samples.part10(samples.ct())
    house.store(data)
    [key] = house.keys
    house.index.records.clear()
    house.disk.put(key, [b"another header", data], if_absent=False)
    assert house.store(data).outcome is Outcome.NEW
    assert house.retrieved() == [data]


@pytest.mark.parametrize("damage", ["lost", "cut short", "flipped", "flipped header"])
def test_a_damaged_object_is_healed_when_it_is_sent_again(house: House, damage: str) -> None:
    data = samples.part10(samples.ct())
    house.store(data)
    [key] = house.keys
    house.disk.delete([key])
    if damage == "cut short":
        house.disk.put(key, [data[:-100]])
    elif damage == "flipped":
        house.disk.put(key, [data[:-100], bytes([data[-100] ^ 1]), data[-99:]])
    elif damage == "flipped header":
        house.disk.put(key, [bytes([data[0] ^ 1]), data[1:]])
    assert house.store(data).outcome is Outcome.SAME
    assert house.retrieved() == [data]


@pytest.mark.parametrize("damage", ["cut short", "flipped"])
@pytest.mark.parametrize("sender", ["without file meta information", "with another preamble"])
def test_a_damaged_data_set_is_healed_by_another_sender_too(house: House, damage: str, sender: str) -> None:
    """What stands before it stays as it was received first."""
    data = samples.part10(samples.ct(PixelData=bytes(8192), Rows=64, Columns=64))
    house.store(data)
    [key] = house.keys
    broken = data[:-100] if damage == "cut short" else data[:-1] + bytes([data[-1] ^ 1])
    house.disk.put(key, [broken], if_absent=False)
    again = samples.dataset_bytes(data) if sender == "without file meta information" else b"x" + data[1:]
    assert house.store(again).outcome is Outcome.SAME
    assert house.retrieved() == [data]
    assert house.keys == [key]


@pytest.mark.parametrize("again", ["without file meta information", "with another preamble"])
def test_another_senders_file_meta_information_does_not_take_the_place_of_what_is_damaged(
    house: House, again: str
) -> None:
    data = samples.part10(samples.ct())
    house.store(data)
    [key] = house.keys
    house.disk.put(key, [bytes([data[0] ^ 1]), data[1:]], if_absent=False)
    with pytest.raises(Unavailable, match="damaged"):
        house.store(samples.dataset_bytes(data) if again == "without file meta information" else b"x" + data[1:])
    assert house.store(data).outcome is Outcome.SAME
    assert house.retrieved() == [data]


def test_damage_that_cannot_be_healed_is_not_answered_with_success(house: House) -> None:
    data = samples.part10(samples.ct())
    house.store(data)
    house.disk.delete(house.keys)
    with pytest.raises(Unavailable):
        house.store(samples.dataset_bytes(data))  # the same digest, but a header of our own
    with pytest.raises(Unavailable):
        house.store(b"x" + data[1:])  # and one of the same length
    assert house.keys == []


@pytest.mark.parametrize("damage", ["lost", "cut short"])
@pytest.mark.parametrize("moment", ["before the object is put", "after"])
def test_what_is_deleted_while_it_is_being_healed_is_stored_anew(house: House, damage: str, moment: str) -> None:
    data = samples.part10(samples.ct())
    house.store(data)
    [key] = house.keys
    house.disk.delete([key])
    if damage == "cut short":
        house.disk.put(key, [data[:-100]])
    locate = house.index.locate

    def delete_first(*seen: Any) -> Any:
        house.spool.before = lambda method, key: None
        house.index.locate = locate
        house.archive.delete(ONE, by=BY)
        return locate(*seen) if moment == "after" else None

    def act(method: str, key: str) -> None:
        if method == "put" and moment == "after":
            house.index.locate = delete_first
        elif method == "put":
            delete_first()

    house.spool.before = act
    assert house.store(data).outcome is Outcome.NEW
    assert house.retrieved() == [data]
    kept = house.index.locate(ONE)[0].location.key
    assert kept != key  # whoever is deleting may not have come to the object yet
    house.sweep()
    assert house.keys == [kept]
    assert house.retrieved() == [data]


def test_what_two_heal_at_once_is_there_once(house: House) -> None:
    data = samples.part10(samples.ct())
    house.store(data)
    before = house.keys
    house.disk.delete(before)

    def other_first(method: str, key: str) -> None:
        if method == "put":
            house.spool.before = lambda method, key: None
            assert house.store(data).outcome is Outcome.SAME

    house.spool.before = other_first
    assert house.store(data).outcome is Outcome.SAME
    assert house.keys == before
    assert house.retrieved() == [data]


def fail(error: Exception) -> Any:
    def raising(*args: Any) -> Any:
        raise error

    return raising


@pytest.mark.parametrize("error", [Unavailable("down"), Exhausted("full"), ValueError("a defect")])
def test_an_index_that_fails_leaves_nothing_and_nothing_is_acknowledged(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(house.index, "add", fail(error))
    with pytest.raises(type(error)):
        house.store(samples.part10(samples.ct()))
    house.sweep()
    assert house.keys == []
    monkeypatch.undo()
    assert house.store(samples.part10(samples.ct())).outcome is Outcome.NEW


def test_an_index_that_commits_and_then_fails_keeps_its_object(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    add = house.index.add

    def commit_and_fail(record: InstanceRecord) -> Added:
        add(record)
        raise Unavailable("the answer was lost")

    monkeypatch.setattr(house.index, "add", commit_and_fail)
    data = samples.part10(samples.ct())
    with pytest.raises(Unavailable):
        house.store(data)
    house.sweep()
    assert house.retrieved() == [data]


def test_an_index_that_cannot_say_whether_it_committed_keeps_the_object(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.index, "add", fail(Unavailable("down")))
    monkeypatch.setattr(house.index, "doom", fail(Unavailable("down")))
    with pytest.raises(Unavailable):
        house.store(samples.part10(samples.ct()))
    assert len(house.keys) == 1


def test_a_store_that_fails_is_not_found(house: House) -> None:
    def no_room(method: str, key: str) -> None:
        if method == "put":
            raise Exhausted("full")

    house.spool.before = no_room
    with pytest.raises(Exhausted):
        house.store(samples.part10(samples.ct()))
    with pytest.raises(NotFound):
        house.retrieved()


def test_what_a_bucket_took_without_saying_so_is_removed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    put = house.disk.put

    def put_and_fail(*given: Any, **named: Any) -> Any:
        put(*given, **named)
        raise Unavailable("the answer was lost")

    monkeypatch.setattr(house.disk, "put", put_and_fail)
    with pytest.raises(Unavailable):
        house.store(samples.part10(samples.ct()))
    assert len(house.keys) == 1
    house.sweep()
    assert house.keys == []


def test_the_second_of_two_that_store_the_same_at_once_takes_its_object_back(house: House) -> None:
    data = samples.part10(samples.ct())
    outcomes: list[Outcome] = []

    def other_first(method: str, key: str) -> None:
        if method == "put" and not outcomes:
            outcomes.append(Outcome.NEW)
            assert house.store(data).outcome is Outcome.NEW

    house.spool.before = other_first
    assert house.store(data).outcome is Outcome.SAME
    assert house.retrieved() == [data]
    assert len(house.keys) == 1


def test_many_that_store_the_same_at_once_leave_one(house: House) -> None:
    data = samples.part10(samples.ct())
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(house.store(data).outcome)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [Outcome.NEW] + [Outcome.SAME] * 7
    assert house.retrieved() == [data]
    assert len(house.keys) == 1


def test_an_index_that_commits_late_is_kept_from_naming_what_was_given_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[InstanceRecord] = []

    def give_up(record: InstanceRecord) -> Added:
        late.append(record)
        raise Unavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(house.index, "add", give_up)
        with pytest.raises(Unavailable):
            house.store(samples.part10(samples.ct()))
    assert house.keys == [late[0].location.key]  # not deleted while the commit may be under way
    with pytest.raises(Conflict):
        house.index.add(late[0])
    house.sweep()
    assert house.keys == []


@pytest.mark.parametrize("sweeps", [1, 2])
def test_a_deletion_that_comes_late_never_hits_what_was_stored_after_it(house: House, sweeps: int) -> None:
    """As of a second gateway that sweeps what the first has swept, or of a request that the network held back."""
    data = samples.part10(samples.ct())
    house.store(data)
    house.archive.delete(ONE, by=BY)
    due = [list(house.index.doomed(1 << 62, 1000)) for _ in range(sweeps)]
    for seen in due:
        house.spool.delete(location.key for location in seen)
        house.index.forget(seen)
        if seen is due[0]:
            assert house.store(data).outcome is Outcome.NEW
    house.spool.delete(location.key for location in due[0])
    assert house.retrieved() == [data]


@pytest.mark.parametrize("moment", ["before it is swept", "in the middle of the sweep", "after"])
def test_what_is_deleted_can_be_stored_again_at_once(house: House, moment: str) -> None:
    data = samples.part10(samples.ct())
    house.store(data)
    house.archive.delete(ONE, by=BY)
    if moment != "before it is swept":
        house.spool.delete(house.keys)
    if moment == "after":
        house.sweep()
    assert house.store(data).outcome is Outcome.NEW
    house.sweep()
    assert house.retrieved() == [data]
    assert len(house.keys) == 1


def test_what_is_deleted_is_found_no_more_and_its_bytes_go_soon(house: House) -> None:
    """Whoever found it before can read it to its end."""
    data = samples.part10(samples.ct())
    house.store(data)
    found = house.archive.retrieve(ONE, accept=[AS_STORED], by=BY)
    house.archive.delete(ONE, by=BY)
    with pytest.raises(NotFound):
        house.retrieved()
    assert house.deletions == 1
    assert [b"".join(part.chunks()) for part in found] == [data]
    house.sweep()
    assert house.keys == []


def test_deleting_takes_all_versions_and_their_objects(house: House) -> None:
    house.store(samples.part10(samples.ct()))
    house.store(samples.part10(samples.ct(StudyDescription="other")))
    house.store(samples.part10(samples.ct(number=2)))
    removed = house.archive.delete(ONE, by=BY)
    house.sweep()
    assert (removed.instances, len(removed.locations), len(house.keys)) == (1, 2, 1)
    with pytest.raises(NotFound):
        house.archive.delete(ONE, by=BY)
    assert len(house.retrieved(Scope(ONE.study_uid))) == 1


def test_a_deletion_is_said_beside_the_packs_before_anything_is_removed(house: House) -> None:
    house.store(samples.part10(samples.ct()))
    [[record]] = house.index.records.values()

    def check_order(method: str, key: str) -> None:
        assert len(house.index.locate(ONE)) == 1

    house.packs.before = check_order
    house.archive.delete(ONE, by=BY)
    house.packs.before = lambda method, key: None
    [(_, stone)] = tombstones.scan(house.packs)
    assert stone.scope == ONE
    assert stone.covers(record.instance.identity, record.instance.digest, record.received_at)
    assert not stone.covers(record.instance.identity, record.instance.digest, record.received_at + 1)
    assert stone.covers_object(record.instance.identity, record.location.key, 1 << 60)


@pytest.mark.parametrize("error", [Unavailable("down"), Exhausted("full")])
def test_a_deletion_that_fails_is_not_announced_any_more(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    house.store(samples.part10(samples.ct()))
    monkeypatch.setattr(house.index, "remove", fail(error))
    with pytest.raises(type(error)):
        house.archive.delete(ONE, by=BY)
    assert list(house.packs.scan()) == []


def test_a_deletion_that_may_have_been_done_stays_announced(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.store(samples.part10(samples.ct()))
    remove = house.index.remove

    def remove_and_fail(scope: Scope) -> Any:
        remove(scope)
        raise Unavailable("the answer was lost")

    monkeypatch.setattr(house.index, "remove", remove_and_fail)
    with pytest.raises(Unavailable):
        house.archive.delete(ONE, by=BY)
    assert len(list(tombstones.scan(house.packs))) == 1


@pytest.mark.parametrize("trouble", ["the archive goes away", "the index goes away"])
def test_a_deletion_that_failed_and_may_be_finished_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    house.store(samples.part10(samples.ct()))
    down = fail(Unavailable("down"))

    def break_down(scope: Scope) -> Any:
        if trouble == "the archive goes away":
            house.packs.before = down
        else:
            monkeypatch.setattr(house.index, "locate", down)
        raise Unavailable("the index did not answer")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(house.index, "remove", break_down)
        with pytest.raises(Unavailable, match="did not answer; the deletion may stand all the same"):
            house.archive.delete(ONE, by=BY)
    [(key, stone)] = tombstones.scan(house.packs.inner)
    assert (stone.scope, [line["key"] for line in logs]) == (ONE, [key])


def test_a_tombstone_of_which_it_is_not_known_whether_it_was_put_is_taken_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.store(samples.part10(samples.ct()))
    put = house.packs.put

    def put_and_fail(key: str, *what: Any) -> Any:
        put(key, *what)
        raise Unavailable("the answer was lost")

    monkeypatch.setattr(house.packs, "put", put_and_fail)
    with pytest.raises(Unavailable, match=r"the answer was lost$"):
        house.archive.delete(ONE, by=BY)
    assert list(house.packs.scan()) == []
    assert len(house.retrieved()) == 1


@pytest.mark.parametrize("can_be_said", [True, False])
def test_what_is_stored_while_it_is_deleted_is_named_by_a_tombstone_too(
    house: House, monkeypatch: pytest.MonkeyPatch, can_be_said: bool
) -> None:
    house.store(samples.part10(samples.ct()))
    remove = house.index.remove

    def store_first(scope: Scope) -> Any:
        house.store(samples.part10(samples.ct(number=2)))
        if not can_be_said:
            house.packs.before = fail(Unavailable("the archive is away"))
        return remove(scope)

    monkeypatch.setattr(house.index, "remove", store_first)
    with capture_logs() as logs:
        removed = house.archive.delete(Scope(ONE.study_uid), by=BY)
    assert (removed.instances, house.deletions) == (2, 1)
    stones = [stone for _, stone in tombstones.scan(house.packs.inner)]
    identity = Identity(ONE.study_uid, f"{ONE.study_uid}.1", f"{ONE.study_uid}.1.2", samples.CT)
    late = [location.key for location in removed.locations if f"{identity.sop_uid}." in location.key]
    assert [any(stone.covers_object(identity, key, 1 << 60) for stone in stones) for key in late] == [can_be_said]
    assert [line.get("count") for line in logs] == ([] if can_be_said else [1])
    assert len(stones) == (2 if can_be_said else 1)


def test_nothing_is_deleted_when_that_cannot_be_said_beside_the_packs(house: House) -> None:
    house.store(samples.part10(samples.ct()))
    house.packs.before = fail(Unavailable("the archive is away"))
    with pytest.raises(Unavailable, match="away"):
        house.archive.delete(ONE, by=BY)
    assert len(house.retrieved()) == 1
    assert house.deletions == 0


def test_what_waits_to_be_removed_elsewhere_is_not_read_to_delete(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.store(samples.part10(samples.ct()))
    monkeypatch.setattr(house.index, "doomed", fail(AssertionError("all that waits")))
    assert house.archive.delete(ONE, by=BY).instances == 1


@pytest.mark.parametrize("scope", [Scope(ONE.study_uid), Scope(ONE.study_uid, ONE.series_uid), ONE])
def test_loose_objects_that_were_sealed_just_now_are_named_by_the_tombstone(house: House, scope: Scope) -> None:
    house.store(samples.part10(samples.ct()))
    (key,) = house.keys
    named = samples.part10(samples.ct(number=2))
    house.index.doom([Location("spool", key.replace(".dcm", "0.dcm"), 0, 1)], 0)
    house.store(named)
    house.archive.delete(scope, by=BY)
    [(_, stone)] = tombstones.scan(house.packs)
    identity = Identity(ONE.study_uid, ONE.series_uid or "", ONE.sop_uid or "", samples.CT)
    assert stone.covers_object(identity, key.replace(".dcm", "0.dcm"), 1 << 60)
    assert not stone.covers_object(identity, key.replace(".dcm", "1.dcm"), 1 << 60)


def test_deleting_what_is_not_there_says_nothing(house: House) -> None:
    with pytest.raises(NotFound):
        house.archive.delete(ONE, by=BY)
    assert list(house.packs.scan()) == []


def test_what_is_out_of_order_is_told_beside_the_check(tmp_path: Path) -> None:
    archive = LocalArchive(
        places(tmp_path, MemoryStore()), MemoryIndex(), ingest=INGEST, trouble=lambda: "archive: away"
    )
    assert archive.check() == "archive: away"


def test_nothing_more_is_taken_in_while_too_much_waits(house: House) -> None:
    full = LocalArchive(
        places(house.disk.staging, house.spool),
        house.index,
        ingest=INGEST,
        check_backlog=fail(Exhausted("as much waits as may")),
    )
    house.store(samples.part10(samples.ct()))
    with full.incoming() as incoming:
        incoming.write(samples.part10(samples.ct(number=2)))
        with pytest.raises(Exhausted, match="waits"):
            full.store(incoming, Expected(), by=BY)
    with full.incoming() as incoming, pytest.raises(Exhausted, match="waits"):
        incoming.write(b"x" * (INGEST.memory_bytes_per_instance + 1))
    with pytest.raises(Exhausted, match="waits"):
        full.check()
    assert len(house.keys) == 1
    assert len(list(full.retrieve(ONE, accept=[AS_STORED], by=BY))) == 1


def test_what_lands_between_two_looks_at_the_backlog_counts_and_what_was_here_does_not(house: House) -> None:
    files = [samples.part10(samples.ct(number=number)) for number in range(1, 6)]
    mark = HighWater(lambda: Backlog(0, 0, 0, None), len(files[0]) + len(files[1]), clock=lambda: 0.0)
    archive = LocalArchive(
        places(house.disk.staging, house.spool),
        house.index,
        ingest=INGEST,
        check_backlog=mark.check,
        landed=mark.count,
    )

    def store(data: bytes) -> Receipt:
        with archive.incoming() as incoming:
            incoming.write(data)
            return archive.store(incoming, Expected(), by=BY)

    outcomes = [store(data).outcome for data in (files[0], files[0], samples.dataset_bytes(files[0]), files[1])]
    assert outcomes == [Outcome.NEW, Outcome.SAME, Outcome.SAME, Outcome.NEW]
    for data in files[2:]:
        with pytest.raises(Exhausted, match="the spool is full"):
            store(data)
    assert len(house.keys) == 2


def test_too_many_at_once_are_refused_after_a_short_wait(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_TURN_SECONDS", 0.01)
    busy, go = threading.Semaphore(0), threading.Event()

    def wait(method: str, key: str) -> None:
        busy.release()
        go.wait(20)

    house.spool.before = wait
    threads = [
        threading.Thread(target=house.store, args=(samples.part10(samples.ct(number=number)),))
        for number in range(INGEST.max_concurrent_stores)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            assert busy.acquire(timeout=20)
        with pytest.raises(Exhausted):
            house.store(samples.part10(samples.ct(number=999)))
    finally:
        go.set()
        for thread in threads:
            thread.join()
    house.spool.before = lambda method, key: None
    assert house.store(samples.part10(samples.ct(number=999))).outcome is Outcome.NEW


def test_search_and_metadata_pass_on_what_the_index_has(house: House) -> None:
    house.store(samples.part10(samples.ct()))
    found = house.archive.search(Query(Level.STUDY), by=BY)
    assert (len(found.rows), found.remaining, found.unanswered) == (1, 0, ())
    [(identity, document)] = house.archive.metadata(ONE, by=BY)
    assert identity.sop_uid == ONE.sop_uid
    assert b'"BulkDataURI":"bulkdata/7FE00010"' in document
    with pytest.raises(NotFound):
        house.archive.metadata(Scope("1.2.3"), by=BY)


def test_the_check_names_what_is_wrong(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.archive.check()
    monkeypatch.setattr(house.index, "check", fail(Unavailable("the index is read-only")))
    with pytest.raises(Unavailable, match="the index is read-only"):
        house.archive.check()
    with suppress(NotFound):
        house.spool.before = fail(Unavailable("the disk is gone"))
        with pytest.raises(Unavailable, match="the disk is gone"):
            house.archive.check()


def test_what_is_received_leaves_the_reserve_of_the_disk_alone(tmp_path: Path) -> None:
    config = Config(data=tmp_path / "data", spool=Spool(min_free_bytes=1 << 60))
    backend = open_archive(config)
    with backend.local.incoming() as incoming:
        incoming.write(b"x" * config.ingest.memory_bytes_per_instance)
        with pytest.raises(Exhausted, match="full"):
            incoming.write(b"x")
        assert [path.stat().st_size for path in backend.places.staging.iterdir()] == [0]
    backend.close()


def test_what_is_stored_counts_towards_the_mark_of_the_spool_before_it_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(high_water, "LOOK_SECONDS", 1e9)
    first, second = (samples.part10(samples.ct(number=number)) for number in (1, 2))
    backend = open_archive(Config(data=tmp_path / "data", spool=Spool(max_bytes=len(first), min_free_bytes=0)))
    with backend.local.incoming() as incoming:
        incoming.write(first)
        assert backend.local.store(incoming, Expected(), by=BY).outcome is Outcome.NEW
    with backend.local.incoming() as incoming, pytest.raises(Exhausted, match="the spool is full"):
        incoming.write(second)
        backend.local.store(incoming, Expected(), by=BY)
    backend.close()


def test_frames_and_values_wait_for_a_version_that_stays(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an instance lies and what lies in it are asked one after the other; a newer version may come between."""
    house.store(samples.part10(samples.ct()))
    contents, replaced = house.index.contents, itertools.count()

    def replaced_between(scope: Scope) -> Contents:
        if (number := next(replaced)) < times:
            house.store(samples.part10(samples.ct(StudyDescription="x" * 2 * number, PixelData=b"\7" * 512)))
        found: Contents = contents(scope)
        return found

    monkeypatch.setattr(house.index, "contents", replaced_between)
    reads = (
        lambda: house.archive.frames(ONE, [1], accept=[AS_STORED], by=BY),
        lambda: house.archive.bulk(ONE, "7FE00010", by=BY),
    )
    for read in reads:
        replaced, times = itertools.count(), 3
        assert [b"".join(part.chunks()) for part in read()] == [b"\7" * 512]
        replaced, times = itertools.count(), 1000
        with pytest.raises(Unavailable, match="being replaced"):
            read()
        assert next(replaced) < 20


def test_it_works_over_any_object_store(tmp_path: Path) -> None:
    archive = LocalArchive(places(tmp_path, MemoryStore()), MemoryIndex(), ingest=INGEST)
    data = samples.part10(samples.ct(size=100))
    with archive.incoming() as incoming:
        incoming.write(data)
        archive.store(incoming, Expected(), by=BY)
    [part] = archive.retrieve(ONE, accept=[AS_STORED], by=BY)
    assert b"".join(part.chunks()) == data
    assert list(tmp_path.iterdir()) == []
