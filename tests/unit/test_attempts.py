"""What failed is tried again: soon when a store was away, ever more rarely when it may be its own fault."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from gateway.archive.attempts import Attempts, Tally
from storage.errors import StorageError, Unavailable
from storage.packs import Damaged
from tests.sealing import Clock

LONG_SECONDS = 24 * 3600


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts("seal", clock=clock, failed=lambda: None)


def doing(error: StorageError | None) -> Callable[[str], None]:
    def do(name: str) -> None:
        if error is not None:
            raise error

    return do


def seconds_until_tried(attempts: Attempts, clock: Clock) -> int:
    for waited in range(0, LONG_SECONDS, 5):
        with suppress(Unavailable):
            if attempts.run(["a"], key=str, do=doing(None)).done:
                return waited
        clock.pass_(5)
    return LONG_SECONDS


def test_an_outage_however_long_does_not_count_against_the_work(attempts: Attempts, clock: Clock) -> None:
    for _ in range(100):
        with pytest.raises(Unavailable):
            attempts.run(["a"], key=str, do=doing(Unavailable("away")))
        clock.pass_(10)
    assert attempts.run(["a"], key=str, do=doing(Damaged("not what was stored"))) == Tally(failed=1)
    assert seconds_until_tried(attempts, clock) == 5
    with pytest.raises(Unavailable):
        attempts.run(["a"], key=str, do=doing(Unavailable("away")))
    assert seconds_until_tried(attempts, clock) == 10


def test_what_is_damaged_is_tried_ever_more_rarely(attempts: Attempts, clock: Clock) -> None:
    for _ in range(20):
        assert attempts.run(["a"], key=str, do=doing(Damaged("not what was stored"))) == Tally(failed=1)
        clock.pass_(3600)
    attempts.run(["a"], key=str, do=doing(Damaged("not what was stored")))
    assert seconds_until_tried(attempts, clock) == 3600


def test_several_outages_in_succession_are_the_callers_to_wait_for(attempts: Attempts) -> None:
    tried = []

    def do(name: str) -> None:
        tried.append(name)
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        attempts.run("abcdef", key=str, do=do)
    assert tried == ["a", "b", "c"]


def test_an_outage_goes_on_until_something_was_done_or_nothing_waits_for_its_end(
    attempts: Attempts, clock: Clock
) -> None:
    with pytest.raises(Unavailable, match="away"):
        attempts.run(["a"], key=str, do=doing(Unavailable("away")))
    for work in (["a"], []):  # it is not tried yet, or was not even asked for
        with pytest.raises(Unavailable, match="away"):
            attempts.run(work, key=str, do=doing(None))
    assert attempts.run(["b"], key=str, do=doing(None)) == Tally(done=1)
    with pytest.raises(Unavailable, match="away"):
        attempts.run(["a"], key=str, do=doing(None))
    clock.pass_(10)
    assert attempts.run(["a"], key=str, do=doing(None)) == Tally(done=1)
    assert attempts.run([], key=str, do=doing(None)) == Tally()


def test_an_outage_of_what_is_gone_since_ends_too(attempts: Attempts, clock: Clock) -> None:
    with pytest.raises(Unavailable):
        attempts.run(["a"], key=str, do=doing(Unavailable("away")))
    clock.pass_(10)
    assert attempts.run([], key=str, do=doing(None)) == Tally()


def test_an_outage_is_told_by_who_waits_for_its_end_and_of_one_alone_once(attempts: Attempts, clock: Clock) -> None:
    with capture_logs() as logs, pytest.raises(Unavailable):
        attempts.run("ab", key=str, do=doing(Unavailable("away")))
    assert logs == []

    def do(name: str) -> None:
        if name == "c":
            raise Unavailable("this one is away")

    with capture_logs() as logs:
        for _ in range(3):
            clock.pass_(10)
            attempts.run("abc", key=str, do=do)
    assert [(line["key"], line["why"]) for line in logs] == [("c", "this one is away")]
