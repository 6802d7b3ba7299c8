import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import Invalid, NotFound
from storage.packs import BLOCK_BYTES, Damaged, runs
from storage.packs.runs import RunReader
from tests import packed as samples
from tests.packed import RecordingStore, Written, generated

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


def reader(store: RecordingStore, written: Written, wanted: list[tuple[int, int]]) -> RunReader:
    return RunReader(store, written.pack.location.key, written.pack.blocks, wanted)


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
