"""What every ObjectStore keeps of its Protocol. A new store joins by one line in STORES."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import Conflict, Invalid, NotFound, StorageError
from storage.objects import ObjectMeta, ObjectStore
from storage.objects.disk import DiskStore
from storage.objects.memory import MemoryStore
from storage.objects.s3 import S3Store
from storage.objects.s3_settings import parse_s3_url
from tests.ceph import Ceph
from tests.seaweed import Seaweed

STORES: dict[str, Callable[[pytest.FixtureRequest], ObjectStore]] = {
    "memory": lambda request: MemoryStore(),
    "disk": lambda request: DiskStore(request.getfixturevalue("tmp_path") / "objects"),
    "seaweed": lambda request: in_bucket(request.getfixturevalue("seaweed")),
    "ceph": lambda request: in_bucket(request.getfixturevalue("ceph")),
}
CEPH = pytest.param("ceph", marks=[pytest.mark.long, pytest.mark.timeout(1200)])  # it may be installed first


def in_bucket(server: Seaweed | Ceph) -> S3Store:
    bucket = server.make_bucket("contract")
    return S3Store(parse_s3_url(server.url(bucket, prefix=uuid.uuid4().hex)))


HOSTILE = [
    "",
    "/",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a/./b",
    "a//b",
    "a/",
    "a\0b",
    "a\\..\\b",
    ".hidden",
    "a/.hidden",
    ".incoming/x",
    "a b",
    "ä",
    "a\n",
    "x" * 10_000,
]


@pytest.fixture(params=[CEPH if name == "ceph" else name for name in STORES])
def store(request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    store = STORES[request.param](request)
    yield store
    if isinstance(store, S3Store):
        store.close()


def contents(store: ObjectStore, key: str) -> bytes:
    with store.get(key) as body:
        return body.read()


def keys(store: ObjectStore, prefix: str = "", after: str = "") -> list[str]:
    return [found.key for found in store.scan(prefix, after=after)]


def test_what_was_put_is_what_is_got(store: ObjectStore) -> None:
    assert store.put("a/b.dcm", [b"pre", bytearray(b"fa"), memoryview(b"ce")]) == ObjectMeta("a/b.dcm", 7)
    assert contents(store, "a/b.dcm") == b"preface"
    assert store.head("a/b.dcm") == ObjectMeta("a/b.dcm", 7)


def test_an_object_does_not_change_when_its_buffer_does(store: ObjectStore) -> None:
    buffer = bytearray(b"before")
    store.put("a", [buffer])
    buffer[:] = b"after!"
    assert contents(store, "a") == b"before"


def test_a_file_is_taken_and_still_belongs_to_the_caller(store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "received.part"
    file.write_bytes(b"x" * 3_000_000)
    assert store.put("a/b", file) == ObjectMeta("a/b", 3_000_000)
    assert file.read_bytes() == b"x" * 3_000_000
    file.unlink()
    assert contents(store, "a/b") == b"x" * 3_000_000


def test_a_file_can_replace_an_object(store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "received.part"
    file.write_bytes(b"new")
    store.put("a", [b"old"])
    store.put("a", file, if_absent=False)
    assert contents(store, "a") == b"new"
    assert file.exists()


def test_a_file_that_is_not_there_stores_nothing(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        store.put("a", tmp_path / "missing")
    assert keys(store) == []


def test_a_key_is_written_once(store: ObjectStore) -> None:
    store.put("a", [b"first"])
    with pytest.raises(Conflict):
        store.put("a", [b"second"])
    assert contents(store, "a") == b"first"


def test_a_key_is_replaced_when_asked(store: ObjectStore) -> None:
    store.put("a", [b"first"])
    store.put("a", [b"second"], if_absent=False)
    store.put("b", [b"other"], if_absent=False)
    assert (contents(store, "a"), contents(store, "b")) == (b"second", b"other")


def test_a_reader_keeps_the_object_it_opened(store: ObjectStore) -> None:
    store.put("a", [b"first"])
    with store.get("a") as body:
        store.delete(["a"])
        assert body.read() == b"first"


@pytest.mark.parametrize("source", [[], [b""], [b"", bytearray()]])
def test_an_object_may_be_empty(store: ObjectStore, source: list[bytes]) -> None:
    store.put("a", source)
    with store.get("a") as body:
        assert (body.length, body.read()) == (0, b"")
    with store.get("a", (0, 0)) as body:
        assert list(body.chunks()) == []
    assert store.head("a").length == 0


def test_many_buffers_are_one_object(store: ObjectStore) -> None:
    pieces = [bytes([number % 256]) * (number % 7) for number in range(3000)]
    store.put("a", pieces)
    assert contents(store, "a") == b"".join(pieces)


def test_a_big_object_comes_back_in_chunks(store: ObjectStore) -> None:
    data = bytes(range(256)) * 20_000
    store.put("a", [data])
    with store.get("a") as body:
        chunks = list(body.chunks(100_000))
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= 100_000
    with store.get("a") as body:
        assert max(map(len, body.chunks())) <= 1 << 20


@pytest.mark.parametrize("span", [(0, 10), (3, 4), (10, 0), (9, 1), (0, 0)])
def test_a_span_is_a_part_of_the_object(store: ObjectStore, span: tuple[int, int]) -> None:
    store.put("a", [b"0123456789"])
    expected = b"0123456789"[span[0] : sum(span)]
    with store.get("a", span) as body:
        assert (body.length, body.read()) == (len(expected), expected)
    with store.get("a", span) as body:
        assert b"".join(body.chunks(3)) == expected


@pytest.mark.parametrize("span", [(0, 11), (11, 0), (10, 1), (-1, 2), (0, -1)])
def test_a_span_outside_the_object_is_invalid(store: ObjectStore, span: tuple[int, int]) -> None:
    store.put("a", [b"0123456789"])
    with pytest.raises(Invalid):
        store.get("a", span)


@pytest.mark.parametrize("key", ["missing", "a/missing", "missing/x/y", "a"])
def test_what_is_not_there_is_not_found_at_once(store: ObjectStore, key: str) -> None:
    store.put("a/b", [b"x"])
    with pytest.raises(NotFound):
        store.get(key)
    with pytest.raises(NotFound):
        store.head(key)
    store.delete([key])
    assert keys(store) == ["a/b"]


def test_what_was_deleted_is_gone_and_can_be_put_again(store: ObjectStore) -> None:
    store.put("a/b/c", [b"old"])
    store.put("a/b/d", [b"kept"])
    store.delete(iter(["a/b/c", "a/b/missing"]))
    with pytest.raises(NotFound):
        store.get("a/b/c")
    assert keys(store) == ["a/b/d"]
    store.delete(["a/b/d"])
    store.put("a/b/c", [b"new"])
    assert contents(store, "a/b/c") == b"new"


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_is_refused_by_every_method(store: ObjectStore, key: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for act in (
        lambda: store.put(key, [b"x"]),
        lambda: store.put(key, [b"x"], if_absent=False),
        lambda: store.get(key),
        lambda: store.head(key),
        lambda: store.delete([key]),
    ):
        with pytest.raises(Invalid):
            act()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_scan_is_in_the_order_of_keys(store: ObjectStore) -> None:
    names = ["a/b", "a-b", "a.b", "a0", "a/b-c", "a/b.c", "ab/c/d", "A", "b", "a/c/d", "_x", "9"]
    for name in names:
        store.put(name, [b"x" * len(name)])
    assert list(store.scan()) == [ObjectMeta(name, len(name)) for name in sorted(names)]
    assert keys(store, "a/") == ["a/b", "a/b-c", "a/b.c", "a/c/d"]
    assert keys(store, "a/b") == ["a/b", "a/b-c", "a/b.c"]
    assert keys(store, "a/c/d") == ["a/c/d"]
    assert keys(store, "nothing/here/") == []
    assert keys(store, "a/", after="a/b-c") == ["a/b.c", "a/c/d"]
    assert keys(store, after="a/zzz") == ["a0", "ab/c/d", "b"]


@settings(max_examples=60, deadline=None)
@given(
    names=st.sets(st.text("ab-.0/", min_size=1, max_size=6).filter(lambda s: not s.endswith("/")), max_size=12),
    prefix=st.text("ab-.0/", max_size=4),
    after=st.text("ab-.0/", max_size=5),
)
def test_a_disk_scans_as_memory_does(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], prefix: str, after: str
) -> None:
    disk, memory = DiskStore(tmp_path_factory.mktemp("scan")), MemoryStore()
    for name in sorted(names):
        try:
            disk.put(name, [b"x"])
        except (Invalid, Conflict):  # not a key, or a part of another one, which only memory can hold
            continue
        memory.put(name, [b"x"])
    assert keys(disk, prefix, after) == keys(memory, prefix, after)


def test_an_object_tells_when_it_was_written(store: ObjectStore) -> None:
    before = time.time()
    store.put("a", [b"x"])
    after = time.time()
    for found in (store.head("a"), *store.scan()):
        assert int(before) - 1 <= found.modified_at / 1_000_000 <= after + 1  # some tell whole seconds only


def test_of_two_that_put_one_key_exactly_one_wins(store: ObjectStore) -> None:
    for attempt in range(3 if isinstance(store, S3Store) else 20):  # a bucket may let the losers wait for seconds
        won: list[int] = []
        start = threading.Barrier(4)

        def put(number: int, key: str = f"x/{attempt}", won: list[int] = won, start: threading.Barrier = start) -> None:
            start.wait()
            try:
                store.put(key, [bytes([number]) * 10_000])
            except Conflict:
                return
            won.append(number)

        threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert contents(store, f"x/{attempt}") == bytes(won) * 10_000


def test_putting_and_deleting_in_one_folder_at_once_loses_nothing(store: ObjectStore) -> None:
    errors: list[BaseException] = []

    def churn(number: int) -> None:
        try:
            for attempt in range(40):
                key = f"spool/s/{number % 2}/{number}.{attempt}"
                store.put(key, [b"x" * 100])
                assert contents(store, key) == b"x" * 100
                store.delete([key])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert keys(store) == []


def test_closing_twice_and_a_body_as_a_context(store: ObjectStore) -> None:
    store.put("a", [b"x"])
    body = store.get("a")
    body.close()
    body.close()
    with store.get("a") as body:
        assert body.read() == b"x"


def test_a_working_store_passes_its_check_and_leaves_no_trace(store: ObjectStore) -> None:
    store.check()
    assert keys(store) == []
