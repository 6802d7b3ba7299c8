"""The body of an S3 answer: whole or an error, also when the other side only trickles."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from storage.errors import Unavailable
from storage.objects.s3_body import S3Body
from storage.objects.s3_errors import Passing

DATA = bytes(range(256)) * 1024  # 256 KiB


class Answer:
    """Gives at most `step` bytes at once, after `wait` seconds of the test's clock."""

    def __init__(self, test: "Slow", data: bytes, step: int, wait: float) -> None:
        self.test, self.data, self.step, self.wait = test, data, step, wait
        self.closed = False

    def read1(self, most: int) -> bytes:
        self.test.now += self.wait
        given, self.data = self.data[: min(most, self.step)], self.data[min(most, self.step) :]
        return given

    def close(self) -> None:
        self.closed = True

    def release_conn(self) -> None:
        assert self.closed


class Slow:
    """Answers one after another, each from where it was asked to go on."""

    def __init__(self, *paces: tuple[int, float]) -> None:
        self.now = 0.0
        self.paces = list(paces)
        self.asked: list[int] = []

    def resume(self, done: int) -> Any:
        self.asked.append(done)
        pace = self.paces.pop(0) if len(self.paces) > 1 else self.paces[0]
        return Answer(self, DATA[done:], *pace)

    def body(self) -> S3Body:
        resume = cast("Callable[[int], Any]", self.resume)
        return S3Body(resume(0), len(DATA), resume, slow_seconds=30, clock=lambda: self.now)


def test_an_object_that_trickles_is_asked_for_again_from_there() -> None:
    slow = Slow((1 << 15, 0.1), (1 << 16, 1))
    slow.paces.insert(1, (1, 1.0))
    body = slow.body()
    pieces = []
    for piece in body.chunks(1 << 16):
        pieces.append(piece)
        if len(pieces) == 1:
            assert body._answer is not None
            cast("Any", body._answer).step, cast("Any", body._answer).wait = 1, 1.0
    assert b"".join(pieces) == DATA
    assert slow.asked == [0, 1 << 16, 1 << 16], "the second answer trickled too"
    assert slow.now < 100


def test_an_object_that_always_trickles_is_given_up() -> None:
    slow = Slow((1, 1.0))
    with pytest.raises(Passing, match="too slowly"):
        slow.body().read()
    assert len(slow.asked) == 9
    assert slow.now < 9 * 40


def test_an_object_that_comes_slowly_but_steadily_is_read() -> None:
    slow = Slow((1 << 13, 3.7))  # 66 KB in 30 seconds
    assert slow.body().read() == DATA
    assert slow.asked == [0]


def test_who_reads_slowly_is_waited_for() -> None:
    slow = Slow((1, 0.001))
    body = slow.body()
    read = 0
    for piece in body.chunks(16):
        read += len(piece)
        slow.now += 1000
        if read == 1024:
            break
    assert slow.asked == [0]


def test_an_object_that_ends_early_is_an_error_and_its_connections_are_given_up() -> None:
    answers: list[Answer] = []
    slow = Slow((1 << 16, 0))

    def resume(done: int) -> Any:
        answers.append(Answer(slow, DATA[:100] if not done else b"", 1 << 16, 0))
        return answers[-1]

    with pytest.raises(Unavailable, match="too early"):
        S3Body(resume(0), len(DATA), resume).read()
    assert all(answer.closed for answer in answers)
