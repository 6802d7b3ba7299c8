from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import Invalid, NotFound, Unavailable
from storage.objects import Body, ObjectStore
from storage.packs import BLOCK_BYTES, Damaged, runs
from storage.packs.blocks import BlockReader
from storage.packs.cache import BlockCache
from storage.packs.runs import RunReader
from storage.packs.write import Written
from tests import packed as samples
from tests.packed import RecordingStore, generated

MB = BLOCK_BYTES
ANY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
SERIES = [generated(number, 420_000) for number in range(1, 31)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return samples.write(tmp_path_factory.mktemp("runs") / "pack.zip", SERIES)


@pytest.fixture
def store(written: Written) -> RecordingStore:
    store = RecordingStore()
    store.put(written.pack.location.key, written.path)
    return store


def spans(written: Written, numbers: range) -> list[tuple[int, int]]:
    return [(written.pack.instances[at].offset, written.pack.instances[at].length) for at in numbers]


def reader(
    store: ObjectStore,
    written: Written,
    wanted: list[tuple[int, int]],
    cache: BlockCache | None = None,
    **options: int,
) -> RunReader:
    return BlockReader(store, cache, **options).run(written.pack.location.key, written.pack.blocks, wanted)


def read(run: RunReader, written: Written, span: tuple[int, int]) -> bytes:
    with run.get(written.pack.location.key, span) as body:
        return b"".join(body.chunks(100_000))


def test_a_series_is_read_by_one_request(store: RecordingStore, written: Written) -> None:
    wanted = spans(written, range(30))
    run = reader(store, written, wanted)
    assert [read(run, written, span) for span in wanted] == [one.data for one in SERIES]
    assert len(store.spans) == 1


def test_small_gaps_are_passed_over_and_large_ones_are_not_read(store: RecordingStore, written: Written) -> None:
    near, far = range(0, 10, 2), range(20, 24)
    wanted = spans(written, near) + spans(written, far)
    run = reader(store, written, wanted)
    expected = [SERIES[at].data for at in (*near, *far)]
    assert [read(run, written, span) for span in wanted] == expected
    assert len(store.spans) == 2
    assert sum(span[1] for span in store.spans if span) < 7 * MB


def test_a_run_is_bounded(store: RecordingStore, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_MAX_RUN", 4)
    wanted = spans(written, range(30))
    run = reader(store, written, wanted)
    assert [read(run, written, span) for span in wanted] == [one.data for one in SERIES]
    assert 3 <= len(store.spans) <= 5
    assert all(span is not None and span[1] <= 4 * MB for span in store.spans)


@ANY
@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 3), st.booleans()), max_size=15))
def test_any_order_gives_the_same_bytes(
    store: RecordingStore, written: Written, asked: list[tuple[int, int, bool]]
) -> None:
    """Out of order, of spans that nobody announced, and of bodies that are left unread."""
    run = reader(store, written, spans(written, range(0, 30, 2)))
    whole = written.path.read_bytes()
    for at, skip, is_left in asked:
        offset, length = spans(written, range(at, at + 1))[0]
        span = (offset + skip * 1000, length - skip * 1000)
        if is_left:
            run.get(written.pack.location.key, span).close()
        else:
            assert read(run, written, span) == whole[span[0] : sum(span)]


def test_bodies_may_be_opened_before_the_one_before_is_read(store: RecordingStore, written: Written) -> None:
    wanted = spans(written, range(6))
    run = reader(store, written, wanted)
    bodies = [run.get(written.pack.location.key, span) for span in wanted]
    assert [body.read() for body in reversed(bodies)] == [one.data for one in reversed(SERIES[:6])]


def test_a_flipped_byte_is_fetched_again_and_never_handed_on(store: RecordingStore, written: Written) -> None:
    wanted = spans(written, range(30))
    store.flips = {3: 1}
    run = reader(store, written, wanted)
    assert [read(run, written, span) for span in wanted] == [one.data for one in SERIES]
    assert len(store.spans) == 2
    store.flips = {3: 100}
    run = reader(store, written, wanted)
    right = [span for span in wanted if sum(span) <= 3 * MB]
    assert [read(run, written, span) for span in right] == [one.data for one in SERIES[: len(right)]]
    with pytest.raises(Damaged):
        read(run, written, wanted[len(right)])


@pytest.mark.parametrize("max_streams", [0, 32])
def test_what_lies_behind_a_damaged_block_is_read(store: RecordingStore, written: Written, max_streams: int) -> None:
    store.flips = {4: 1 << 20}
    wanted = spans(written, range(30))
    run = reader(store, written, wanted, max_streams=max_streams)
    damaged = []
    for one, (offset, length) in zip(SERIES, wanted, strict=True):
        if offset // MB <= 4 < -(-(offset + length) // MB):
            damaged.append(one)
            with pytest.raises(Damaged):
                read(run, written, (offset, length))
        else:
            assert read(run, written, (offset, length)) == one.data
    assert len(damaged) == 4


def test_what_is_missing_is_said_at_once(store: RecordingStore, written: Written) -> None:
    wanted = spans(written, range(2))
    store.delete([written.pack.location.key])
    run = reader(store, written, wanted)
    with pytest.raises(NotFound):
        run.get(written.pack.location.key, wanted[0])
    with pytest.raises(Invalid):
        run.get(written.pack.location.key, (0, written.pack.blocks.length + 1))
    with pytest.raises(ValueError, match="one object"):
        run.get("packs/other.zip", wanted[0])
    assert run.get(written.pack.location.key, (0, 0)).read() == b""


def test_it_may_be_closed_at_any_time(store: RecordingStore, written: Written) -> None:
    wanted = spans(written, range(3))
    run = reader(store, written, wanted)
    run.close()
    assert read(run, written, wanted[0]) == SERIES[0].data
    run.close()
    run.close()


class Counting(RecordingStore):
    """Counts the bodies that are open; what is read to its end is no longer."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        body = super().get(key, span)
        self.open += 1
        left = [True]

        def close() -> None:
            if left:
                left.pop()
                self.open -= 1

        body._close = close  # type: ignore[attr-defined]
        return body


def test_slow_readers_hold_so_many_requests_and_no_more(written: Written) -> None:
    store = Counting()
    store.put(written.pack.location.key, written.path)
    wanted = spans(written, range(30))
    blocks = BlockReader(store, max_streams=2)
    slow = [blocks.run(written.pack.location.key, written.pack.blocks, wanted) for _ in range(5)]
    for run in slow:
        assert read(run, written, wanted[0]) == SERIES[0].data
    assert store.open == 2
    for number in range(1, 30):
        for run in slow:
            assert read(run, written, wanted[number]) == SERIES[number].data
            assert store.open <= 2
    assert store.open == 0
    assert all(span is not None and span[1] <= 8 * MB for span in store.spans[2:])


def test_a_reader_that_gives_up_makes_way_for_another(written: Written) -> None:
    store = Counting()
    store.put(written.pack.location.key, written.path)
    wanted = spans(written, range(30))
    blocks = BlockReader(store, max_streams=1)
    for ending in ("closed", "forgotten"):
        run = blocks.run(written.pack.location.key, written.pack.blocks, wanted)
        read(run, written, wanted[0])
        if ending == "closed":
            run.close()
            assert store.open == 0
        del run
    store.spans.clear()
    run = blocks.run(written.pack.location.key, written.pack.blocks, wanted)
    assert [read(run, written, span) for span in wanted] == [one.data for one in SERIES]
    assert len(store.spans) == 1


def test_one_large_span_leaves_requests_to_others_too(written: Written) -> None:
    store = Counting()
    store.put(written.pack.location.key, written.path)
    key, whole = written.pack.location.key, written.path.read_bytes()
    blocks = BlockReader(store, max_streams=1)
    bodies = [blocks.get(key, (0, len(whole)), written.pack.blocks) for _ in range(3)]
    assert store.open == 1
    assert [body.read() for body in bodies] == [whole] * 3
    assert store.open == 0


def test_a_pack_that_goes_while_it_is_read_is_looked_for_again_or_unavailable(
    store: RecordingStore, written: Written
) -> None:
    wanted = spans(written, range(30))
    run = reader(store, written, wanted, max_streams=0)
    read(run, written, wanted[0])
    whole = (0, written.pack.blocks.length)
    body = run.get(written.pack.location.key, whole)
    store.delete([written.pack.location.key])
    with pytest.raises(Unavailable):
        body.read()
    with pytest.raises(NotFound):
        run.get(written.pack.location.key, wanted[29])


def test_what_was_read_is_served_while_the_store_is_away(
    store: RecordingStore, written: Written, tmp_path: Path
) -> None:
    wanted, cache = spans(written, range(30)), BlockCache(tmp_path, 1 << 30)
    run = reader(store, written, wanted, cache)
    assert [read(run, written, span) for span in wanted] == [one.data for one in SERIES]
    run = reader(RecordingStore(), written, wanted, cache)
    assert [read(run, written, span) for span in wanted] == [one.data for one in SERIES]


def test_gaps_in_the_cache_are_streamed_and_many_small_ones_by_one_request(
    store: RecordingStore, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_MIN_CACHED", 4)
    wanted, cache = spans(written, range(30)), BlockCache(tmp_path, 1 << 30)
    whole = written.path.read_bytes()
    for number in (0, 2, 4, 5, 6, 7, 9):
        cache.put(written.pack.location.key, number, whole[number * MB : (number + 1) * MB])
    run = reader(store, written, wanted, cache)
    assert [read(run, written, span) for span in wanted] == [one.data for one in SERIES]
    assert store.spans == [(MB, 3 * MB), (8 * MB, min(-(-sum(wanted[-1]) // MB) * MB, len(whole)) - 8 * MB)]
