"""Reading what is sealed in a bucket: the same answers as before, for few requests."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.archive import AS_STORED, Expected
from gateway.archive.clock import microseconds
from gateway.archive.local import LocalArchive
from gateway.archive.places import ARCHIVE, Places
from gateway.config import Ingest
from storage.dicom.identity import Scope
from storage.errors import Unavailable
from storage.index import Outcome
from storage.index.sqlite import SqliteIndex
from storage.objects import Body
from storage.objects.memory import MemoryStore
from storage.packs import Damaged
from storage.packs.blocks import BlockReader
from storage.packs.cache import BlockCache
from storage.packs.documents import PackDocuments
from storage.packs.stream import SpanBody
from tests import samples
from tests.sealing import SERIES, STUDY, Archive, file_of
from tests.unit.fakes import WatchedStore
from tests.unit.test_local_archive import BY

SLICES = 1000


class Counting(MemoryStore):
    """Counts the bodies that are open."""

    open = 0

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        with super().get(key, span) as body:
            data = body.read()
        self.open += 1
        left = [self]

        def close() -> None:
            while left:
                left.pop().open -= 1

        return SpanBody([data], len(data), close)


class Sealed:
    """An archive whose packs lie far away, in a store that counts what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.requests: Counter[str] = Counter()
        self.packs = WatchedStore(MemoryStore(), before=lambda method, key: self.requests.update([method]))
        spool = MemoryStore()
        (folder / "cache").mkdir()
        self.copy = MemoryStore()
        self.blocks = blocks = BlockReader(self.packs, BlockCache(folder / "cache", 64 << 20), second=self.copy)
        self.index = SqliteIndex(folder / "index.sqlite", documents=PackDocuments({ARCHIVE: blocks}))
        stores = {"spool": spool, "archive": self.packs}
        self.sealing = Archive(self.index, stores, folder, microseconds)
        places = Places(spool, self.packs, self.packs, blocks, folder, folder, remote=frozenset([ARCHIVE]))
        self.archive = LocalArchive(places, self.index, ingest=Ingest())

    def retrieved(self, scope: Scope) -> dict[str, bytes]:
        parts = self.archive.retrieve(scope, accept=[AS_STORED], by=BY)
        return {part.identity.sop_uid: b"".join(part.chunks()) for part in parts}

    def store(self, data: bytes) -> Outcome:
        with self.archive.incoming() as incoming:
            incoming.write(data)
            return self.archive.store(incoming, Expected(), by=BY).outcome


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Sealed]:
    found = Sealed(tmp_path)
    yield found
    found.index.close()


def test_a_series_of_a_thousand_slices_costs_at_most_twelve_requests(sealed: Sealed) -> None:
    sealed.sealing.store_many(SLICES, size=64)
    sealed.sealing.sealer().seal_series(STUDY, SERIES)
    sent = {name[2]: data for name, data in sealed.sealing.sent.items()}
    sealed.requests.clear()
    assert sealed.retrieved(Scope(STUDY, SERIES)) == sent
    assert sealed.requests.total() <= 12
    sealed.requests.clear()
    assert len(list(sealed.archive.metadata(Scope(STUDY, SERIES), by=BY))) == SLICES
    assert sealed.requests.total() <= 12


def test_frames_of_a_sealed_series_come_from_the_cache_the_second_time(sealed: Sealed) -> None:
    sealed.sealing.store_many(50, size=64)
    sealed.sealing.sealer().seal_series(STUDY, SERIES)
    scopes = [Scope(*name) for name in sealed.sealing.sent]

    def frames() -> list[bytes]:
        found = [sealed.archive.frames(scope, [1], accept=[AS_STORED], by=BY) for scope in scopes]
        return [b"".join(part.chunks()) for parts in found for part in parts]

    sealed.requests.clear()
    first = frames()
    assert 0 < sealed.requests.total() <= 12
    sealed.requests.clear()
    assert frames() == first
    assert sealed.requests.total() == 0


@pytest.mark.parametrize("size", [64, 1024], ids=["one block", "blocks in a row"])
@pytest.mark.parametrize("harm", ["changed", "cut short"])
def test_what_is_damaged_in_the_archive_is_read_from_the_copy(sealed: Sealed, harm: str, size: int) -> None:
    sealed.sealing.store_many(12, size=size)
    [pack] = sealed.sealing.sealer().seal_series(STUDY, SERIES)
    series = Scope(STUDY, SERIES)

    def read() -> tuple[object, ...]:
        one = Scope(*list(sealed.sealing.sent)[6])
        frames = sealed.archive.frames(one, [1], accept=[AS_STORED], by=BY)
        return (
            [b"".join(part.chunks()) for part in frames],
            sealed.retrieved(series),
            list(sealed.archive.metadata(series, by=BY)),
        )

    key = pack.location.key
    whole = sealed.packs.get(key).read()
    harmed = bytes(byte ^ 1 for byte in whole[:1000]) + bytes(len(whole) - 1000) if harm == "changed" else whole[:100]
    sealed.packs.put(key, [harmed], if_absent=False)
    with pytest.raises(Damaged):
        read()
    sealed.copy.put(key, [whole])
    frames, instances, metadata = read()
    assert instances == {name[2]: data for name, data in sealed.sealing.sent.items()}
    sealed.packs.put(key, [whole], if_absent=False)
    assert read() == (frames, instances, metadata)


def test_what_archive_and_copy_have_damaged_at_different_places_is_read(sealed: Sealed) -> None:
    sealed.sealing.store_many(20, size=32)
    [pack] = sealed.sealing.sealer().seal_series(STUDY, SERIES)
    whole = sealed.packs.get(pack.location.key).read()
    for store, instance in ((sealed.packs, pack.instances[0]), (sealed.copy, pack.instances[16])):
        harmed = bytearray(whole)
        harmed[instance.offset + 900] ^= 1
        store.put(pack.location.key, [harmed], if_absent=False)
    assert sealed.retrieved(Scope(STUDY, SERIES)) == {name[2]: data for name, data in sealed.sealing.sent.items()}
    assert len(list(sealed.archive.metadata(Scope(STUDY, SERIES), by=BY))) == 20


def test_one_wrong_byte_takes_away_one_instance(sealed: Sealed) -> None:
    sealed.sealing.store_many(20, size=32)
    [pack] = sealed.sealing.sealer().seal_series(STUDY, SERIES)
    harmed = bytearray(sealed.packs.get(pack.location.key).read())
    harmed[pack.instances[3].offset + 900] ^= 1
    sealed.packs.put(pack.location.key, [harmed], if_absent=False)
    for packed in pack.instances:
        one = Scope(STUDY, SERIES, packed.sop_uid)
        if packed is pack.instances[3]:
            with pytest.raises(Damaged):
                sealed.retrieved(one)
        else:
            assert sealed.retrieved(one) == {packed.sop_uid: sealed.sealing.sent[STUDY, SERIES, packed.sop_uid]}
            frames = sealed.archive.frames(one, [1], accept=[AS_STORED], by=BY)
            assert sum(len(chunk) for part in frames for chunk in part.chunks()) == 2 * 32 * 32


def test_a_sealed_series_that_is_sent_again_is_one_look_at_its_pack(sealed: Sealed) -> None:
    sealed.sealing.store(numbers=range(1, 21))
    sealed.sealing.sealer().seal_series(STUDY, SERIES)
    sealed.requests.clear()
    assert {sealed.store(file_of(1, 1, number)) for number in range(1, 21)} == {Outcome.SAME}
    assert sealed.requests == {"head": 1}


def test_what_is_lost_with_its_pack_is_not_acknowledged(sealed: Sealed) -> None:
    sealed.sealing.store(numbers=[1, 2])
    [pack] = sealed.sealing.sealer().seal_series(STUDY, SERIES)
    sealed.packs.delete([pack.location.key])
    with pytest.raises(Unavailable, match="gateway verify --repair"):
        sealed.store(file_of(1, 1, 1))
    sealed.packs.put(pack.location.key, [b"PK"])
    with pytest.raises(Unavailable, match="gateway verify --repair"):
        sealed.store(file_of(1, 1, 1))


def test_a_newer_version_and_a_late_instance_of_a_sealed_series_are_read_beside_it(sealed: Sealed) -> None:
    sealed.sealing.store(numbers=[1, 2, 3])
    sealed.sealing.sealer().seal_series(STUDY, SERIES)
    newer, late = file_of(1, 1, 2, 5), file_of(1, 1, 9)
    assert (sealed.store(newer), sealed.store(late)) == (Outcome.VERSION, Outcome.NEW)
    assert list(sealed.retrieved(Scope(STUDY, SERIES)).values()) == [
        file_of(1, 1, 1),
        newer,
        file_of(1, 1, 3),
        late,
    ]


def test_deleted_from_a_pack_it_is_found_no_more_and_can_be_stored_again(sealed: Sealed) -> None:
    sealed.sealing.store(numbers=[1, 2])
    sealed.sealing.sealer().seal_series(STUDY, SERIES)
    one = Scope(STUDY, SERIES, f"{SERIES}.1")
    assert sealed.archive.delete(one, by=BY).instances == 1
    assert list(sealed.retrieved(Scope(STUDY, SERIES)).values()) == [file_of(1, 1, 2)]
    assert sealed.store(file_of(1, 1, 1)) is Outcome.NEW
    assert list(sealed.retrieved(one).values()) == [file_of(1, 1, 1)]


def test_an_answer_that_is_given_up_holds_no_request(sealed: Sealed) -> None:
    sealed.packs.inner = store = Counting()
    sealed.sealing.store_many(24, size=512)
    (pack,) = sealed.sealing.sealer().seal_series(STUDY, SERIES)
    sealed.blocks.forget(pack.location.key)
    parts = sealed.archive.retrieve(Scope(STUDY, SERIES), accept=[AS_STORED], by=BY)
    part = next(parts)
    next(part.chunks())
    assert store.open == 1
    part.close()
    parts.close()  # type: ignore[attr-defined]
    assert store.open == 0


def test_many_frames_of_an_instance_are_one_request(sealed: Sealed) -> None:
    frames = 24
    pixels = bytes(range(256)) * (frames * 2048)  # 12 MiB
    data = samples.part10(samples.ct(1, 1, 1, size=512, NumberOfFrames=frames, PixelData=pixels))
    sealed.sealing.store_file(data)
    (pack,) = sealed.sealing.sealer().seal_series(STUDY, SERIES)
    scope = Scope(STUDY, SERIES, pack.instances[0].sop_uid)
    sealed.requests.clear()
    parts = sealed.archive.frames(scope, range(1, frames + 1), accept=[AS_STORED], by=BY)
    assert b"".join(b"".join(part.chunks()) for part in parts) == pixels
    assert sealed.requests == {"get": 1}
