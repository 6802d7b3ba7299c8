"""From the archive's threads to the caller: small answers whole, large ones in steps of 1 MiB, in bounded memory.

An error before the first byte becomes an error response; one after it breaks the connection, because an answer that
ends politely would pass for a whole one.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

P = ParamSpec("P")
T = TypeVar("T")

WHOLE_BYTES = 1 << 20
# Of patient data: no shared cache keeps it, and what was sent to one Accept is not for another.
PRIVATE = {"cache-control": "private", "vary": "Accept"}
PRIVATE_JSON = {"cache-control": "private", "vary": "Accept, Accept-Encoding"}
READING_THREADS = 40
STORING_THREADS = 32
_limiters: RunVar[tuple[CapacityLimiter, CapacityLimiter]] = RunVar("limiters of the web door's threads")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what blocks (any reading call of the archive) in one of the threads kept for reading."""
    return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=_limiter(0))


async def in_storing_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same in one of the threads kept for storing, so that many stores cannot keep readers waiting."""
    return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=_limiter(1))


def _limiter(which: int) -> CapacityLimiter:
    """Limiters belong to one event loop; a process may run several (in tests it does)."""
    try:
        return _limiters.get()[which]
    except LookupError:
        _limiters.set((CapacityLimiter(READING_THREADS), CapacityLimiter(STORING_THREADS)))
        return _limiters.get()[which]


class Body:
    """The bytes of an answer, pulled in threads. `head` holds the first of them, and all when `whole`."""

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._lock = threading.Lock()  # `close` waits for a `pull` that a cancelled request left running
        self.head, self.whole = self._pull()

    def pull(self) -> tuple[bytes, bool]:
        """The next bytes, at least 1 MiB unless they are the last, and whether they are."""
        with self._lock:
            return self._pull()

    def close(self) -> None:
        """Release what the bytes come from; also after the end."""
        with self._lock:
            self._chunks.close()

    def _pull(self) -> tuple[bytes, bool]:
        gathered, length = [], 0
        for chunk in self._chunks:
            gathered.append(chunk)
            length += len(chunk)
            if length >= WHOLE_BYTES:
                return b"".join(gathered), False
        return b"".join(gathered), True


class Streamed(Response):
    """A response whose body is larger than is kept in memory. Stops reading when the caller has gone."""

    def __init__(self, body: Body, headers: Mapping[str, str], length: int | None) -> None:
        self._source = body
        self.status_code = 200
        self.background = None
        if length is not None:
            headers = {**headers, "content-length": str(length)}
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            chunk, last = (b"", True) if scope["method"] == "HEAD" else (self._source.head, self._source.whole)
            await send({"type": "http.response.body", "body": chunk, "more_body": not last})
            while not last and not gone.done():
                chunk, last = await in_thread(self._source.pull)
                await send({"type": "http.response.body", "body": chunk, "more_body": not last})
        finally:
            gone.cancel()
            await in_thread(self._source.close)


def response(body: Body, headers: Mapping[str, str], length: int | None = None) -> Response:
    """A response with this body; `length` is what it will be in all, when that is known before it is read."""
    if body.whole:
        body.close()
        return Response(body.head, headers=headers)
    return Streamed(body, headers, length)


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
