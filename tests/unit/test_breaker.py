"""A store that is away is asked by one at a time, and a store that hangs holds only so many."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from storage.errors import Exhausted, NotFound, StorageError
from storage.objects.breaker import Breaker, Gate
from storage.objects.s3_errors import Away, Passing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(rest_seconds=5, clock=clock)


def ask(breaker: Breaker, error: StorageError | None = None, *, reading: bool = True) -> bool:
    """Call a store that answers so; whether it was the call that tries."""
    with breaker.call(reading=reading) as probing:
        if error is not None:
            raise error
        return probing


def fails(breaker: Breaker, error: StorageError, *, reading: bool = True) -> None:
    with pytest.raises(type(error), match=str(error)):
        ask(breaker, error, reading=reading)


def is_refused(breaker: Breaker) -> bool:
    def never() -> bool:
        with breaker.call(reading=True):
            return False

    try:
        return never()
    except Passing:
        return True


def test_a_store_that_is_away_is_left_in_peace_until_one_may_try(breaker: Breaker, clock: Clock) -> None:
    assert ask(breaker) is False
    fails(breaker, Away("nothing answers"))
    assert breaker.is_open
    assert is_refused(breaker)
    clock.now += 5
    with breaker.call(reading=True) as probing:
        assert probing
        assert is_refused(breaker)  # it is being tried
    assert not breaker.is_open
    assert ask(breaker) is False


def test_whoever_tries_in_vain_opens_it_anew(breaker: Breaker, clock: Clock) -> None:
    fails(breaker, Away("nothing answers"))
    clock.now += 5
    fails(breaker, Passing("500"))
    assert is_refused(breaker)
    clock.now += 5
    assert ask(breaker) is True


def test_that_an_object_is_not_there_is_an_answer(breaker: Breaker, clock: Clock) -> None:
    fails(breaker, Away("nothing answers"))
    clock.now += 5
    fails(breaker, NotFound("none"))
    assert not breaker.is_open


def test_whoever_tries_and_comes_to_nothing_leaves_it_to_the_next(breaker: Breaker, clock: Clock) -> None:
    fails(breaker, Away("nothing answers"))
    clock.now += 5
    fails(breaker, Exhausted("connections"))
    assert breaker.is_open
    assert ask(breaker) is True


@pytest.mark.parametrize(("error", "reading"), [(Passing("500"), True), (Away("broke"), False)])
def test_what_may_be_the_fault_of_one_object_counts_only_in_succession(
    breaker: Breaker, error: Passing, reading: bool
) -> None:
    for _ in range(3):
        fails(breaker, error, reading=reading)
        fails(breaker, error, reading=reading)
        ask(breaker)
    assert not breaker.is_open
    for _ in range(3):
        fails(breaker, error, reading=reading)
    assert is_refused(breaker)


def test_as_many_as_there_are_places_wait_and_no_more_once_the_store_hangs(clock: Clock) -> None:
    gate = Gate(2, slow_seconds=3, clock=clock)
    with gate.place(), gate.place():
        clock.now += 3
        with pytest.raises(Passing, match="as many wait"), gate.place():
            pass
    with gate.place():
        pass


def test_who_finds_no_place_gets_one_when_an_answer_comes() -> None:
    gate = Gate(1, slow_seconds=3600)
    entered, answer = Event(), Event()

    def call(begun: Callable[[], None]) -> None:
        with gate.place():
            begun()
            answer.wait(60)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(call, entered.set)
        assert entered.wait(60)
        second = threads.submit(call, lambda: None)
        answer.set()
        first.result(60)
        second.result(60)
