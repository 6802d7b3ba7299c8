"""An eye on a store: nobody waits for it, and what it saw is remembered until it looks again."""

import threading

import pytest

from gateway.archive.lookout import EVERY_SECONDS, Lookout
from storage.errors import Unavailable


class Store:
    """A check that fails when told to, and waits for `go`."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.now = 0.0
        self.lookout = Lookout(self.check, "archive", clock=lambda: self.now)

    def check(self) -> None:
        self.begun.release()
        assert self.go.wait(60)
        if self.error is not None:
            raise self.error

    def trouble_is(self, wanted: str) -> bool:
        """Whether it comes to be so; the clock stands meanwhile, so that no further look is begun."""
        for _ in range(3000):
            if self.lookout.trouble() == wanted:
                return True
            threading.Event().wait(0.01)
        return False


def test_nobody_waits_for_a_look_and_one_is_made_at_a_time() -> None:
    store = Store()
    store.go.clear()
    store.error = Unavailable("nothing answers")
    assert [store.lookout.trouble() for _ in range(10)] == [""] * 10
    assert store.begun.acquire(timeout=60)
    store.now += 100 * EVERY_SECONDS
    assert store.lookout.trouble() == ""
    store.go.set()
    assert store.trouble_is("archive: nothing answers")
    assert not store.begun.acquire(blocking=False)


def test_trouble_goes_when_a_later_look_finds_none() -> None:
    store = Store()
    store.error = Unavailable("nothing answers")
    with pytest.raises(Unavailable, match="nothing answers"):
        store.lookout.look(60)
    store.error = None
    assert store.lookout.trouble() == "archive: nothing answers"
    store.now += EVERY_SECONDS
    store.lookout.trouble()
    assert store.trouble_is("")


def test_a_look_that_takes_long_is_left_to_itself() -> None:
    store = Store()
    store.go.clear()
    assert not store.lookout.look(0.01)
    assert store.lookout.trouble() == "archive: does not answer"
    store.go.set()
    assert store.trouble_is("")
    assert store.lookout.look(60)


@pytest.mark.parametrize("error", [ValueError("a defect"), OSError("odd")])
def test_what_nobody_foresaw_is_trouble_too_and_the_looking_goes_on(error: Exception) -> None:
    store = Store()
    store.error = error
    store.lookout.trouble()
    assert store.trouble_is("archive: cannot be looked at")
    store.error = None
    store.now += EVERY_SECONDS
    store.lookout.trouble()
    assert store.trouble_is("")
