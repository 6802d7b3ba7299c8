"""A rebuild over an index that is not empty: an older dump, or one that missed what a crash left; beside one in use."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.archive.local import LocalArchive
from gateway.archive.places import ARCHIVE, SPOOL
from gateway.archive.sealer import Sealer
from gateway.archive.steps import PUT
from gateway.archive.sweeper import Sweeper
from gateway.config import Ingest
from gateway.upkeep.fates import Fate
from gateway.upkeep.rebuild import rebuild
from gateway.upkeep.verification import verify
from storage.dicom.identity import Scope
from storage.errors import NotFound
from storage.index import Added, InstanceRecord, Location, Outcome, PackingIndex
from storage.index.sqlite import SqliteIndex
from storage.objects.disk import DiskStore
from storage.objects.fallback import FallbackStore
from storage.packs.blocks import BlockReader
from storage.packs.documents import PackDocuments
from tests.contract.test_rebuild import BY, FOREVER, SEALING, House, study
from tests.sealing import Crash, crash_at

SERIES = f"{study(1)}.1"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """With indexes of which several can be open; what they do on every engine is in `test_index_rebuilding`."""
    opened: list[SqliteIndex] = []

    def open_index(documents: PackDocuments) -> SqliteIndex:
        opened.append(SqliteIndex(tmp_path / f"index-{len(opened)}.sqlite", documents=documents))
        return opened[-1]

    yield House(tmp_path, open_index)
    for index in opened:
        index.close()


def dump(house: House) -> PackingIndex:
    """An index that knows what there is by now, and nothing of what comes."""
    now = house.index
    taken = house._fresh()
    list(rebuild(house.places, taken))
    house.index = now
    return taken


def fates(house: House) -> set[Fate]:
    return {one.fate for one in house.rebuild()}


def check_nothing_is_wrong(house: House) -> None:
    house.sweep()
    found = verify(house.places, house.index, clock=lambda: FOREVER)
    assert [one.findings for one in found if one.findings] == []


def sweep_loose(house: House) -> None:
    """What is doomed, but for the pack that was announced."""
    Sweeper(house.index, {SPOOL: house.places.spool}, grace_seconds=0, clock=lambda: FOREVER).run_once()


def forget_deletions(house: House) -> None:
    """As after a day, when no object holds what was deleted."""
    house.places.archive.delete([meta.key for meta in house.places.archive.scan("tombstones/")])


@pytest.mark.parametrize("days_later", [False, True])
def test_a_pack_that_took_the_place_of_others_since_is_used(house: House, days_later: bool) -> None:
    for number in (1, 2, 3):
        house.store(1, 1, number)
    house.seal(1, 1)
    taken = dump(house)
    house.delete(study(1), SERIES, f"{SERIES}.1")
    house.compact()
    house.sweep()
    before = house.answers()
    house.index = taken
    if days_later:
        forget_deletions(house)
        assert fates(house) == {Fate.ADOPTED, Fate.MISSING}  # the first is named, and nobody says that it was deleted
        taken.remove(Scope(study(1), SERIES, f"{SERIES}.1"))
    else:
        assert fates(house) == {Fate.ADOPTED, Fate.BURIED}
    assert house.answers() == before
    check_nothing_is_wrong(house)
    assert house.answers() == before


@pytest.mark.parametrize("days_later", [False, True])
@pytest.mark.parametrize("sealed_before", [False, True])
@pytest.mark.parametrize("sealed_again", [False, True])
def test_what_was_deleted_and_came_again_is_there(
    house: House, sealed_before: bool, sealed_again: bool, days_later: bool
) -> None:
    house.store(1, 1, 1)
    if sealed_before:
        house.seal(1, 1)
        house.sweep()
    taken = dump(house)
    house.delete(study(1))
    house.sweep()
    assert house.store(1, 1, 1) is Outcome.NEW
    if sealed_again:
        house.seal(1, 1)
        house.sweep()
    before = house.answers()
    if days_later:
        forget_deletions(house)
    house.index = taken
    house.rebuild()
    house.sweep()
    assert house.answers() == before
    assert fates(house) == {Fate.KNOWN} or days_later
    assert house.answers() == before


@pytest.mark.parametrize("sealed", [False, True])
def test_what_was_deleted_since_is_found_no_more(house: House, sealed: bool) -> None:
    house.store(1, 1, 1)
    house.store(1, 1, 2)
    house.store(2, 1, 1)
    if sealed:
        house.seal(1, 1)
        house.seal(2, 1)
        house.sweep()
    taken = dump(house)
    house.delete(study(1), SERIES, f"{SERIES}.2")
    house.delete(study(2))
    house.index = taken
    assert Fate.BURIED in fates(house)
    assert [one.identity.sop_uid for one in taken.locate(Scope(study(1)))] == [f"{SERIES}.1"]
    with pytest.raises(NotFound):
        taken.locate(Scope(study(2)))


@pytest.mark.parametrize("sealed", [False, True])
def test_what_is_deleted_meanwhile_is_not_found_in_the_new_index(house: House, sealed: bool) -> None:
    for number in (1, 2):
        house.store(number, 1, 1)
        if sealed:
            house.seal(number, 1)
    house.sweep()
    in_use, new = house.index, house._fresh()
    begun = rebuild(house.places, new, threads=1)
    list(itertools.islice(begun, 1))
    LocalArchive(house.places, in_use, ingest=Ingest()).delete(Scope(study(1)), by=BY)
    assert [one.fate for one in begun][-1] is Fate.BURIED
    with pytest.raises(NotFound):
        new.locate(Scope(study(1)))
    assert len(new.locate(Scope(study(2)))) == 1


@pytest.mark.parametrize("sealed", [False, True])
def test_what_the_index_names_and_is_not_there_is_told(house: House, sealed: bool) -> None:
    for number in (1, 2):
        house.store(1, 1, number)
        if sealed:
            house.seal(1, 1)
    house.sweep()
    assert fates(house) == {Fate.KNOWN}
    key = house.index.locate(Scope(study(1)))[0].location.key
    store = house.places.archive if sealed else house.places.spool
    store.delete([key])
    assert {one.key for one in house.rebuild() if one.fate is Fate.MISSING} == {key}


def seal_cut_off(house: House) -> str:
    """Kill the sealer when it has put the pack; its key."""
    sealer = Sealer(house.index, house.places.stores, staging=house.places.packing, sealing=SEALING, at=crash_at(PUT))
    with pytest.raises(Crash):
        sealer.seal_series(study(1), SERIES)
    [pack] = list(house.places.archive.scan("packs/"))
    return pack.key


@pytest.mark.parametrize("late", [False, True])
def test_a_damaged_pack_takes_no_place(house: House, late: bool) -> None:
    """It was put, and never read back. `late`: one of its instances is nowhere else."""
    for number in (1, 2):
        house.store(1, 1, number, size=1000)
    before = house.answers()
    key = seal_cut_off(house)
    house.damage(1000)
    if late:
        house.index.remove(Scope(study(1), SERIES, f"{SERIES}.2"))
        sweep_loose(house)
    found = {one.key: one for one in house.rebuild()}
    assert (found[key].fate, found[key].instances) == (Fate.LEFT, int(late))
    sweep_loose(house)
    assert house.answers() == before


def test_a_whole_pack_takes_what_a_damaged_one_has_too(house: House) -> None:
    for number in (1, 2, 3):
        house.store(1, 1, number, size=1000)
    house.seal(1, 1)
    house.sweep()
    [key] = [pack.location.key for pack in house.index.packs()]
    house.delete(study(1), SERIES, f"{SERIES}.1")
    house.compact()
    before = house.answers()
    house.damage(3_000_000, key)  # in the second instance
    forget_deletions(house)
    house.lose_index()
    found = house.rebuild()
    assert Fate.DOOMED not in {one.fate for one in found}
    assert key in {one.key for one in found if one.fate is Fate.LEFT}
    first = Scope(study(1), SERIES, f"{SERIES}.1")
    assert house.index.locate(first)[0].location.key == key
    house.index.remove(first)
    assert house.answers() == before
    house.sweep()
    assert house.answers() == before


def test_a_pack_that_a_sweeper_is_about_to_delete_is_rescued_or_left(house: House) -> None:
    house.store(1, 1, 1)
    before = house.answers()
    key = seal_cut_off(house)
    house.index.doom([Location(ARCHIVE, key, 0, 0)], 1)
    name = f"seal/{study(1)}/{SERIES}"
    assert house.index.lease(name, "a sweeper", 60)
    assert {one.key: one.fate for one in house.rebuild()}[key] is Fate.LEFT
    assert house.index.locate(Scope(study(1)))[0].blocks is None
    house.index.release(name, "a sweeper")
    assert {one.key: one.fate for one in house.rebuild()}[key] is Fate.ADOPTED
    house.sweep()
    assert house.answers() == before
    check_nothing_is_wrong(house)


def test_what_a_gateway_is_storing_meanwhile_stays(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    add = house.index.add

    def add_late(record: InstanceRecord) -> Added:
        assert fates(house) == {Fate.ADOPTED}, "it finds the object, which is to be named just now"
        return add(record)

    monkeypatch.setattr(house.index, "add", add_late)
    house.store(1, 1, 1)
    house.sweep()
    assert len(house.answers()[f"retrieve {Scope(study(1))}"]) == 1
    check_nothing_is_wrong(house)


def with_copies(house: House, folder: Path) -> DiskStore:
    """The house with a copy of all its packs, from which is read what the archive has not."""
    copy = DiskStore(folder / "copy")
    archive = house.places.archive
    for meta in archive.scan("packs/"):
        with archive.get(meta.key) as body:
            copy.put(meta.key, [body.read()])
    packs = FallbackStore(archive, copy)
    house.places = replace(house.places, copy=copy, packs=packs, blocks=BlockReader(packs))
    return copy


def test_a_pack_that_only_the_copy_has_is_found_and_told(house: House, tmp_path: Path) -> None:
    for series in (1, 2):
        house.store(1, series, 1)
        house.seal(1, series)
    house.sweep()
    before = house.answers()
    with_copies(house, tmp_path)
    lost, other = sorted(meta.key for meta in house.places.archive.scan("packs/"))
    house.places.archive.delete([lost])
    house.lose_index()
    assert {one.key: one.fate for one in house.rebuild()} == {lost: Fate.MISSING, other: Fate.ADOPTED}
    assert house.answers() == before
    list(verify(house.places, house.index, repair=True, clock=lambda: FOREVER))
    assert fates(house) == {Fate.KNOWN}
    check_nothing_is_wrong(house)


@pytest.mark.parametrize("why", ["deleted", "loose again", "compacted"])
def test_a_copy_brings_nothing_back_that_it_need_not(house: House, tmp_path: Path, why: str) -> None:
    house.store(1, 1, 1)
    house.store(1, 1, 2)
    house.seal(1, 1)
    house.sweep()
    with_copies(house, tmp_path)
    if why == "compacted":
        house.delete(study(1), SERIES, f"{SERIES}.1")
        house.compact()
    else:
        house.delete(study(1))
    if why == "loose again":
        forget_deletions(house)
        house.store(1, 1, 1)
        house.store(1, 1, 2)
    swept = [meta.key for meta in house.places.archive.scan("packs/") if not house.index.names(meta.key)]
    house.places.archive.delete(swept)  # and not yet from the copy
    in_use = house.index
    house.index = house._fresh()
    assert Fate.MISSING not in fates(house)
    if why == "deleted":
        assert not list(house.index.packs())
    else:
        served = [(one.identity, one.location) for one in house.index.locate(Scope(study(1)))]
        assert served == [(one.identity, one.location) for one in in_use.locate(Scope(study(1)))]
