"""From the archive's threads to the caller: small answers whole, large ones in steps of 1 MiB, in bounded memory.

An error before the first byte becomes an error response; one after it breaks the connection, because an answer that
ends politely would pass for a whole one.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

P = ParamSpec("P")
T = TypeVar("T")

STEP_BYTES = 1 << 20
# Of patient data: no shared cache keeps it, and what was sent to one Accept is not for another.
PRIVATE = {"cache-control": "private", "vary": "Accept", "x-content-type-options": "nosniff"}
PRIVATE_JSON = PRIVATE | {"vary": "Accept, Accept-Encoding"}
READING_THREADS = 40
STORING_THREADS = 32
RENDERING_THREADS = 16

_COPY_BYTES = 1 << 16  # chunks below this are joined; copying larger ones costs more than sending them apart
_limiters: RunVar[tuple[CapacityLimiter, ...]] = RunVar("limiters of the web door's threads")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what blocks (any reading call of the archive) in one of the threads kept for reading."""
    return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=_limiter(0))


async def in_storing_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same in one of the threads kept for storing, so that many stores cannot keep readers waiting."""
    return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=_limiter(1))


async def in_rendering_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for what waits for pictures to be made, so that many of them cannot keep readers waiting."""
    return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=_limiter(2))


def _limiter(which: int) -> CapacityLimiter:
    """Limiters belong to one event loop; a process may run several (in tests it does)."""
    try:
        return _limiters.get()[which]
    except LookupError:
        _limiters.set(tuple(map(CapacityLimiter, (READING_THREADS, STORING_THREADS, RENDERING_THREADS))))
        return _limiters.get()[which]


class Pulled(NamedTuple):
    """Bytes of an answer, in few pieces, and whether they are its last."""

    pieces: Sequence[bytes]
    last: bool


class Body:
    """The bytes of an answer, pulled in threads; the first of them (all, when `head.last`) by the constructor."""

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._lock = threading.Lock()  # `close` waits for a `pull` that a cancelled request left running
        self.head = self._pull()

    def pull(self) -> Pulled:
        """The next bytes, at least 1 MiB unless they are the last."""
        with self._lock:
            return self._pull()

    def close(self) -> None:
        """Release what the bytes come from; also after the end."""
        with self._lock:
            self._chunks.close()

    def _pull(self) -> Pulled:
        gathered, length = [], 0
        for chunk in self._chunks:
            gathered.append(chunk)
            length += len(chunk)
            if length >= STEP_BYTES:
                return Pulled(_merged(gathered), False)
        return Pulled(_merged(gathered), True)


def _merged(chunks: Sequence[bytes]) -> list[bytes]:
    """The same bytes in fewer pieces: small neighbours joined, large chunks as they are."""
    pieces: list[bytes] = []
    small: list[bytes] = []
    for chunk in chunks:
        if len(chunk) < _COPY_BYTES:
            small.append(chunk)
            continue
        if small:
            pieces.append(b"".join(small))
            small = []
        pieces.append(chunk)
    return [*pieces, b"".join(small)] if small else pieces


class Delivered(Response):
    """A response that sends a Body. Stops pulling when the caller has gone; always closes the body."""

    def __init__(self, body: Body, headers: Mapping[str, str], length: int | None = None) -> None:
        """`length` is what the body will be in all, when that is known before it is read."""
        self._source = body
        self.status_code = 200
        self.background = None
        if body.head.last:
            length = sum(map(len, body.head.pieces))
        self.init_headers(headers if length is None else {**headers, "content-length": str(length)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; to HEAD only its headers."""
        head = self._source.head
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await _send(send, Pulled((), True))
                return
            await _send(send, head)
            if not head.last:
                await self._send_rest(receive, send)
        finally:
            if not head.last:
                await in_thread(self._source.close)

    async def _send_rest(self, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            last = False
            while not last and not gone.done():
                pulled = await in_thread(self._source.pull)
                await _send(send, pulled)
                last = pulled.last
        finally:
            gone.cancel()


async def _send(send: Send, pulled: Pulled) -> None:
    for piece in pulled.pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    rest = pulled.pieces[-1] if pulled.pieces else b""
    await send({"type": "http.response.body", "body": rest, "more_body": not pulled.last})


@contextmanager
def released(items: Iterator[object]) -> Iterator[None]:
    """Give up whatever has not been taken of `items`, if it is a generator, when the block is left."""
    try:
        yield
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
