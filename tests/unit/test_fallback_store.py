"""Reading goes on from the second store where the first fails."""

from collections.abc import Iterator

import pytest

from storage.errors import Conflict, NotFound, Unavailable
from storage.objects import Body, ObjectMeta
from storage.objects.fallback import FallbackStore
from storage.objects.memory import MemoryStore

DATA = bytes(range(256)) * 40


class Breaking(MemoryStore):
    """Answers until `down`; a body ends in an error after `breaks_at` bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.breaks_at: int | None = None
        self.asked = 0

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        self._answer()
        body = super().get(key, span)
        return body if self.breaks_at is None else Broken(body, self.breaks_at)

    def head(self, key: str) -> ObjectMeta:
        self._answer()
        return super().head(key)

    def _answer(self) -> None:
        self.asked += 1
        if self.down:
            raise Unavailable("down")


class Broken:
    def __init__(self, body: Body, breaks_at: int) -> None:
        self.body = body
        self.breaks_at = breaks_at
        self.closed = False
        self.length = body.length

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        data = self.body.read()[: self.breaks_at]
        for offset in range(0, len(data), size):
            yield data[offset : offset + size]
        raise Unavailable("broken")

    def read(self) -> bytes:
        raise Unavailable("broken")

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> "Broken":
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


@pytest.fixture
def primary() -> Breaking:
    return Breaking()


@pytest.fixture
def second() -> Breaking:
    return Breaking()


@pytest.fixture
def store(primary: Breaking, second: Breaking) -> FallbackStore:
    for each in (primary, second):
        each.put("a", [DATA])
    return FallbackStore(primary, second)


def test_the_first_alone_is_asked_while_it_answers(store: FallbackStore, second: Breaking) -> None:
    assert store.get("a").read() == DATA
    assert store.head("a") == ObjectMeta("a", len(DATA))
    assert second.asked == 0


def test_the_second_is_read_while_the_first_is_away(store: FallbackStore, primary: Breaking, second: Breaking) -> None:
    primary.down = True
    assert [store.get("a", (5, 7)).read() for _ in range(3)] == [DATA[5:12]] * 3
    assert store.head("a").length == len(DATA)
    assert second.asked == 4
    primary.down = False
    assert store.get("a").read() == DATA
    assert second.asked == 4


def test_what_the_first_lost_is_read_from_the_second(store: FallbackStore, second: Breaking) -> None:
    second.put("only-there", [b"x"])
    assert store.get("only-there").read() == b"x"
    assert store.head("only-there").length == 1


def test_an_object_is_missing_only_when_both_say_so(store: FallbackStore, primary: Breaking, second: Breaking) -> None:
    with pytest.raises(NotFound):
        store.get("missing")
    second.down = True
    with pytest.raises(Unavailable):
        store.get("missing")
    primary.down, second.down = True, False
    with pytest.raises(Unavailable):
        store.head("missing")


@pytest.mark.parametrize("breaks_at", [0, 1, 1000, 4096, len(DATA) - 1])
def test_a_body_that_breaks_goes_on_from_the_second(store: FallbackStore, primary: Breaking, breaks_at: int) -> None:
    primary.breaks_at = breaks_at
    assert b"".join(store.get("a").chunks(512)) == DATA
    primary.breaks_at = breaks_at
    assert FallbackStore(primary, store).get("a", (100, 5000)).read() == DATA[100:5100]


def test_a_body_that_breaks_in_both_stays_broken(store: FallbackStore, primary: Breaking, second: Breaking) -> None:
    primary.breaks_at = 1000
    second.delete(["a"])
    with pytest.raises(Unavailable, match="broken"):
        store.get("a").read()
    second.put("a", [DATA[:2000]])  # a copy that is not whole is no help
    with pytest.raises(Unavailable):
        FallbackStore(primary, second).get("a").read()


def test_closing_closes_what_is_open(store: FallbackStore, primary: Breaking) -> None:
    primary.breaks_at = 10
    with store.get("a") as body:
        inner = body._body  # type: ignore[attr-defined]
    assert inner.closed


def test_everything_else_is_the_first_alone(store: FallbackStore, primary: Breaking, second: Breaking) -> None:
    store.put("b", [b"x"])
    with pytest.raises(Conflict):
        store.put("b", [b"y"])
    assert [found.key for found in store.scan(after="a")] == ["b"]
    store.delete(["a"])
    store.check()
    assert [found.key for found in primary.scan()] == ["b"]
    assert [found.key for found in second.scan()] == ["a"]
