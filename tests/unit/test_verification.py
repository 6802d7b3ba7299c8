"""Verifying: every kind of damage is found, and repaired where that loses nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.archive import tombstones
from gateway.archive.places import Places
from gateway.archive.tombstones import Tombstone
from gateway.upkeep.findings import Finding, Kind
from gateway.upkeep.orphans import YOUNG_SECONDS
from gateway.upkeep.verification import verify
from gateway.upkeep.whole import check_pack
from storage.dicom.identity import Scope
from storage.dicom.parse import parse
from storage.errors import NotFound, Unavailable
from storage.objects import Body, Location, ObjectMeta, keys
from storage.objects.memory import MemoryStore
from storage.packs import BLOCK_BYTES, Damaged, Pack
from storage.packs.blocks import BlockReader
from tests import packed
from tests.sealing import HOUR, SECOND, SERIES, STUDY, Archive, Clock, file_of
from tests.unit.fake_packing import FakePackingIndex


class OldStore(MemoryStore):
    """In memory, with objects that were all written at one moment."""

    written_at = 0

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectMeta]:
        for meta in super().scan(prefix, after=after):
            yield ObjectMeta(meta.key, meta.length, self.written_at)

    def damage(self, key: str, change: Callable[[bytearray], None]) -> None:
        with self.get(key) as body:
            data = bytearray(body.read())
        change(data)
        self.put(key, [data], if_absent=False)


class House:
    """A spool, an archive, a copy of it and an index."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.clock = Clock()
        self.index = FakePackingIndex(self.clock)
        self.spool, self.packs, self.copy = OldStore(), OldStore(), OldStore()
        self.archive = Archive(self.index, {"spool": self.spool, "archive": self.packs}, folder, self.clock)
        self.places = Places(
            self.spool,
            self.packs,
            self.packs,
            BlockReader(self.packs, None),
            staging=folder,
            packing=folder,
            copy=self.copy,
        )
        for store in (self.spool, self.packs, self.copy):
            store.written_at = self.clock()
        self.clock.pass_(2 * YOUNG_SECONDS)

    def sealed(self, series: int = 1, numbers: range = range(1, 4)) -> Pack:
        """A pack with a confirmed copy, its loose objects swept."""
        self.archive.store(series=series, numbers=numbers)
        (pack,) = self.archive.sealer().seal_series(STUDY, f"{STUDY}.{series}")
        with self.packs.get(pack.location.key) as body:
            self.copy.put(pack.location.key, [body.read()])
        self.index.copied(pack, "copy")
        self.clock.pass_(2 * HOUR)
        self.archive.sweeper().run_once()
        return pack

    def findings(self, *, repair: bool = False, scope: Scope | None = None) -> list[Finding]:
        checked = verify(self.places, self.index, scope, repair=repair, threads=2, clock=self.clock)  # type: ignore[arg-type]
        return [finding for one in checked for finding in one.findings]

    def check_clean(self) -> None:
        assert self.findings() == []
        self.archive.check_all_is_read_back()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "staging")


def flip(data: bytearray) -> None:
    data[len(data) // 3] ^= 1


def cut(data: bytearray) -> None:
    del data[-100:]


def test_nothing_is_found_where_nothing_is_wrong(house: House) -> None:
    house.sealed()
    house.archive.store(series=2, numbers=range(1, 3))
    checked = list(verify(house.places, house.index, threads=2, clock=house.clock))  # type: ignore[arg-type]
    assert [one.findings for one in checked] == [()] * 3
    assert all(one.bytes for one in checked)
    assert house.findings(scope=Scope(STUDY)) == []
    with pytest.raises(NotFound):
        house.findings(scope=Scope("1.2.3"))


@pytest.mark.parametrize("change", [flip, cut, bytearray.clear])
@pytest.mark.parametrize("bad", ["archive", "copy"])
def test_a_damaged_pack_is_restored_from_the_other_store(
    house: House, bad: str, change: Callable[[bytearray], None]
) -> None:
    pack = house.sealed()
    store = house.packs if bad == "archive" else house.copy
    store.damage(pack.location.key, change)
    [finding] = house.findings(scope=Scope(STUDY))
    assert (finding.kind, finding.store, finding.key, finding.repaired) == (
        Kind.DAMAGED,
        bad,
        pack.location.key,
        False,
    )
    [finding] = house.findings(repair=True)
    assert finding.repaired
    house.check_clean()
    assert list((house.places.staging).iterdir()) == []


@pytest.mark.parametrize("bad", ["archive", "copy"])
def test_a_missing_pack_is_restored_from_the_other_store(house: House, bad: str) -> None:
    pack = house.sealed()
    store = house.packs if bad == "archive" else house.copy
    store.delete([pack.location.key])
    assert [(one.kind, one.store) for one in house.findings()] == [(Kind.MISSING, bad)]
    assert [one.repaired for one in house.findings(repair=True)] == [True]
    house.check_clean()


def test_a_pack_that_is_damaged_everywhere_is_left_as_it_is(house: House) -> None:
    pack = house.sealed()
    for store in (house.packs, house.copy):
        store.damage(pack.location.key, flip)
    before = {store: list(store.scan()) for store in (house.packs, house.copy)}
    found = house.findings(repair=True)
    assert [(one.kind, one.store, one.repaired) for one in found] == [
        (Kind.DAMAGED, "archive", False),
        (Kind.DAMAGED, "copy", False),
    ]
    assert {store: list(store.scan()) for store in (house.packs, house.copy)} == before


def test_a_pack_that_is_damaged_at_another_place_in_each_store_is_restored_from_both(house: House) -> None:
    pack = house.sealed()
    for store, packed_ in ((house.packs, pack.instances[0]), (house.copy, pack.instances[2])):
        store.damage(pack.location.key, lambda data, at=packed_.offset + 500: data.__setitem__(at, data[at] ^ 1))  # type: ignore[misc]
    found = house.findings()
    assert [(one.store, one.repaired) for one in found] == [("archive", False), ("copy", False)]
    assert all("each of its bytes is right in the store `archive` or the store `copy`" in one.advice for one in found)
    assert [one.repaired for one in house.findings(repair=True)] == [True, True]
    house.check_clean()


def test_a_copy_that_was_not_made_yet_is_not_missing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FakePackingIndex, "uncopied")  # which reads all that wait: too much to be asked for each
    house.archive.store()
    house.archive.sealer().seal_series(STUDY, SERIES)
    assert house.findings() == []


def test_another_pack_under_the_same_key_is_found(house: House) -> None:
    one, other = house.sealed(1), house.sealed(2)
    with house.packs.get(other.location.key) as body:
        house.packs.put(one.location.key, [body.read()], if_absent=False)
    assert [(found.kind, found.key) for found in house.findings()] == [(Kind.DAMAGED, one.location.key)]


def flip_header(data: bytearray) -> None:
    data[7] ^= 1  # of the preamble


@pytest.mark.parametrize("damage", ["flipped", "flipped header", "cut", "missing"])
def test_a_damaged_loose_object_is_told_and_kept(house: House, damage: str) -> None:
    house.archive.store(numbers=(1, 2))
    key = next(house.spool.scan()).key
    if damage == "missing":
        house.spool.delete([key])
    else:
        house.spool.damage(key, {"flipped": flip, "flipped header": flip_header, "cut": cut}[damage])
    for repair in (False, True):
        [finding] = house.findings(repair=repair)
        assert (finding.key, finding.store, finding.repaired) == (key, "spool", False)
        assert finding.kind is (Kind.MISSING if damage == "missing" else Kind.DAMAGED)
    assert len(list(house.spool.scan())) == (1 if damage == "missing" else 2)


def orphan(house: House, number: int = 1, seed: int = 0) -> str:
    """A loose object that nothing names."""
    data = file_of(1, 1, number, seed)
    instance = parse(data)
    key = keys.spool(instance.identity, instance.digest)
    house.spool.put(key, [data])
    return key


def test_an_instance_that_was_stored_and_never_named_is_named(house: House) -> None:
    key = orphan(house)
    [finding] = house.findings()
    assert (finding.kind, finding.key, finding.repaired) == (Kind.ORPHAN, key, False)
    assert [one.repaired for one in house.findings(repair=True)] == [True]
    assert house.archive.read(STUDY, SERIES, f"{SERIES}.1") == file_of(1, 1, 1)
    house.check_clean()


@pytest.mark.parametrize("where", ["loose", "packed"])
def test_an_instance_that_was_never_named_does_not_replace_what_came_after_it(house: House, where: str) -> None:
    key = orphan(house, seed=1)
    if where == "packed":
        house.sealed()
    else:
        house.archive.store()
    [finding] = house.findings(repair=True)
    assert (finding.key, finding.repaired) == (key, True) and "superseded" in finding.advice
    assert house.archive.read(STUDY, SERIES, f"{SERIES}.1") == file_of(1, 1, 1)
    house.check_clean()


def test_an_object_that_is_doomed_while_it_is_looked_at_is_let_go(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = orphan(house)
    get = house.spool.get

    def doom_first(*asked: Any) -> Body:
        house.index.doom([Location("spool", key, 0, 0)], house.clock())
        return get(*asked)

    monkeypatch.setattr(house.spool, "get", doom_first)
    assert house.findings(repair=True) == []


def test_a_young_object_that_nothing_names_is_left_alone(house: House) -> None:
    orphan(house)
    house.spool.written_at = house.clock() - (YOUNG_SECONDS - 1) * SECOND
    assert house.findings(repair=True) == []


@pytest.mark.parametrize("where", ["loose", "packed"])
def test_a_second_object_of_an_instance_is_doomed(house: House, where: str) -> None:
    if where == "packed":
        house.sealed()
    else:
        house.archive.store()
    key = orphan(house)
    assert [one.repaired for one in house.findings()] == [False]
    assert [(one.key, one.repaired) for one in house.findings(repair=True)] == [(key, True)]
    assert [one.key for one in house.index.doomed(house.clock() + 1, 10)] == [key]
    assert house.findings() == [], "what is doomed is not told again"


def test_a_second_object_is_kept_while_the_first_is_damaged(house: House) -> None:
    pack = house.sealed()
    for store in (house.packs, house.copy):
        store.damage(pack.location.key, flip)
    key = orphan(house)
    assert [one.repaired for one in house.findings(repair=True) if one.key == key] == [False]
    assert house.index.doomed(house.clock() + 1, 10) == []


def test_what_was_deleted_is_not_brought_back(house: House) -> None:
    orphan(house)
    tombstones.put(house.packs, Tombstone(Scope(STUDY), house.clock()))
    [finding] = house.findings(repair=True)
    assert "deleted" in finding.what and finding.repaired
    with pytest.raises(NotFound):
        house.index.locate(Scope(STUDY))


def test_an_object_that_is_no_instance_is_told_and_left(house: House) -> None:
    key = orphan(house)
    house.spool.damage(key, flip)
    house.spool.put("spool/strange.txt", [b"x"])
    house.packs.put("packs/strange.txt", [b"x"])
    found = house.findings(repair=True)
    assert sorted(one.key for one in found) == sorted([key, "packs/strange.txt", "spool/strange.txt"])
    assert not any(one.repaired for one in found)


def test_a_pack_that_nothing_names_is_doomed_only_when_all_that_it_holds_is_elsewhere(house: House) -> None:
    pack = house.sealed()
    del house.index.sealed[STUDY, SERIES, pack.pack_id]
    [finding] = house.findings(repair=True)
    assert (finding.key, finding.repaired) == (pack.location.key, False)
    assert "reindex" in finding.advice
    house.archive.store(numbers=range(1, 4))
    assert [(one.key, one.repaired) for one in house.findings(repair=True)] == [(pack.location.key, True)]


def test_a_copy_that_nothing_names_is_doomed_only_when_all_that_it_holds_is_elsewhere(house: House) -> None:
    pack = house.sealed()
    del house.index.sealed[STUDY, SERIES, pack.pack_id]
    assert [one.store for one in house.findings()] == ["archive"], "the original speaks for both"
    house.packs.delete([pack.location.key])
    [finding] = house.findings(repair=True)
    assert (finding.store, finding.key, finding.repaired) == ("copy", pack.location.key, False)
    assert "into the archive" in finding.advice
    house.archive.store(numbers=range(1, 4))
    assert [(one.store, one.repaired) for one in house.findings(repair=True)] == [("copy", True)]
    assert ("copy", pack.location.key) in house.index.removals


def test_a_copy_that_is_being_made_is_no_orphan(house: House) -> None:
    pack = house.sealed()
    del house.index.sealed[STUDY, SERIES, pack.pack_id]
    house.packs.delete([pack.location.key])
    house.index.doom([replace(pack.location, store="copy")], house.clock() + HOUR * SECOND)
    assert house.findings(repair=True) == []


def test_a_pack_that_is_being_sealed_is_no_orphan(house: House) -> None:
    pack = house.sealed()
    del house.index.sealed[STUDY, SERIES, pack.pack_id]
    house.index.doom([pack.location], house.clock() + HOUR * SECOND)
    assert house.findings(repair=True) == []


def test_what_is_sealed_while_it_is_looked_at_is_not_missing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.archive.store()

    def seal_first(*asked: object) -> Body:
        house.index.loose_ones.clear()
        raise NotFound("there is no such object")

    monkeypatch.setattr(house.spool, "get", seal_first)
    assert house.findings() == []


def test_a_store_that_does_not_answer_ends_the_run(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.sealed()

    def down(*asked: object) -> Body:
        raise Unavailable("no route to host")

    monkeypatch.setattr(house.packs, "get", down)
    monkeypatch.setattr(house.packs, "check", down)
    with pytest.raises(Unavailable, match="no route"):
        house.findings()


@pytest.mark.parametrize("lengths", [(3000, 3000, 3000), (1 << 20, 3000, 1 << 20)], ids=["small", "large"])
def test_the_instance_that_is_damaged_is_named(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    """Of a small pack the digest of all does not fit; that of the last bytes of a large one does."""
    store = OldStore()
    instances = [packed.generated(number, length) for number, length in enumerate(lengths, 1)]
    pack = packed.put(store, tmp_path / "pack.zip", instances).pack
    check_pack(store, pack)
    second = pack.instances[1]

    def change(data: bytearray) -> None:
        data[second.offset + second.length - 1] ^= 1

    store.damage(pack.location.key, change)
    with pytest.raises(Damaged) as found:
        check_pack(store, pack)
    assert str(found.value).endswith(f"not what was stored: SOP Instance UID {second.sop_uid}")
    assert ("its digest does not fit" in str(found.value)) is (sum(lengths) < BLOCK_BYTES)


def test_instances_that_a_cut_pack_has_lost_are_named(house: House) -> None:
    pack = house.sealed()
    house.packs.damage(pack.location.key, lambda data: data.__delitem__(slice(pack.instances[2].offset, None)))
    [found] = house.findings()
    assert found.what.endswith(f"SOP Instance UID {pack.instances[2].sop_uid}")
