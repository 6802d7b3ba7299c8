"""What every `PackingIndex` does to rebuild one that is not empty: what was found takes the place of what was lost."""

from dataclasses import replace
from functools import cache

import pytest

from storage.dicom.identity import Scope
from storage.dicom.query import Level
from storage.errors import Conflict
from storage.index import Outcome, PackingIndex
from storage.packs import Pack
from tests import samples
from tests.contract import index_samples
from tests.contract.conftest import Open
from tests.contract.index_samples import ask, firsts, record
from tests.contract.pack_samples import KeptDocuments, one_pack, pack_of, seal, soon

instance = cache(index_samples.instance)
STUDY, SERIES = f"{samples.ROOT}.1", f"{samples.ROOT}.1.1"


@pytest.fixture
def documents() -> KeptDocuments:
    return KeptDocuments()


@pytest.fixture
def index(opened: Open, documents: KeptDocuments) -> PackingIndex:
    return opened(documents)


def sealed(index: PackingIndex, documents: KeptDocuments, *numbers: int) -> Pack:
    for number in numbers:
        index.add(record(instance(1, 1, number)))
    return seal(index, documents, STUDY, SERIES)


def some_of(pack: Pack, documents: KeptDocuments, *positions: int) -> Pack:
    """Another pack, of some of its instances."""
    new = pack_of(STUDY, SERIES, [pack.instances[position] for position in positions])
    found = documents.documents(pack)
    documents.kept[new.location] = [found[position] for position in positions]
    return new


def keys_served(index: PackingIndex) -> list[str]:
    return [each.location.key for each in index.locate(Scope(STUDY))]


def numbers_of(index: PackingIndex) -> list[int]:
    [found] = firsts(index, ask(Level.STUDY), "NumberOfStudyRelatedInstances")
    assert isinstance(found, int)
    return [found, len(index.locate(Scope(STUDY)))]


def test_a_pack_takes_from_lost_ones_what_it_has_too(index: PackingIndex, documents: KeptDocuments) -> None:
    lost = [sealed(index, documents, 1, 2), sealed(index, documents, 3)]
    other = sealed(index, documents, 4)
    new = some_of(lost[0], documents, 1)
    index.adopt(new, documents.documents(new), instead_of={pack.location.key for pack in lost})
    assert keys_served(index) == [pack.location.key for pack in (lost[0], new, lost[1], other)]
    assert numbers_of(index) == [4, 4]
    [left] = [pack for pack in index.packs() if pack.pack_id == lost[0].pack_id]
    assert [one.sop_uid for one in left.instances] == [f"{SERIES}.1"]


def test_a_lost_pack_of_which_nothing_is_left_goes(index: PackingIndex, documents: KeptDocuments) -> None:
    lost = [sealed(index, documents, 1), sealed(index, documents, 2)]
    new = pack_of(STUDY, SERIES, [pack.instances[0] for pack in lost])
    documents.kept[new.location] = [documents.documents(pack)[0] for pack in lost]
    index.adopt(new, documents.documents(new), instead_of={pack.location.key for pack in lost})
    assert one_pack(index, STUDY) == new
    assert keys_served(index) == [new.location.key] * 2
    assert numbers_of(index) == [2, 2]
    assert index.remove(Scope(STUDY)).locations == (new.location,)


def test_a_pack_that_may_be_removed_any_moment_is_not_adopted(index: PackingIndex, documents: KeptDocuments) -> None:
    pack = sealed(index, documents, 1)
    index.remove(Scope(STUDY))
    with pytest.raises(Conflict):
        index.adopt(pack, documents.documents(pack))
    assert not list(index.packs())
    index.respite(pack.location, soon())
    index.adopt(pack, documents.documents(pack))
    assert pack.location.key not in {one.key for one in index.doomed(soon(9999), 10)}


def test_a_loose_object_takes_the_place_of_the_same_that_was_lost(index: PackingIndex) -> None:
    index.add(record(instance(1, 1, 1, Rows=7)))
    lost = record(instance(1, 1, 1))
    index.add(lost)
    found = record(instance(1, 1, 1), received_at=9, attempt="-2")
    found = replace(found, location=replace(found.location, length=1500))
    assert index.bring_back(found).outcome is Outcome.SAME
    assert keys_served(index) == [lost.location.key]
    assert index.bring_back(found, instead_of={lost.location.key}).outcome is Outcome.VERSION
    assert keys_served(index) == [found.location.key]
    assert [one.packed.revision for one in index.loose(STUDY, SERIES)] == [1, 2]
    assert (index.backlog().instances, index.backlog().bytes) == (2, 2500)


def test_a_loose_object_is_served_instead_of_a_lost_pack(index: PackingIndex, documents: KeptDocuments) -> None:
    lost = sealed(index, documents, 1, 2)
    found = record(instance(1, 1, 1), received_at=9, attempt="-2")
    assert index.bring_back(found, instead_of={lost.location.key}).outcome is Outcome.VERSION
    assert keys_served(index) == [found.location.key, lost.location.key]
    assert numbers_of(index) == [2, 2]
    assert index.backlog().instances == 1


def test_no_doomed_object_takes_the_place_of_a_lost_one(index: PackingIndex) -> None:
    lost = record(instance(1, 1, 1))
    index.add(lost)
    found = record(instance(1, 1, 1), attempt="-2")
    index.doom([found.location], soon())
    with pytest.raises(Conflict):
        index.bring_back(found, instead_of={lost.location.key})
    assert keys_served(index) == [lost.location.key]
