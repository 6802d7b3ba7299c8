"""An index that is made anew from the objects alone answers as the one that was lost, byte for byte."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.archive import AS_STORED, Expected
from gateway.archive.compactor import Compactor
from gateway.archive.local import LocalArchive
from gateway.archive.places import ARCHIVE, Places
from gateway.archive.sealer import Sealer, Sealing
from gateway.archive.steps import VERIFIED
from gateway.archive.sweeper import Sweeper
from gateway.config import Ingest
from gateway.security.caller import Caller, Right
from gateway.upkeep.fates import Done, Fate
from gateway.upkeep.lost_index import is_empty
from gateway.upkeep.rebuild import rebuild
from gateway.upkeep.verification import verify
from gateway.upkeep.whole import check_loose
from storage.dicom.identity import Scope
from storage.dicom.parse import parse
from storage.dicom.query import Level, Query
from storage.errors import NotFound, Unavailable
from storage.index import Outcome, PackingIndex
from storage.index.sqlite import SqliteIndex
from storage.objects import Location, keys
from storage.objects.disk import DiskStore
from storage.objects.s3 import S3Store
from storage.objects.s3_settings import parse_s3_url
from storage.packs import Damaged
from storage.packs.blocks import BlockReader
from storage.packs.documents import PackDocuments
from tests import samples
from tests.contract.conftest import ENGINES
from tests.sealing import Crash, crash_at
from tests.seaweed import Seaweed
from tests.unit.fakes import WatchedStore

BY = Caller("CT1", "127.0.0.1", "dimse", frozenset(Right))
SEALING = Sealing(after_seconds=600, min_free_bytes=0)
FOREVER = 1 << 61


def study(number: int) -> str:
    return f"{samples.ROOT}.{number}"


class House:
    """An archive whose index can be lost."""

    def __init__(
        self, folder: Path, open_index: Callable[[PackDocuments], PackingIndex], packs: S3Store | None = None
    ) -> None:
        spool, archive = DiskStore(folder / "objects"), packs or DiskStore(folder / "archive")
        remote = frozenset({ARCHIVE} if packs else ())
        blocks = BlockReader(archive)
        self.places = Places(spool, archive, archive, blocks, spool.staging, spool.staging, remote=remote)
        self._open = open_index
        self.index = self._fresh()

    def _fresh(self) -> PackingIndex:
        self.documents = PackDocuments({ARCHIVE: self.places.blocks})
        return self._open(self.documents)

    def lose_index(self) -> None:
        self.index.close()
        self.index = self._fresh()

    def rebuild(self) -> list[Done]:
        return list(rebuild(self.places, self.index, threads=2))

    @property
    def archive(self) -> LocalArchive:
        return LocalArchive(self.places, self.index, ingest=Ingest())

    def store(self, study: int, series: int, number: int, **changes: Any) -> Outcome:
        return self.receive(samples.part10(samples.ct(study, series, number, **changes)))

    def put_only(self, study: int, series: int, number: int, **changes: Any) -> str:
        """Its object alone, as when the gateway is killed before the index has it."""
        data = samples.part10(samples.ct(study, series, number, **changes))
        instance = parse(data)
        key = keys.spool(instance.identity, instance.digest)
        self.places.spool.put(key, [data])
        return key

    def receive(self, data: bytes) -> Outcome:
        archive = self.archive
        with archive.incoming() as incoming:
            incoming.write(data)
            return archive.store(incoming, Expected(), by=BY).outcome

    def seal(self, study_number: int, series: int) -> None:
        sealer = Sealer(self.index, self.places.stores, staging=self.places.packing, sealing=SEALING)
        assert sealer.seal_series(study(study_number), f"{study(study_number)}.{series}")

    def compactor(self) -> Compactor:
        return Compactor(self.index, self.places.stores, self.documents, staging=self.places.packing)

    def compact(self) -> None:
        assert self.compactor().run_once().done

    def sweep(self) -> None:
        sweeper = Sweeper(self.index, self.places.stores, grace_seconds=0, clock=lambda: FOREVER)
        while sweeper.run_once():
            pass

    def delete(self, *uids: str) -> None:
        self.archive.delete(Scope(*uids), by=BY)

    def damage(self, at: int, key: str = "") -> str:
        """Flip a bit of that pack, or of the only one; its key."""
        [pack] = list(self.places.archive.scan(key or "packs/"))
        with self.places.archive.get(pack.key) as body:
            data = bytearray(body.read())
        data[at] ^= 1
        self.places.archive.put(pack.key, [data], if_absent=False)
        return pack.key

    def keys(self) -> list[str]:
        return [meta.key for store in (self.places.spool, self.places.archive) for meta in store.scan()]

    def answers(self) -> dict[str, Any]:
        """Everything that can be asked, of everything that is there."""
        archive = self.archive
        found: dict[str, Any] = {}
        for level in Level:
            rows = archive.search(Query(level, include_all=True, limit=1000), by=BY)
            found[f"search {level}"] = sorted(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) for row in rows.rows)
            found[f"remaining {level}"] = rows.remaining
        for row in archive.search(Query(Level.STUDY, limit=1000), by=BY).rows:
            scope = Scope(row["0020000D"]["Value"][0])
            found[f"metadata {scope}"] = list(archive.metadata(scope, by=BY))
            parts = archive.retrieve(scope, accept=[AS_STORED], by=BY)
            found[f"retrieve {scope}"] = [(part.identity, b"".join(part.chunks())) for part in parts]
            for identity, _ in found[f"metadata {scope}"]:
                one = Scope(identity.study_uid, identity.series_uid, identity.sop_uid)
                frames = archive.frames(one, [1], accept=[AS_STORED], by=BY)
                found[f"frames {one}"] = [b"".join(part.chunks()) for part in frames]
        return found


@pytest.fixture(params=sorted(ENGINES))
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    numbers = itertools.count()
    opened: list[PackingIndex] = []

    def open_index(documents: PackDocuments) -> PackingIndex:
        opened.append(ENGINES[request.param](tmp_path / f"index-{next(numbers)}", request)(documents))
        return opened[-1]

    yield House(tmp_path, open_index)
    for index in opened:
        index.close()


def fill(house: House) -> None:
    """Loose and sealed series, versions of either, late instances, and what is left of deletions and crashes."""
    for number in range(1, 4):
        house.store(1, 1, number)
    house.seal(1, 1)
    house.store(1, 1, 2, StudyDescription="corrected")
    house.seal(1, 1)
    house.store(1, 1, 4)
    house.store(1, 1, 1, PatientName="Wang^XiaoDong^Jr")
    house.store(1, 2, 1)
    house.store(1, 2, 1, StudyDescription="second", PixelData=b"\1" * 512)
    house.store(1, 2, 1, StudyDescription="third")
    for series in (3, 4):
        for number in range(1, 4):
            house.store(1, series, number, Modality="MR")
        house.seal(1, series)
    house.delete(study(1), f"{study(1)}.3", f"{study(1)}.3.1")
    house.compact()
    house.delete(study(1), f"{study(1)}.4", f"{study(1)}.4.2")
    house.store(2, 1, 1)
    house.seal(2, 1)
    house.delete(study(2))
    house.store(3, 1, 1)
    house.delete(study(3))
    house.store(3, 1, 1)
    ds = samples.ct(4, 1, 1)
    house.receive(samples.part10(ds).replace(b"CS\x08\x00GB18030 ", b"CS\x0a\x00ISO_IR 100"))
    house.receive(samples.part10(samples.ct(4, 1, 2), "1.2.840.10008.1.2"))
    house.receive(samples.dataset_bytes(samples.part10(samples.ct(4, 1, 3))))
    house.seal(4, 1)


def test_all_answers_are_what_they_were(house: House) -> None:
    assert is_empty(house.index)
    fill(house)
    assert not is_empty(house.index)
    before = house.answers()
    house.lose_index()
    done = house.rebuild()
    assert {one.fate for one in done} == {Fate.ADOPTED, Fate.DOOMED}
    assert house.answers() == before
    house.sweep()
    assert house.answers() == before
    assert [one.findings for one in verify(house.places, house.index, clock=lambda: FOREVER) if one.findings] == []


def test_of_packs_that_overlap_the_one_without_what_was_deleted_is_taken(house: House) -> None:
    for series in range(1, 7):
        for number in (1, 2, 3):
            house.store(1, series, number)
        house.seal(1, series)
        house.delete(study(1), f"{study(1)}.{series}", f"{study(1)}.{series}.2")
    house.compact()
    compacted = {pack.location.key for pack in house.index.packs()}
    assert len([key for key in sorted(house.keys()) if key.startswith("packs/")]) == 12, "nothing is swept yet"
    house.lose_index()
    house.rebuild()
    assert {pack.location.key for pack in house.index.packs()} == compacted
    assert list(house.index.wasteful(1)) == []
    house.sweep()
    assert {key for key in sorted(house.keys()) if key.startswith("packs/")} == compacted


def test_of_packs_of_the_same_instances_one_is_taken(house: House) -> None:
    """Each attempt to seal that was killed has left one, under a key of its own."""
    for number in (1, 2, 3):
        house.store(1, 1, number)
    before = house.answers()
    for _ in range(2):
        sealer = Sealer(
            house.index, house.places.stores, staging=house.places.packing, sealing=SEALING, at=crash_at(VERIFIED)
        )
        with pytest.raises(Crash):
            sealer.seal_series(study(1), f"{study(1)}.1")
    assert len(list(house.places.archive.scan("packs/"))) == 2
    house.lose_index()
    assert sorted(one.fate for one in house.rebuild()) == sorted([Fate.ADOPTED, *[Fate.DOOMED] * 4])
    assert house.answers() == before
    house.sweep()
    assert len(house.keys()) == 1
    assert house.answers() == before


def test_a_merged_pack_takes_the_place_of_those_that_it_was_made_of(house: House) -> None:
    for number in (5, 2, 8, 1, 7, 3, 6, 4):
        house.store(1, 1, number)
        house.seal(1, 1)
    before = house.answers()
    assert house.compactor().merge_once().done == 1
    (merged,) = house.index.packs()
    assert len([key for key in sorted(house.keys()) if key.startswith("packs/")]) == 9, "nothing is swept yet"
    house.lose_index()
    house.rebuild()
    assert [pack.location.key for pack in house.index.packs()] == [merged.location.key]
    house.sweep()
    assert house.answers() == before
    assert [key for key in sorted(house.keys()) if key.startswith("packs/")] == [merged.location.key]


def test_all_answers_are_what_they_were_with_packs_in_a_bucket(tmp_path: Path, seaweed: Seaweed) -> None:
    store = S3Store(parse_s3_url(seaweed.url(seaweed.make_bucket("rebuild"))))
    opened: list[SqliteIndex] = []

    def open_index(documents: PackDocuments) -> SqliteIndex:
        opened.append(SqliteIndex(tmp_path / f"{len(opened)}.sqlite", documents=documents))
        return opened[-1]

    house = House(tmp_path, open_index, store)
    fill(house)
    before = house.answers()
    house.lose_index()
    house.rebuild()
    assert house.answers() == before
    house.sweep()
    assert [one.findings for one in verify(house.places, house.index, clock=lambda: FOREVER) if one.findings] == []
    house.lose_index()
    house.rebuild()
    assert house.answers() == before
    for index in opened:
        index.close()
    store.close()


def test_sweeping_and_compacting_after_a_rebuild_leave_what_is_needed(house: House) -> None:
    fill(house)
    before = house.answers()
    house.sweep()
    house.lose_index()
    house.rebuild()
    house.compact()
    house.sweep()
    assert house.answers() == before
    deleted = [f"{study(1)}.3.1", f"{study(1)}.4.2"]
    for meta in house.places.archive.scan("packs/"):
        with house.places.archive.get(meta.key) as body:
            data = body.read()
        assert not any(f"{uid}.dcm".encode() in data for uid in deleted)


def test_what_was_deleted_does_not_come_back(house: House) -> None:
    fill(house)
    house.lose_index()
    house.rebuild()
    with pytest.raises(NotFound):
        house.index.locate(Scope(study(2)))
    assert len(house.index.locate(Scope(study(1), f"{study(1)}.4"))) == 2
    assert house.store(2, 1, 1) is Outcome.NEW


def test_it_may_be_killed_anywhere_and_run_again(house: House) -> None:
    fill(house)
    before = house.answers()
    house.lose_index()
    whole = house.rebuild()
    for count in range(1, len(whole), 4):
        house.lose_index()
        begun = rebuild(house.places, house.index, threads=1)
        list(itertools.islice(begun, count))
        begun.close()  # type: ignore[attr-defined]
        house.rebuild()
        assert house.answers() == before
    again = house.rebuild()
    assert {one.fate for one in again} == {Fate.KNOWN, Fate.DOOMED}
    assert house.answers() == before


def test_storing_goes_on_as_if_nothing_had_happened(house: House) -> None:
    fill(house)
    house.lose_index()
    house.rebuild()
    assert house.store(1, 1, 3) is Outcome.SAME
    assert house.store(1, 1, 4) is Outcome.SAME
    assert house.store(1, 1, 3, StudyDescription="again") is Outcome.VERSION
    house.seal(1, 1)
    assert len(house.index.locate(Scope(study(1), f"{study(1)}.1"))) == 4


def test_an_older_version_that_came_again_is_served_again(house: House) -> None:
    """Its bytes are in a pack already, but the loose object is not left over from before that was sealed."""
    house.store(1, 1, 1)
    house.store(1, 1, 1, StudyDescription="other")
    house.seal(1, 1)
    house.sweep()
    assert house.store(1, 1, 1) is Outcome.VERSION
    before = house.answers()
    house.lose_index()
    house.rebuild()
    assert house.answers() == before


@pytest.mark.parametrize("where", ["loose", "packed"])
def test_what_was_never_acknowledged_does_not_replace_what_came_after_it(house: House, where: str) -> None:
    house.put_only(1, 1, 1, StudyDescription="killed before it was named")
    house.store(1, 1, 1)
    if where == "packed":
        house.seal(1, 1)
        house.sweep()
    before = house.answers()
    house.rebuild()
    assert house.answers() == before
    assert {one.fate for one in house.rebuild()} == {Fate.KNOWN}
    house.seal(1, 1)
    house.sweep()
    assert house.answers() == before
    house.lose_index()
    house.rebuild()
    assert house.answers() == before
    assert [one.findings for one in verify(house.places, house.index, clock=lambda: FOREVER) if one.findings] == []


@pytest.mark.parametrize("late", ["loose", "packed"])
def test_an_index_of_before_is_brought_up_to_what_a_new_one_would_be(house: House, late: str) -> None:
    """The gateway ran on with a dump that knew nothing of the packs."""
    house.store(1, 1, 1, StudyDescription="first")
    house.store(1, 1, 2)
    house.seal(1, 1)
    house.store(1, 1, 2, StudyDescription="second")
    house.seal(1, 1)
    house.sweep()
    house.lose_index()
    house.store(1, 1, 1, StudyDescription="corrected")
    house.store(1, 1, 2, StudyDescription="corrected")
    if late == "packed":
        house.seal(1, 1)
    corrected = house.archive.search(Query(Level.STUDY, include_all=True), by=BY).rows[0]["00081030"]
    house.rebuild()
    resumed = house.answers()
    assert house.archive.search(Query(Level.STUDY, include_all=True), by=BY).rows[0]["00081030"] == corrected
    house.sweep()
    house.lose_index()
    house.rebuild()
    assert house.answers() == resumed


def test_what_the_index_has_doomed_does_not_end_a_run(house: House) -> None:
    key = house.put_only(1, 1, 1)
    house.index.doom([Location("spool", key, 0, 0)], FOREVER)
    house.store(1, 2, 1)
    assert {one.key: one.fate for one in house.rebuild()}[key] is Fate.DOOMED
    assert len(house.index.locate(Scope(study(1)))) == 1


def test_objects_that_cannot_be_read_are_told_and_stay(house: House) -> None:
    fill(house)
    house.sweep()
    keys = house.keys()
    [pack] = [key for key in keys if key.startswith(f"packs/local/{study(4)}/")]
    loose = next(key for key in keys if key.startswith(f"spool/{study(1)}/"))
    for store, key in ((house.places.archive, pack), (house.places.spool, loose)):
        with store.get(key) as body:
            data = bytearray(body.read())
        data[-400] ^= 1
        store.put(key, [data], if_absent=False)
    house.places.archive.put("packs/strange.txt", [b"x"])
    house.lose_index()
    left = {one.key for one in house.rebuild() if one.fate is Fate.LEFT}
    assert left == {pack, loose, "packs/strange.txt"}
    assert set(house.keys()) == {*keys, "packs/strange.txt"}


def test_what_lies_before_a_data_set_is_taken_as_it_is_found(house: House) -> None:
    """Nothing but the index knew what it was: damage from before is not found out, damage from now on is."""
    house.store(1, 1, 1)
    [before] = house.index.loose(study(1), f"{study(1)}.1")
    key = before.location.key
    with house.places.spool.get(key) as body:
        data = body.read()
    house.places.spool.put(key, [b"x", data[1:]], if_absent=False)
    with pytest.raises(Damaged):
        check_loose(house.places.spool, before)
    house.lose_index()
    assert [one.fate for one in house.rebuild()] == [Fate.ADOPTED]
    [after] = house.index.loose(study(1), f"{study(1)}.1")
    assert after.header_digest != before.header_digest
    check_loose(house.places.spool, after)
    house.places.spool.put(key, [data], if_absent=False)
    with pytest.raises(Damaged):
        check_loose(house.places.spool, after)


def test_loose_objects_are_taken_and_not_their_damaged_pack(house: House) -> None:
    for number in (1, 2):
        house.store(1, 1, number, size=1000)
    before = house.answers()
    house.seal(1, 1)
    house.damage(1000)  # far from the end of the object, which is all that is read of it at first
    house.lose_index()
    assert [one.fate for one in house.rebuild()] == [Fate.LEFT, Fate.ADOPTED, Fate.ADOPTED]
    house.sweep()
    assert house.answers() == before


def test_a_store_that_does_not_answer_ends_the_run(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(house)
    house.lose_index()

    def down(*asked: object) -> None:
        raise Unavailable("no route to host")

    places = replace(house.places, packs=replace_get(house.places.archive, down))
    monkeypatch.setattr(DiskStore, "check", down)
    with pytest.raises(Unavailable, match="no route"):
        list(rebuild(places, house.index))


def replace_get(store: Any, get: Callable[..., Any]) -> Any:
    """`store` with another `get`."""
    return WatchedStore(store, lambda method, key: get() if method == "get" else None)
