"""An eye on a store: nobody waits for it, and what it saw last is told."""

import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from gateway.archive.lookout import Lookout
from storage.errors import Unavailable

LONG = 60.0


class Store:
    """A check that fails when told to, and waits for `go`."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()
        self.looks = threading.Semaphore(0)
        self.lookout = Lookout(self.check, "archive", every_seconds=0.001)

    def check(self) -> None:
        assert self.go.wait(LONG)
        self.looks.release()
        if self.error is not None:
            raise self.error

    def trouble_is(self, wanted: str) -> bool:
        """Whether it comes to be so."""
        for _ in range(3000):
            if self.lookout.trouble() == wanted:
                return True
            threading.Event().wait(0.01)
        return False


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.lookout.stop()
    store.go.set()


def test_nobody_waits_for_a_look(store: Store) -> None:
    store.go.clear()
    store.error = Unavailable("nothing answers")
    store.lookout.start()
    assert store.lookout.trouble() == ""
    store.go.set()
    assert store.trouble_is("archive: nothing answers")


def test_it_looks_again_and_again_though_nobody_asks_and_tells_what_changed(store: Store) -> None:
    store.error = Unavailable("nothing answers")
    with capture_logs() as logs:
        store.lookout.start()
        for _ in range(5):
            assert store.looks.acquire(timeout=LONG)
        store.error = None
        assert store.trouble_is("")
        store.lookout.stop()
    assert [line["event"] for line in logs] == ["out of order", "in order again"]
    assert logs[0]["what"] == "archive: nothing answers" and "after_seconds" in logs[1]


def test_the_first_look_is_waited_for_and_raises_what_it_found(store: Store) -> None:
    store.error = Unavailable("nothing answers")
    store.lookout.start()
    with pytest.raises(Unavailable, match="nothing answers"):
        store.lookout.first(LONG)


def test_a_first_look_that_takes_long_is_left_to_itself(store: Store) -> None:
    store.go.clear()
    store.lookout.start()
    assert not store.lookout.first(0.01)
    assert store.lookout.trouble() == "archive: does not answer"
    store.go.set()
    assert store.trouble_is("")
    assert store.lookout.first(LONG)


@pytest.mark.parametrize("error", [ValueError("a defect"), OSError("odd")])
def test_what_nobody_foresaw_is_trouble_too_and_the_looking_goes_on(store: Store, error: Exception) -> None:
    store.error = error
    store.lookout.start()
    assert store.trouble_is("archive: cannot be looked at")
    store.error = None
    assert store.trouble_is("")


def test_what_is_seen_after_it_was_stopped_is_not_told(store: Store) -> None:
    store.go.clear()
    store.error = Unavailable("hung up")
    store.lookout.start()
    with capture_logs() as logs:
        store.lookout.stop()
        store.go.set()
        store.lookout._thread.join(LONG)
    assert (logs, store.lookout.trouble()) == ([], "")
