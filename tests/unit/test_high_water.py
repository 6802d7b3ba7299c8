"""The mark up to which instances may wait to be sealed."""

import pytest

from gateway.archive.high_water import LOOK_SECONDS, HighWater
from storage.errors import Exhausted, Unavailable
from storage.index import Backlog


class Waiting:
    """A backlog that is set, and a clock that is moved."""

    def __init__(self) -> None:
        self.bytes = 0
        self.now = 0.0
        self.looks = 0

    def backlog(self) -> Backlog:
        self.looks += 1
        return Backlog(1, 1, self.bytes, 0)


def test_at_the_mark_nothing_more_is_taken_until_there_is_less() -> None:
    waiting = Waiting()
    mark = HighWater(waiting.backlog, 1000, clock=lambda: waiting.now)
    for length, full in ((0, False), (999, False), (1000, True), (5000, True), (10, False)):
        waiting.bytes = length
        waiting.now += LOOK_SECONDS
        if full:
            with pytest.raises(Exhausted, match="the spool is full"):
                mark.check()
        else:
            mark.check()


def test_it_looks_once_in_a_while_only() -> None:
    waiting = Waiting()
    mark = HighWater(waiting.backlog, 1000, clock=lambda: waiting.now)
    for _ in range(100):
        mark.check()
    assert waiting.looks == 1
    waiting.now += LOOK_SECONDS
    mark.check()
    assert waiting.looks == 2


def test_what_lands_between_two_looks_is_counted() -> None:
    waiting = Waiting()
    mark = HighWater(waiting.backlog, 1000, clock=lambda: waiting.now)
    mark.check()
    mark.count(999)
    mark.check()
    mark.count(1)
    with pytest.raises(Exhausted):
        mark.check()
    waiting.bytes = 900  # some was sealed meanwhile
    waiting.now += LOOK_SECONDS
    mark.check()
    mark.count(99)
    mark.check()
    assert waiting.looks == 2


def test_what_lands_during_a_look_is_counted_until_the_next() -> None:
    """The answer may or may not have it; to count it twice for a second is better than not at all."""
    waiting = Waiting()

    def backlog() -> Backlog:
        found = waiting.backlog()
        if waiting.looks == 2:
            mark.count(600)
        return found

    mark = HighWater(backlog, 1000, clock=lambda: waiting.now)
    mark.check()
    mark.count(300)
    waiting.bytes = 300
    waiting.now += LOOK_SECONDS
    mark.check()
    mark.count(100)
    with pytest.raises(Exhausted):
        mark.check()
    waiting.bytes = 999
    waiting.now += LOOK_SECONDS
    mark.check()


def test_what_landed_before_a_look_that_failed_stays_counted() -> None:
    waiting = Waiting()

    def backlog() -> Backlog:
        found = waiting.backlog()
        if waiting.looks == 2:
            raise Unavailable("away")
        return found

    mark = HighWater(backlog, 1000, clock=lambda: waiting.now)
    mark.check()
    mark.count(999)
    waiting.now += LOOK_SECONDS
    with pytest.raises(Unavailable):
        mark.check()
    waiting.bytes = 999
    mark.check()
    mark.count(1)
    with pytest.raises(Exhausted):
        mark.check()


def test_without_a_mark_it_never_looks() -> None:
    waiting = Waiting()
    waiting.bytes = 1 << 60
    HighWater(waiting.backlog, 0).check()
    assert waiting.looks == 0


def test_an_index_that_does_not_answer_is_told_and_asked_again() -> None:
    waiting = Waiting()
    answers = [Unavailable("away"), None]

    def backlog() -> Backlog:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return waiting.backlog()

    mark = HighWater(backlog, 1000, clock=lambda: waiting.now)
    with pytest.raises(Unavailable, match="away"):
        mark.check()
    mark.check()
    assert waiting.looks == 1
