"""Opening instances wherever they lie: followed when they were moved, verified when they came over a network."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from gateway.archive.openers import Openers
from gateway.archive.parts import StoredPart, whole
from gateway.archive.places import ARCHIVE, SPOOL
from storage.dicom.identity import Identity
from storage.errors import Exhausted, NotFound, Unavailable
from storage.index import Location, Stored
from storage.packs import BLOCK_BYTES, Damaged
from tests.packed import EXPLICIT_LITTLE, SERIES, STUDY, Generated, RecordingStore, generated, put, repeated
from tests.unit.fakes import places

CT = "1.2.840.10008.5.1.4.1.1.2"


class House:
    """Instances in a spool and in packs, and where each lies now."""

    def __init__(self, folder: Path, remote: Iterable[str] = ()) -> None:
        self.spool, self.archive = RecordingStore(), RecordingStore()
        self.folder = folder
        self.staging = folder / "staging"
        self.staging.mkdir()
        self.now: dict[str, Stored] = {}
        self.room: Exception | None = None
        self.places = places(self.staging, self.spool, self.archive, remote=remote, check_room=self.check_room)
        self.openers = Openers(self.places, self.served)

    def check_room(self) -> None:
        if self.room is not None:
            raise self.room

    def served(self, identity: Identity) -> Stored:
        if identity.sop_uid not in self.now:
            raise NotFound("there is no such instance")
        return self.now[identity.sop_uid]

    def loose(self, one: Generated) -> Stored:
        key = f"spool/{one.packed.sop_uid}.dcm"
        self.spool.put(key, [one.data])
        return self._found(one, Location(SPOOL, key, 0, len(one.data)))

    def packed(self, ones: list[Generated]) -> list[Stored]:
        pack = put(self.archive, self.folder / "pack.zip", ones).pack
        offsets = {packed.sop_uid: packed.offset for packed in pack.instances}
        found = []
        for one in ones:
            location = replace(pack.location, offset=offsets[one.packed.sop_uid], length=len(one.data))
            self._found(one, location)
            self.now[one.packed.sop_uid] = replace(self.now[one.packed.sop_uid], blocks=pack.blocks)
            found.append(self.now[one.packed.sop_uid])
        return found

    def _found(self, one: Generated, location: Location) -> Stored:
        packed = one.packed
        identity = Identity(STUDY, SERIES, packed.sop_uid, CT)
        stored = Stored(
            identity,
            EXPLICIT_LITTLE,
            location,
            packed.header_length,
            packed.digest,
            packed.revision,
            one.header_digest if location.store == SPOOL else None,
        )
        self.now[packed.sop_uid] = stored
        return stored

    def damage(self, stored: Stored, how: str) -> None:
        """Make the object of an instance another than was stored."""
        with self.archive.get(stored.location.key) as body:
            data = bytearray(body.read())
        data[stored.location.offset + 1000] ^= 1
        if how == "cut short":
            del data[stored.location.offset + 900 :]
        self.archive.put(stored.location.key, [data], if_absent=False)

    def read(self, stored: Stored) -> bytes:
        reading = whole(stored, *self.openers.steps(stored))
        return b"".join(StoredPart(self.openers.of(stored), stored, EXPLICIT_LITTLE, "", reading).chunks())

    def span(self, stored: Stored, start: int, length: int) -> bytes:
        location = stored.location
        with self.openers.of(stored).get(location.key, (location.offset + start, length)) as body:
            return body.read()


EVERYWHERE = [(), (SPOOL,), (ARCHIVE,), (SPOOL, ARCHIVE)]


@pytest.mark.parametrize("remote", EVERYWHERE, ids=str)
def test_loose_and_packed_instances_are_read_alike(tmp_path: Path, remote: tuple[str, ...]) -> None:
    house = House(tmp_path, remote)
    loose, *packed = [generated(number, 5000) for number in range(1, 5)]
    for one, stored in zip([loose, *packed], [house.loose(loose), *house.packed(packed)], strict=True):
        assert house.read(stored) == one.data
        assert house.span(stored, 200, 300) == one.data[200:500]
        assert house.span(stored, 0, 0) == b""
    assert list(house.staging.iterdir()) == []


@pytest.mark.parametrize("remote", EVERYWHERE, ids=str)
def test_an_instance_that_was_sealed_after_it_was_found_is_read_from_its_pack(
    tmp_path: Path, remote: tuple[str, ...]
) -> None:
    house = House(tmp_path, remote)
    ones = [generated(number, 4000) for number in (1, 2)]
    found = [house.loose(one) for one in ones]
    house.packed(ones)
    house.spool.delete([stored.location.key for stored in found])
    for one, stored in zip(ones, found, strict=True):
        assert house.read(stored) == one.data
        assert house.span(stored, 100, 50) == one.data[100:150]


def test_a_pack_that_was_rewritten_is_followed(tmp_path: Path) -> None:
    house = House(tmp_path, (ARCHIVE,))
    ones = [generated(number) for number in (1, 2, 3)]
    found = house.packed(ones)
    house.packed(ones[1:])
    house.archive.delete([found[0].location.key])
    assert house.read(found[2]) == ones[2].data
    runs = house.openers.series(found[1:])
    parts = [StoredPart(runs.of(one), one, EXPLICIT_LITTLE, "", whole(one)) for one in found[1:]]
    assert [b"".join(part.chunks()) for part in parts] == [one.data for one in ones[1:]]
    runs.close()


def test_what_was_deleted_or_lost_is_not_waited_for(tmp_path: Path) -> None:
    house = House(tmp_path)
    stored = house.loose(generated(1))
    house.spool.delete([stored.location.key])
    with pytest.raises(Unavailable, match="missing"):
        house.read(stored)
    house.now.clear()
    with structlog.testing.capture_logs() as logged, pytest.raises(Unavailable, match="deleted while it was read"):
        house.read(stored)
    assert logged == [], "nothing is lost"


def test_another_version_is_not_read_in_place_of_one_that_is_gone(tmp_path: Path) -> None:
    house = House(tmp_path)
    stored = house.loose(generated(1, seed=1))
    house.spool.delete([stored.location.key])
    house.packed([generated(1, seed=2, revision=2)])
    with structlog.testing.capture_logs() as logged, pytest.raises(Unavailable, match="replaced while it was read"):
        house.read(stored)
    assert logged == [], "nothing is lost"


@pytest.mark.parametrize("at", [0, 100, 1000], ids=["preamble", "file meta", "data set"])
@pytest.mark.parametrize("where", [SPOOL, ARCHIVE])
def test_a_flipped_byte_from_far_away_is_never_handed_on(tmp_path: Path, where: str, at: int) -> None:
    house = House(tmp_path, (SPOOL, ARCHIVE))
    one = generated(1, 2000)
    stored = house.loose(one) if where == SPOOL else house.packed([one])[0]
    store = house.spool if where == SPOOL else house.archive
    with store.get(stored.location.key) as body:
        data = bytearray(body.read())
    data[stored.location.offset + at] ^= 1
    store.put(stored.location.key, [data], if_absent=False)
    with pytest.raises(Damaged):
        house.read(stored)
    with pytest.raises(Damaged):
        house.span(stored, at, 20)
    with pytest.raises(Damaged):
        house.span(stored, 990, 20)


def test_a_span_of_a_very_large_loose_instance_from_far_away_is_verified_too(tmp_path: Path) -> None:
    house = House(tmp_path, (SPOOL,))
    one = repeated(1, bytes(BLOCK_BYTES), 65)
    stored = house.loose(one._replace(data=bytes(65 * BLOCK_BYTES)))
    assert house.span(stored, 60 * BLOCK_BYTES, 20) == bytes(20)
    house.spool.put(stored.location.key, [bytes(65 * BLOCK_BYTES - 1) + b"x"], if_absent=False)
    with pytest.raises(Damaged):
        house.span(stored, 60 * BLOCK_BYTES, 20)
    assert list(house.staging.iterdir()) == []


def test_a_span_of_a_loose_instance_from_far_away_leaves_the_reserve_of_the_disk_alone(tmp_path: Path) -> None:
    house = House(tmp_path, (SPOOL,))
    stored = house.loose(generated(1))
    house.room = Exhausted("no room")
    with pytest.raises(Exhausted, match="no room"):
        house.span(stored, 10, 20)
    assert list(house.staging.iterdir()) == []


def test_a_whole_series_is_read_from_far_away_in_few_requests(tmp_path: Path) -> None:
    house = House(tmp_path, (ARCHIVE,))
    ones = [generated(number, BLOCK_BYTES // 16) for number in range(1, 101)]
    found = house.packed(ones)
    runs = house.openers.series(found)
    for one, stored in zip(ones, found, strict=True):
        part = StoredPart(runs.of(stored), stored, EXPLICIT_LITTLE, "", whole(stored))
        assert b"".join(part.chunks()) == one.data
    runs.close()
    assert len(house.archive.spans) == 1


def test_many_spans_of_one_instance_are_read_in_few_requests(tmp_path: Path) -> None:
    house = House(tmp_path, (ARCHIVE,))
    one = generated(1, 12 * BLOCK_BYTES)
    (stored,) = house.packed([one])
    start = stored.location.offset
    wanted = [(start + at, 100_000) for at in range(0, 11 * BLOCK_BYTES, 200_000)]
    runs = house.openers.spans((stored, span) for span in wanted)
    opener = runs.of(stored)
    for span in wanted:
        with opener.get(stored.location.key, span) as body:
            assert body.read() == one.data[span[0] - start : sum(span) - start]
    runs.close()
    assert len(house.archive.spans) == 1


def test_many_packs_side_by_side_are_read_with_few_of_them_open(tmp_path: Path) -> None:
    house = House(tmp_path, (ARCHIVE,))
    packs = [[generated(10 * number + n, uid=100 * number + n) for n in (1, 2, 3)] for number in range(1, 8)]
    found = [house.packed(ones) for ones in packs]
    runs = house.openers.series([one for stored in found for one in stored])
    for place in range(3):
        for ones, stored in zip(packs, found, strict=True):
            one = stored[place]
            part = StoredPart(runs.of(one), one, EXPLICIT_LITTLE, "", whole(one))
            assert b"".join(part.chunks()) == ones[place].data
    runs.close()


def test_loose_objects_in_a_folder_are_read_by_their_spans(tmp_path: Path) -> None:
    house = House(tmp_path)
    stored = house.loose(generated(1, 5000))
    house.span(stored, 200, 300)
    assert house.spool.spans == [(200, 300)]


@pytest.mark.parametrize("damage", ["flipped", "cut short"])
def test_what_is_damaged_in_a_folder_is_not_handed_on_either(tmp_path: Path, damage: str) -> None:
    house = House(tmp_path)
    ones = [generated(number, 2000) for number in (1, 2)]
    found = house.packed(ones)
    house.damage(found[1], damage)
    with pytest.raises(Damaged):
        house.read(found[1])
    with pytest.raises(Damaged):
        house.span(found[1], 990, 20)
    runs = house.openers.series(found)
    with pytest.raises(Damaged):
        [b"".join(StoredPart(runs.of(one), one, EXPLICIT_LITTLE, "", whole(one)).chunks()) for one in found]
    runs.close()


def test_whole_instances_in_a_damaged_block_are_read_by_their_own_digests(tmp_path: Path) -> None:
    house = House(tmp_path)
    ones = [generated(number, 2000) for number in range(1, 6)]
    found = house.packed(ones)
    house.damage(found[1], "flipped")
    runs = house.openers.series(found)
    for one, stored in zip(ones, found, strict=True):
        part = StoredPart(runs.of(stored), stored, EXPLICIT_LITTLE, "", whole(stored))
        if stored is found[1]:
            for read in (lambda part=part: b"".join(part.chunks()), lambda: house.span(found[1], 990, 20)):
                with pytest.raises(Damaged):
                    read()
        else:
            assert b"".join(part.chunks()) == one.data
            assert house.span(stored, 990, 20) == one.data[990:1010]
    runs.close()
    assert list(house.staging.iterdir()) == []


@pytest.mark.parametrize("at", [0, 100, 143], ids=["preamble", "file meta", "its end"])
def test_a_damaged_instance_is_not_read_though_its_data_set_is_whole(tmp_path: Path, at: int) -> None:
    house = House(tmp_path)
    first, second = house.packed([generated(1, 2000), generated(2, 2000)])
    with house.archive.get(first.location.key) as body:
        data = bytearray(body.read())
    data[first.location.offset + at] ^= 1
    house.archive.put(first.location.key, [data], if_absent=False)
    with pytest.raises(Damaged):
        house.read(first)
    assert house.read(second) == generated(2, 2000).data


def test_what_was_read_before_the_damage_is_followed_by_what_is_whole(tmp_path: Path) -> None:
    """The block in which an instance ends is damaged, in the next instance."""
    house = House(tmp_path)
    ones = [generated(1, 3 * BLOCK_BYTES + 5000), generated(2, 5000)]
    found = house.packed(ones)
    house.damage(found[1], "flipped")
    assert house.read(found[0]) == ones[0].data
    assert house.span(found[0], 2 * BLOCK_BYTES + 7, BLOCK_BYTES) == ones[0].data[2 * BLOCK_BYTES + 7 :][:BLOCK_BYTES]
    house.room = Exhausted("no room")
    with pytest.raises(Exhausted):
        house.read(found[0])


@pytest.mark.parametrize("lost", ["the end", "the manifest"])
def test_the_manifest_may_be_that_of_the_copy(tmp_path: Path, lost: str) -> None:
    house = House(tmp_path)
    ones = [generated(number, 2000) for number in (1, 2, 3)]
    found = house.packed(ones)
    key = found[0].location.key
    with house.archive.get(key) as body:
        whole_pack = body.read()
    copy = RecordingStore()
    copy.put(key, [flipped(whole_pack, found[2].location.offset + 900)])
    house.openers = Openers(replace(house.places, copy=copy), house.served)
    start = found[1].location.offset + 1000
    harmed = whole_pack[:start] + (b"" if lost == "the end" else bytes(len(whole_pack) - start))
    house.archive.put(key, [harmed], if_absent=False)
    assert [house.read(stored) for stored in found[:2]] == [one.data for one in ones[:2]]
    with pytest.raises(Damaged):
        house.read(found[2])


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
