import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import Invalid, NotFound, Unavailable
from storage.objects import Body
from storage.packs import BLOCK_BYTES, Blocks, Damaged
from storage.packs import ahead as ahead_module
from storage.packs import blocks as blocks_module
from storage.packs.ahead import ReadAhead
from storage.packs.blocks import BlockReader
from storage.packs.cache import BlockCache
from storage.packs.checked import verified_chunks
from storage.packs.flights import Flights
from storage.packs.stream import is_right
from tests import packed as samples
from tests.faults.ledger import until
from tests.packed import EXPLICIT_LITTLE, HEADER_BYTES, HeldStore, RecordingStore, chunked, generated
from tests.unit.fakes import WatchedStore

MB = BLOCK_BYTES
ANY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
ONE_LARGE = [generated(1, 11 * MB + 500_000)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Blocks, bytes]:
    """Key, blocks and bytes of a pack of twelve blocks."""
    written = samples.write(tmp_path_factory.mktemp("large") / "pack.zip", ONE_LARGE)
    return written.pack.location.key, written.pack.blocks, written.path.read_bytes()


@pytest.fixture
def store(large: tuple[str, Blocks, bytes]) -> RecordingStore:
    store = RecordingStore()
    store.put(large[0], [large[2]])
    return store


@pytest.fixture
def cache(tmp_path: Path) -> BlockCache:
    return BlockCache(tmp_path / "cache", 1 << 30)


@ANY
@given(st.data(), st.booleans())
def test_any_span_is_what_the_object_holds(
    large: tuple[str, Blocks, bytes], store: RecordingStore, cache: BlockCache, data: st.DataObject, is_cached: bool
) -> None:
    key, blocks, whole = large
    offset = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, len(whole) - offset))
    reader = BlockReader(store, cache if is_cached else None)
    with reader.get(key, (offset, length), blocks) as body:
        assert body.length == length
        assert body.read() == whole[offset : offset + length]
    with reader.get(key, (offset, length), blocks) as body:
        chunks = list(body.chunks(100_000))
    assert b"".join(chunks) == whole[offset : offset + length]
    assert max(map(len, chunks), default=0) <= 100_000


@pytest.mark.parametrize("count", [1, 3, 8, 9, 12])
def test_neighbouring_blocks_take_one_request(
    large: tuple[str, Blocks, bytes], store: RecordingStore, count: int
) -> None:
    key, blocks, whole = large
    length = min(count * MB, len(whole)) - 10
    BlockReader(store).get(key, (5, length), blocks).read()
    assert store.spans == [(0, min(count * MB, len(whole)))]


def test_what_is_cached_is_not_fetched_again(
    large: tuple[str, Blocks, bytes], store: RecordingStore, cache: BlockCache
) -> None:
    key, blocks, whole = large
    reader = BlockReader(store, cache)
    reader.get(key, (4 * MB, 10), blocks).read()
    reader.get(key, (4 * MB + 100, 10), blocks).read()
    assert store.spans == [(4 * MB, MB)]
    assert (cache.hits, cache.misses) == (1, 1)
    store.spans.clear()
    assert reader.get(key, (2 * MB, 5 * MB), blocks).read() == whole[2 * MB : 7 * MB]
    assert store.spans == [(2 * MB, 2 * MB), (5 * MB, 2 * MB)]
    store.spans.clear()
    reader.get(key, (0, len(whole)), blocks).read()
    reader.get(key, (0, len(whole)), blocks).read()
    assert store.spans == [(0, 2 * MB), (7 * MB, len(whole) - 7 * MB)]


def test_who_reads_on_finds_more_and_more_fetched(
    large: tuple[str, Blocks, bytes], store: RecordingStore, cache: BlockCache
) -> None:
    key, blocks, whole = large
    reader = BlockReader(store, cache)
    frames = [(offset, 500_000) for offset in range(0, len(whole) - 500_000, 500_000)]
    for offset, length in frames:
        assert reader.get(key, (offset, length), blocks).read() == whole[offset : offset + length]
    assert store.spans == [(0, MB), (MB, 2 * MB), (3 * MB, 4 * MB), (7 * MB, len(whole) - 7 * MB)]


def test_who_reads_backwards_has_nothing_fetched_ahead(
    large: tuple[str, Blocks, bytes], store: RecordingStore, cache: BlockCache
) -> None:
    key, blocks, _ = large
    reader = BlockReader(store, cache)
    for block in (9, 7, 3, 1):
        reader.get(key, (block * MB, 100), blocks).read()
    assert store.spans == [(block * MB, MB) for block in (9, 7, 3, 1)]


@pytest.mark.parametrize("length", [3 * MB, 11 * MB])
def test_a_block_that_is_wrong_once_is_fetched_again(
    large: tuple[str, Blocks, bytes], store: RecordingStore, cache: BlockCache, length: int
) -> None:
    key, blocks, whole = large
    store.flips = {1: 1, 2: 1}
    assert BlockReader(store, cache).get(key, (0, length), blocks).read() == whole[:length]
    assert store.flips == {1: 0, 2: 0}
    assert all(is_right(cache.get(key, number, blocks) or b"", number, blocks) for number in range(length // MB))


@pytest.mark.parametrize("length", [3 * MB, 11 * MB])
def test_a_block_that_stays_wrong_is_never_handed_on(
    large: tuple[str, Blocks, bytes], store: RecordingStore, cache: BlockCache, length: int
) -> None:
    key, blocks, whole = large
    store.flips = {2: 100}
    got = b""
    with pytest.raises(Damaged) as caught:
        for chunk in BlockReader(store, cache).get(key, (0, length), blocks).chunks():
            got += chunk
    assert caught.value.key == key
    assert got == whole[: len(got)]
    assert len(got) <= 2 * MB
    assert not cache.has(key, 2)


def test_what_is_wrong_at_the_beginning_is_an_error_before_anything_is_answered(
    large: tuple[str, Blocks, bytes], store: RecordingStore
) -> None:
    key, blocks, whole = large
    reader = BlockReader(store)
    store.flips = {0: 100}
    with pytest.raises(Damaged):
        reader.get(key, (0, len(whole)), blocks)
    with pytest.raises(NotFound):
        reader.get("packs/none.zip", (0, len(whole)), blocks)
    with pytest.raises(Invalid):
        reader.get(key, (0, len(whole) + 1), blocks)
    with pytest.raises(Damaged):
        reader.get(key, (0, 10), Blocks(blocks.length, blocks.digests[:-16]))


def test_only_so_many_wait_for_what_another_fetches_once_that_takes_long(
    large: tuple[str, Blocks, bytes], store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks_module, "_SLOW_SECONDS", 0)
    key, blocks, whole = large
    asked, answer = threading.Event(), threading.Event()

    def wait(method: str, key: str) -> None:
        asked.set()
        assert answer.wait(60)

    reader = BlockReader(WatchedStore(store, before=wait))
    with ThreadPoolExecutor(1 + blocks_module._WAITING_PLACES) as threads:
        reading = [threads.submit(reader.get, key, (0, 10), blocks)]
        assert asked.wait(60)
        reading += [threads.submit(reader.get, key, (0, 10), blocks) for _ in range(blocks_module._WAITING_PLACES)]
        until(lambda: len(reader._waiting._begun) == blocks_module._WAITING_PLACES, "as many wait as may")
        with pytest.raises(Unavailable, match="slow"):
            reader.get(key, (0, 10), blocks)
        answer.set()
        assert [one.result(60).read() for one in reading] == [whole[:10]] * len(reading)


def test_what_is_wrong_in_the_second_store_too_is_damaged(
    large: tuple[str, Blocks, bytes], store: RecordingStore
) -> None:
    key, blocks, whole = large
    second = RecordingStore()
    reader = BlockReader(store, second=second)
    store.flips = {5: 100}
    with pytest.raises(Damaged):  # it is not there
        reader.get(key, (0, len(whole)), blocks).read()
    second.put(key, [whole[: 5 * MB]])
    with pytest.raises(Damaged):
        reader.get(key, (0, len(whole)), blocks).read()
    second.put(key, [whole], if_absent=False)
    second.flips = {5: 100}
    with pytest.raises(Damaged):
        reader.get(key, (0, len(whole)), blocks).read()
    second.flips = {}
    assert reader.get(key, (0, len(whole)), blocks).read() == whole


def flipped(data: bytes, *places: int) -> bytes:
    changed = bytearray(data)
    for at in places:
        changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("length", [3 * MB, 11 * MB], ids=["together", "streamed"])
def test_a_block_that_is_wrong_in_both_stores_is_made_of_what_is_right_in_either(
    large: tuple[str, Blocks, bytes], store: RecordingStore, length: int
) -> None:
    key, blocks, whole = large
    second = RecordingStore()
    store.put(key, [flipped(whole, 2 * MB + 5000)], if_absent=False)
    second.put(key, [flipped(whole, 2 * MB + 5001)])
    assert BlockReader(store, second=second).get(key, (0, length), blocks).read() == whole[:length]
    second.put(key, [flipped(whole, 2 * MB + 5000, 2 * MB + 5001)], if_absent=False)
    with pytest.raises(Damaged):
        BlockReader(store, second=second).get(key, (0, length), blocks).read()


def test_sound_blocks_are_read_whatever_is_fetched_ahead_with_them(
    large: tuple[str, Blocks, bytes], store: RecordingStore, cache: BlockCache
) -> None:
    key, blocks, whole = large
    reader = BlockReader(store, cache)
    store.flips = {5: 1 << 20}
    for number in (*range(5), 6, 7):
        assert reader.get(key, (number * MB, MB), blocks).read() == whole[number * MB : (number + 1) * MB]
    assert max(length for _, length in filter(None, store.spans)) > MB, "more was fetched than was asked for"
    with pytest.raises(Damaged):
        reader.get(key, (5 * MB, 1), blocks)


def test_an_object_that_has_become_shorter_is_damaged(large: tuple[str, Blocks, bytes], store: RecordingStore) -> None:
    key, blocks, whole = large
    store.put(key, [whole[: 4 * MB]], if_absent=False)
    with pytest.raises(Damaged):
        BlockReader(store).get(key, (3 * MB, 2 * MB), blocks)


def test_a_body_that_is_closed_early_gives_up_its_request(
    large: tuple[str, Blocks, bytes], store: RecordingStore
) -> None:
    closed = []

    class Closing(RecordingStore):
        def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
            body = store.get(key, span)
            body._close = lambda: closed.append(key)  # type: ignore[attr-defined]
            return body

    key, blocks, whole = large
    body = BlockReader(Closing()).get(key, (0, len(whole)), blocks)
    assert not closed
    chunks = body.chunks()
    next(chunks)
    assert not closed
    body.close()
    assert closed


def test_what_many_want_at_once_is_fetched_once(large: tuple[str, Blocks, bytes], cache: BlockCache) -> None:
    key, blocks, whole = large
    store = HeldStore()
    store.put(key, [whole])
    reader = BlockReader(store, cache)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(lambda: reader.get(key, (10, 500), blocks).read())
        assert store.begun.wait(60)
        others = [pool.submit(lambda at=at: reader.get(key, (at, 500), blocks).read()) for at in range(7)]
        store.go_on.set()
        assert first.result(60) == whole[10:510]
        assert [other.result(60) for other in others] == [whole[at : at + 500] for at in range(7)]
    assert store.spans == [(0, MB)]


def test_a_flight_that_fails_fails_for_all_and_for_none_after() -> None:
    flights: Flights[str, int] = Flights()

    def fail() -> int:
        raise Unavailable("not now")

    with pytest.raises(Unavailable):
        flights.join("x", fail)
    assert flights.join("x", lambda: 5) == 5


def test_the_cache_outlives_the_process_and_is_shared(
    large: tuple[str, Blocks, bytes], store: RecordingStore, cache: BlockCache, tmp_path: Path
) -> None:
    key, blocks, whole = large
    BlockReader(store, cache).get(key, (0, 10), blocks).read()
    other = BlockCache(tmp_path / "cache", 1 << 30)
    assert other.get(key, 0, blocks) == whole[:MB]


@pytest.mark.parametrize("damage", [b"", b"x" * MB, b"short"])
def test_a_cached_block_that_is_damaged_is_a_miss(
    large: tuple[str, Blocks, bytes], store: RecordingStore, cache: BlockCache, tmp_path: Path, damage: bytes
) -> None:
    key, blocks, whole = large
    reader = BlockReader(store, cache)
    reader.get(key, (0, 10), blocks).read()
    [path] = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    path.write_bytes(damage)
    assert reader.get(key, (0, 10), blocks).read() == whole[:10]
    assert store.spans == [(0, MB)] * 2
    assert cache.get(key, 0, blocks) == whole[:MB]


def test_the_cache_stays_within_its_bound_and_gives_up_what_was_not_used(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 32 * MB)
    blocks = Blocks(MB, samples.blake(b"x" * MB))
    for number in range(40):
        cache.put(f"packs/{number}", 0, b"x" * MB)
        for path in tmp_path.rglob("0"):
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 1_000_000_000))
        assert cache.get("packs/0", 0, blocks) is not None
    held = [number for number in range(40) if cache.has(f"packs/{number}", 0)]
    assert len(held) <= 33
    assert 0 in held
    assert 39 in held
    assert 1 not in held
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == len(held) * MB


def test_two_caches_on_one_folder_keep_to_the_bound(tmp_path: Path) -> None:
    caches = [BlockCache(tmp_path, 32 * MB) for _ in range(2)]
    for number in range(60):
        caches[number % 2].put(f"packs/{number}", 0, b"x" * MB)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 34 * MB


def test_what_cannot_be_written_is_not_cached_and_no_error(
    large: tuple[str, Blocks, bytes], store: RecordingStore, tmp_path: Path
) -> None:
    key, blocks, whole = large
    (tmp_path / "file").write_bytes(b"")
    cache = BlockCache(tmp_path / "file", 1 << 30)
    assert BlockReader(store, cache).get(key, (0, 3 * MB), blocks).read() == whole[: 3 * MB]
    assert cache.failures == 3
    cache.forget(key)
    assert cache.get(key, 0, blocks) is None


def test_the_cache_leaves_the_room_it_is_told_to_leave(large: tuple[str, Blocks, bytes], tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 1 << 30, min_free_bytes=1 << 60)
    cache.put(large[0], 0, large[2][:MB])
    assert not cache.has(large[0], 0)
    assert cache.failures == 0


def test_an_object_is_forgotten(large: tuple[str, Blocks, bytes], store: RecordingStore, cache: BlockCache) -> None:
    key, blocks, _ = large
    BlockReader(store, cache).get(key, (0, 3 * MB), blocks).read()
    assert cache.has(key, 2)
    cache.forget(key)
    assert not any(cache.has(key, number) for number in range(3))


def test_threads_may_share_a_cache(large: tuple[str, Blocks, bytes], store: RecordingStore, tmp_path: Path) -> None:
    key, blocks, whole = large
    reader = BlockReader(store, BlockCache(tmp_path, 3 * MB))  # much is given up while it is read

    def read(start: int) -> bool:
        spans = [(start * 37_123 + step * 811_001, 300_000) for step in range(8)]
        return all(reader.get(key, span, blocks).read() == whole[span[0] : sum(span)] for span in spans)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(24)))


@ANY
@given(st.integers(0, 3000), st.integers(1, 700))
def test_verified_chunks_are_the_instance(length: int, size: int) -> None:
    one = generated(1, length)
    chunks = chunked(one.data, size)
    for header_digest in (one.header_digest, None):
        packed = one.packed
        found = verified_chunks(chunks, EXPLICIT_LITTLE, packed.header_length, packed.digest, header_digest)
        assert list(found) == chunks


@ANY
@given(st.integers(0, 2999), st.integers(1, 700))
def test_the_end_of_a_wrong_instance_is_held_back(at: int, size: int) -> None:
    one = generated(1)
    wrong = one.data[:at] + bytes([one.data[at] ^ 1]) + one.data[at + 1 :]
    got = b""
    with pytest.raises(Damaged):
        digests = one.packed.digest, one.header_digest
        for chunk in verified_chunks(chunked(wrong, size), EXPLICIT_LITTLE, HEADER_BYTES, *digests, key="k"):
            got += chunk
    assert len(got) < len(one.data)


def test_several_who_read_on_at_once_have_it_fetched_ahead(
    large: tuple[str, Blocks, bytes], store: RecordingStore, cache: BlockCache
) -> None:
    """In whatever order they come, and each block once."""
    key, blocks, whole = large
    reader = BlockReader(store, cache)
    frames = [(offset, 100_000) for offset in range(0, len(whole) - 100_000, 100_000)]

    def read(frame: tuple[int, int]) -> bool:
        return reader.get(key, frame, blocks).read() == whole[frame[0] : sum(frame)]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, frames))
    assert sum(span[1] for span in store.spans if span) == len(whole)
    assert len(store.spans) <= 8


def test_reading_goes_on_near_where_it_was_and_in_several_places_of_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "_MAX_CURSORS", 3)
    ahead = ReadAhead()
    steps = [
        (0, 1),
        (500, 501),
        (800, 801),
        (4, 6),  # goes on, somewhat further
        (501, 503),
        (6, 10),
        (2, 3),  # backwards: elsewhere, for which the place unused for longest is given up
        (801, 802),
        (10, 18),
        (18, 26),
    ]
    assert [(first, ahead.end("pack", first, first + 1, 1000, most=8)) for first, _ in steps] == steps
    assert ahead.end("other", 26, 40, 1000, most=8) == 40
    assert ahead.end("pack", 26, 27, 30, most=8) == 30
