"""Answers on their way out: what they come from is released by us, not by chance when the memory is reclaimed."""

import asyncio
from collections.abc import Generator

import pytest
from starlette.types import Message, Receive

from gateway.web.delivery import STEP_BYTES, Body, Delivered


class Source:
    """Chunks that are held here too, so that nothing but `close` ends them before their time."""

    def __init__(self, steps: int) -> None:
        self.released = False
        self.chunks = self._chunks(steps)

    def _chunks(self, steps: int) -> Generator[bytes, None, None]:
        try:
            for _ in range(steps):
                yield bytes(STEP_BYTES)
        finally:
            self.released = True


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def leave() -> Message:
    return {"type": "http.disconnect"}


def answered(source: Source, method: str = "GET", receive: Receive = never, fail_after: int = 1000) -> int:
    """Answer a request from `source`; how many messages went out."""
    sent = 0

    async def send(message: Message) -> None:
        nonlocal sent
        if sent == fail_after:
            raise OSError("the connection broke")
        sent += 1

    asyncio.run(Delivered(Body(source.chunks), {})({"type": "http", "method": method}, receive, send))
    return sent


def test_an_answer_that_is_sent_whole_is_released() -> None:
    assert answered(source := Source(3)) == 5
    assert source.released


def test_an_answer_to_head_is_released_unread() -> None:
    assert answered(source := Source(3), "HEAD") == 2
    assert source.released


def test_an_answer_whose_caller_leaves_is_released_half_way() -> None:
    assert answered(source := Source(100), receive=leave) < 10
    assert source.released


@pytest.mark.parametrize("fail_after", [0, 1, 2])
def test_an_answer_whose_connection_breaks_is_released(fail_after: int) -> None:
    source = Source(100)
    with pytest.raises(OSError, match="the connection broke"):
        answered(source, fail_after=fail_after)
    assert source.released


def test_an_answer_that_is_cancelled_is_released() -> None:
    source = Source(100)

    async def cancelled() -> None:
        sending = asyncio.Event()

        async def send(_: Message) -> None:
            sending.set()
            await asyncio.Event().wait()

        delivered = Delivered(Body(source.chunks), {})
        answer = asyncio.create_task(delivered({"type": "http", "method": "GET"}, never, send))
        await sending.wait()
        answer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer

    asyncio.run(cancelled())
    assert source.released
