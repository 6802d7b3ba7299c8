from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from storage.errors import Exhausted, Unavailable
from storage.packs import BLOCK_BYTES, Blocks, Damaged
from storage.packs.blocks import BlockReader
from storage.packs.documents import PackDocuments
from storage.packs.metadata import FULL_BYTES, MAX_BYTES
from storage.packs.stream import count_of
from tests import packed as samples
from tests.packed import HeldStore, RecordingStore, Written, generated

FEW = [generated(number) for number in (1, 2, 3, 4)]
TEXTS = [one.metadata for one in FEW]


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


@pytest.fixture
def written(store: RecordingStore, tmp_path: Path) -> Written:
    return samples.put(store, tmp_path / "pack.zip", FEW)


def documents(store: RecordingStore, **options: int) -> PackDocuments:
    return PackDocuments({"archive": BlockReader(store)}, **options)


def test_documents_are_those_that_were_packed_and_are_read_once(store: RecordingStore, written: Written) -> None:
    found = documents(store)
    assert list(found.documents(written.pack)) == TEXTS
    assert list(found.documents(written.pack)) == TEXTS
    assert len(store.spans) == 1


def test_only_those_of_the_instances_that_are_left_are_given(store: RecordingStore, written: Written) -> None:
    pack = replace(written.pack, instances=written.pack.instances[1::2], positions=(1, 3))
    found = documents(store)
    assert list(found.documents(pack)) == TEXTS[1::2]
    assert list(found.documents(written.pack)) == TEXTS


@pytest.mark.parametrize("positions", [None, (1, 4), (1,)])
def test_an_index_that_says_otherwise_is_not_believed(
    store: RecordingStore, written: Written, positions: tuple[int, ...] | None
) -> None:
    pack = replace(written.pack, instances=written.pack.instances[1::2], positions=positions)
    with pytest.raises(Damaged):
        documents(store).documents(pack)


def test_what_was_used_last_is_held(store: RecordingStore, tmp_path: Path) -> None:
    packs = [samples.put(store, tmp_path / f"{n}.zip", [generated(n, uid=n)]).pack for n in (1, 2, 3)]
    found = documents(store, max_bytes=2 * (len(TEXTS[0]) + 64))
    for at in (0, 1, 0, 2, 0, 1):
        found.documents(packs[at])
    assert len(store.spans) == 4
    assert list(documents(store, max_bytes=1).documents(packs[0])) == [generated(1, uid=1).metadata]


def test_what_somebody_still_reads_from_is_shared_and_not_read_again(store: RecordingStore, written: Written) -> None:
    found = documents(store, max_bytes=1)
    slow = found.documents(written.pack)
    assert found.documents(written.pack) is slow
    assert len(store.spans) == 1
    del slow
    found.documents(written.pack)
    assert len(store.spans) == 2


@pytest.mark.parametrize("max_bytes", [0, 1 << 20], ids=["held by readers alone", "held for a while too"])
def test_what_is_read_from_at_once_is_bounded(store: RecordingStore, tmp_path: Path, max_bytes: int) -> None:
    packs = [samples.put(store, tmp_path / f"{n}.zip", [generated(n, uid=n)]).pack for n in (1, 2, 3)]
    found = documents(store, max_bytes=max_bytes, max_in_use_bytes=2 * (len(TEXTS[0]) + 64))
    slow = [found.documents(pack) for pack in packs[:2]]
    with pytest.raises(Exhausted, match="try again later"):
        found.documents(packs[2])
    assert found.documents(packs[0]) is slow[0], "who reads what is there already needs no more"
    del slow[1]
    assert list(found.documents(packs[2])) == [generated(3, uid=3).metadata]


def test_the_metadata_of_a_full_pack_can_be_held() -> None:
    most = PackDocuments({})._max_bytes
    assert 2 * FULL_BYTES <= most < MAX_BYTES


def test_a_pack_that_is_missing_or_elsewhere_is_unavailable(store: RecordingStore, written: Written) -> None:
    with pytest.raises(Unavailable):
        PackDocuments({}).documents(written.pack)
    store.delete([written.pack.location.key])
    with pytest.raises(Unavailable):
        documents(store).documents(written.pack)


def test_damaged_metadata_is_damaged(store: RecordingStore, written: Written) -> None:
    store.flips = {0: 2}
    found = documents(store)
    with pytest.raises(Damaged):
        found.documents(written.pack)
    assert list(found.documents(written.pack)) == TEXTS  # the next time it is read anew
    elsewhere = replace(written.pack, metadata=written.pack.metadata._replace(offset=0))
    with pytest.raises(Damaged):
        documents(store).documents(elsewhere)


def test_many_who_ask_at_once_read_a_pack_once(written: Written) -> None:
    store = HeldStore()
    store.put(written.pack.location.key, written.path)
    found = documents(store)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(found.documents, written.pack) for _ in range(6)]
        assert store.begun.wait(60)
        store.go_on.set()
        assert all(list(one.result(60)) == TEXTS for one in asked)
    assert len(store.spans) == 1


def test_blocks_are_counted() -> None:
    sizes = (0, 1, BLOCK_BYTES, BLOCK_BYTES + 1)
    assert [count_of(Blocks(size, b"")) for size in sizes] == [0, 1, 1, 2]
