"""An object store is used only when it is the one that the index means."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.archive.identities import KnownStore, WrongStore, identity_of, recognise, take_over
from storage.errors import NotFound, Unavailable
from storage.index.sqlite import SqliteIndex
from storage.objects import Body, ObjectMeta, Source, keys
from storage.objects.memory import MemoryStore


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    index = SqliteIndex(tmp_path / "index.sqlite")
    yield index
    index.close()


class Mounted(MemoryStore):
    """What is seen below a mount point: another store at another time, or none that answers."""

    def __init__(self) -> None:
        super().__init__()
        self.behind: MemoryStore | None = MemoryStore()

    def _seen(self) -> MemoryStore:
        if self.behind is None:
            raise Unavailable("nothing answers")
        return self.behind

    def put(self, key: str, source: Source, *, if_absent: bool = True) -> ObjectMeta:
        return self._seen().put(key, source, if_absent=if_absent)

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        return self._seen().get(key, span)

    def check(self) -> None:
        self._seen().check()


def test_a_store_that_is_met_first_gets_an_identity_and_keeps_it(index: SqliteIndex, tmp_path: Path) -> None:
    store = MemoryStore()
    for _ in range(2):
        recognise("archive", store, index)
    identity = identity_of(store)
    assert identity is not None and identity == index.known_store("archive")
    with SqliteIndexOf(tmp_path / "anew.sqlite") as anew:
        recognise("archive", store, anew)
        assert anew.known_store("archive") == identity


class SqliteIndexOf(SqliteIndex):
    def __enter__(self) -> "SqliteIndexOf":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_a_store_that_is_empty_or_another_is_refused(index: SqliteIndex) -> None:
    recognise("spool", MemoryStore(), index)
    empty, other = MemoryStore(), MemoryStore()
    other.put(keys.STORE_ID, [b"0" * 32])
    with pytest.raises(WrongStore, match=r"the spool is empty or another .*mounted.*share one spool.*reindex --resume"):
        recognise("spool", empty, index)
    assert identity_of(empty) is None
    with pytest.raises(WrongStore, match=r"the spool is another .*reindex --resume"):
        recognise("spool", other, index)
    take_over("spool", other, index)
    recognise("spool", other, index)
    take_over("spool", empty, index)
    recognise("spool", empty, index)
    with pytest.raises(WrongStore):
        recognise("spool", other, index)


@pytest.mark.parametrize("found", [b"", b"0" * 31, b"0" * 34, b"not an identity, but as long as.."])
def test_what_is_no_identity_is_refused(index: SqliteIndex, found: bytes) -> None:
    store = MemoryStore()
    store.put(keys.STORE_ID, [found])
    with pytest.raises(WrongStore, match=keys.STORE_ID):
        recognise("archive", store, index)


class Careless(MemoryStore):
    """Lets everybody put a key twice."""

    def put(self, key: str, source: Source, *, if_absent: bool = True) -> ObjectMeta:
        return super().put(key, source, if_absent=False)


def test_of_gateways_that_start_at_once_one_makes_the_identity(index: SqliteIndex) -> None:
    store = Careless()
    with ThreadPoolExecutor(8) as threads:
        for one in [threads.submit(recognise, "spool", store, index) for _ in range(8)]:
            one.result()
    assert identity_of(store) == index.known_store("spool")


def test_gateways_that_start_at_once_with_stores_of_their_own_do_not_all_start(index: SqliteIndex) -> None:
    stores = [MemoryStore() for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        begun = [threads.submit(recognise, "spool", store, index) for store in stores]
    assert [type(one.exception()) for one in begun if one.exception()] == [WrongStore] * 3


def test_one_that_was_away_is_judged_when_it_is_back(index: SqliteIndex) -> None:
    mounted = Mounted()
    right, mounted.behind = mounted.behind, None
    assert right is not None
    recognise("archive", right, index)
    store = KnownStore("archive", mounted, lambda: index)
    with pytest.raises(Unavailable, match="nothing answers"):
        store.put("packs/1", [b"x"])
    mounted.behind = MemoryStore()
    acts = [
        lambda: store.put("packs/1", [b"x"]),
        lambda: store.get("packs/1"),
        lambda: store.head("packs/1"),
        lambda: store.delete(["packs/1"]),
        lambda: list(store.scan()),
        store.check,
        store.recognise,
    ]
    for act in acts:
        with pytest.raises(WrongStore):
            act()
    assert list(mounted.behind.scan()) == []
    mounted.behind = right
    store.put("packs/1", [b"x"])
    assert store.get("packs/1").read() == b"x"


def test_a_mount_that_is_lost_is_noticed_and_nothing_is_written_below_it(index: SqliteIndex) -> None:
    now = [0.0]
    mounted = Mounted()
    store = KnownStore("archive", mounted, lambda: index, clock=lambda: now[0])
    store.check()
    right, mounted.behind = mounted.behind, MemoryStore()
    store.check()  # it is not looked at each time
    now[0] += 60
    with pytest.raises(WrongStore):
        store.check()
    with pytest.raises(WrongStore):
        store.put("packs/1", [b"x"])
    mounted.behind = right
    store.check()
    with pytest.raises(NotFound):
        store.get("packs/1")
