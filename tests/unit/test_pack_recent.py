"""Blocks in memory: bounded, right, and forgotten when they should be; read ahead only as far as they are kept."""

from pathlib import Path

import pytest

from storage.packs import BLOCK_BYTES, Blocks
from storage.packs.blocks import BlockReader
from storage.packs.cache import BlockCache
from storage.packs.recent import RecentBlocks
from tests.packed import RecordingStore, blake

DATA = [bytes([number]) * BLOCK_BYTES for number in range(12)]
BLOCKS = Blocks(len(DATA) * BLOCK_BYTES, b"".join(map(blake, DATA)))
KEY = "packs/local/1/2/3.zip"


@pytest.fixture
def store() -> RecordingStore:
    store = RecordingStore()
    store.put(KEY, DATA)
    return store


def read_in_order(reader: BlockReader, step: int = BLOCK_BYTES // 4) -> None:
    for offset in range(0, BLOCKS.length, step):
        with reader.get(KEY, (offset, step), BLOCKS) as body:
            assert body.read() == bytes([offset // BLOCK_BYTES]) * step


def spans_of(*counts: int) -> list[tuple[int, int]]:
    """Neighbouring spans of so many blocks each."""
    return [(sum(counts[:at]) * BLOCK_BYTES, count * BLOCK_BYTES) for at, count in enumerate(counts)]


def test_what_was_unused_for_longest_goes_first() -> None:
    recent = RecentBlocks(3 * BLOCK_BYTES)
    for number in (0, 1, 2):
        recent.put(KEY, number, DATA[number], BLOCKS)
    assert recent.get(KEY, 0, BLOCKS) == DATA[0]
    recent.put(KEY, 3, DATA[3], BLOCKS)
    recent.put(KEY, 3, DATA[3], BLOCKS)
    assert [number for number in range(5) if recent.has(KEY, number)] == [0, 2, 3]
    assert [recent.get(KEY, number, BLOCKS) for number in (1, 3)] == [None, DATA[3]]


def test_a_block_of_another_object_under_the_same_key_is_not_given() -> None:
    recent = RecentBlocks(1 << 30)
    recent.put(KEY, 0, DATA[0], BLOCKS)
    other = Blocks(BLOCKS.length, blake(DATA[1]) + BLOCKS.digests[16:])
    assert recent.get(KEY, 0, other) is None
    recent.put(KEY, 0, DATA[1], other)
    assert recent.get(KEY, 0, other) == DATA[1]


def test_without_a_cache_what_is_read_on_comes_in_few_requests(store: RecordingStore) -> None:
    read_in_order(BlockReader(store, recent_bytes=8 * BLOCK_BYTES))
    assert store.spans == spans_of(1, 2, 4, 4, 1)


def test_where_nothing_is_kept_nothing_is_read_ahead(store: RecordingStore, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for cache in (None, BlockCache(tmp_path / "file", 1 << 30)):
        store.spans.clear()
        read_in_order(BlockReader(store, cache), BLOCK_BYTES)
        assert store.spans[2:] == spans_of(*[1] * 12)[2:]


def test_a_cache_that_takes_blocks_again_is_used_again(store: RecordingStore, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.touch()
    cache = BlockCache(folder, 1 << 30)
    reader = BlockReader(store, cache, recent_bytes=8 * BLOCK_BYTES)
    reader.get(KEY, (0, 10), BLOCKS).read()
    folder.unlink()
    reader.get(KEY, (BLOCK_BYTES, 10), BLOCKS).read()
    assert [number for number in range(12) if cache.has(KEY, number)] == [1, 2]
    store.spans.clear()
    reader.get(KEY, (0, 3 * BLOCK_BYTES), BLOCKS).read()
    assert store.spans == []


def test_a_disk_that_is_full_is_left_alone(store: RecordingStore, tmp_path: Path) -> None:
    reader = BlockReader(store, BlockCache(tmp_path, 1 << 30, min_free_bytes=1 << 62), recent_bytes=8 * BLOCK_BYTES)
    read_in_order(reader)
    assert store.spans == spans_of(1, 2, 4, 4, 1)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_forgotten_is_not_in_memory_either(store: RecordingStore) -> None:
    reader = BlockReader(store, recent_bytes=8 * BLOCK_BYTES)
    reader.get(KEY, (0, 10), BLOCKS).read()
    assert reader.cached() == [KEY]
    reader.forget(KEY)
    assert reader.cached() == []
    reader.get(KEY, (0, 10), BLOCKS).read()
    assert len(store.spans) == 2
