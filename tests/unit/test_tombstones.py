"""Tombstones: what was deleted is said so that a rebuild can tell it from what came later."""

import pytest

from gateway.archive import tombstones
from gateway.archive.tombstones import UNSURE, Tombstone, object_name, version_name
from storage.dicom.identity import Identity, Scope
from storage.errors import Unavailable
from storage.objects.memory import MemoryStore

IDENTITY = Identity("1.2.3", "1.2.3.4", "1.2.3.4.5", "1.2.840.10008.5.1.4.1.1.2")
DIGEST = b"d" * 32


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        (Scope("1.2.3"), True),
        (Scope("1.2.3", "1.2.3.4"), True),
        (Scope("1.2.3", "1.2.3.4", "1.2.3.4.5"), True),
        (Scope("1.2.30"), False),
        (Scope("1.2.3", "1.2.3.40"), False),
        (Scope("1.2.3", "1.2.3.4", "1.2.3.4.50"), False),
    ],
)
def test_it_covers_what_was_received_in_its_scope_before(scope: Scope, covered: bool) -> None:
    stone = Tombstone(scope, 100)
    assert stone.covers(IDENTITY, DIGEST, 99) is covered
    assert not stone.covers(IDENTITY, DIGEST, 100)
    named = Tombstone.of(scope, 100, [version_name(IDENTITY.sop_uid, DIGEST, 99), object_name("k")])
    assert named.covers(IDENTITY, DIGEST, 99) is covered
    assert named.covers_object(IDENTITY, "k", 1 << 60) is covered


def test_it_covers_exactly_what_it_names_whatever_the_clocks_say() -> None:
    received = range(1000, 1020)
    names = [version_name(IDENTITY.sop_uid, DIGEST, at) for at in received]
    stone = Tombstone.of(Scope("1.2.3"), 5000, names)
    assert all(stone.covers(IDENTITY, DIGEST, at) for at in received)
    assert not any(stone.covers(IDENTITY, DIGEST, at) for at in (0, 999, 1020, 4999))
    assert not stone.covers(IDENTITY, b"e" * 32, 1000)
    assert not Tombstone.of(Scope("1.2.3"), 5000, []).covers(IDENTITY, DIGEST, 1000)


def test_an_object_that_was_not_named_is_covered_when_it_is_certainly_older() -> None:
    stone = Tombstone.of(Scope("1.2.3"), 10 * UNSURE, [])
    assert stone.covers_object(IDENTITY, "k", 9 * UNSURE - 1)
    assert not stone.covers_object(IDENTITY, "k", 9 * UNSURE)


def test_what_is_put_is_found_again_by_study() -> None:
    store = MemoryStore()
    of_study, of_instance = (
        Tombstone.of(Scope("1.2.3"), 5, [b"n" * 16]),
        Tombstone(Scope("1.2.30", "1.2.4", "1.2.5"), 7),
    )
    for stone in (of_study, of_instance, of_study):
        tombstones.put(store, stone)
    found = list(tombstones.scan(store))
    assert sorted(stone.at for _, stone in found) == [5, 5, 7]
    assert [stone for _, stone in tombstones.scan(store, "1.2.30")] == [of_instance]
    assert [stone for _, stone in tombstones.scan(store, "1.2.3")] == [of_study, of_study]
    assert all(key.startswith("tombstones/1.2.3") and key.endswith(".json") for key, _ in found)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"study_uid":1,"series_uid":null,"sop_uid":null}',
        b'{"study_uid":"1","series_uid":null,"sop_uid":null,"at":1,"names":"*"}',
        b'{"study_uid":"1","series_uid":null,"sop_uid":null,"at":1,"names":"AAAA"}',
        b"x" * 5000,
    ],
)
def test_one_that_cannot_be_read_is_not_passed_over(data: bytes) -> None:
    store = MemoryStore()
    store.put("tombstones/1.2.3/00.json", [data])
    with pytest.raises(Unavailable, match=r"tombstones/1\.2\.3/00\.json"):
        list(tombstones.scan(store))
