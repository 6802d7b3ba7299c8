"""HTTP/1.1 as uvicorn speaks it, with the bounds it lacks: on the size of what precedes a body, and on waiting for it.

A request line and headers that never end, or come a byte a minute, would otherwise hold memory and a connection for
as long as their sender likes. Bodies are timed where they are read (`stow`), answers by the kernel (`server`).
"""

import asyncio
from functools import partial
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

MAX_HEADER_BYTES = 1 << 16  # request line included
BREAK_OFF = "break_off"  # in the state of a request: a function that breaks its connection, half an answer sent or not


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection; `timeout_seconds` is set on a subclass by `bounded`."""

    timeout_seconds: ClassVar[float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._in_headers = True
        self._in_body = False
        self._waiting_since: float | None = self.loop.time()
        self._watch: asyncio.TimerHandle | None = None
        self._refusal = (400, "Invalid HTTP request received.")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch = self.loop.call_later(self.timeout_seconds, self._check_waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._too_long()
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        self._waiting_since = self.loop.time()

    def on_headers_complete(self) -> None:
        if len(self.url) > MAX_HEADER_BYTES:
            self._too_long()
            raise ValueError("the request target is too long")
        self._in_headers, self._in_body = False, True
        self._header_bytes, self._waiting_since = 0, None
        super().on_headers_complete()
        self.scope["state"][BREAK_OFF] = partial(self._break_off, self.cycle)

    def on_message_complete(self) -> None:
        self._in_body, self._waiting_since = False, None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._in_body:  # refused before it was read: what is still sent is thrown away, but not for ever
            self._waiting_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no acceptable HTTP request (400, 414, 431) and close the connection."""
        status, text = self._refusal
        body = text.encode()
        headers = f"content-type: text/plain\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + headers.encode() + body)
        self.transport.close()

    def _break_off(self, cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True  # as it will be, lest the server takes the application to have forgotten the end
        self.transport.abort()

    def _too_long(self) -> None:
        limit = f"is longer than {MAX_HEADER_BYTES} bytes"
        target = len(self.url) > MAX_HEADER_BYTES // 2
        self._refusal = (414, f"The request target {limit}.") if target else (431, f"The request header {limit}.")

    def _check_waiting(self) -> None:
        waited = 0.0 if self._waiting_since is None else self.loop.time() - self._waiting_since
        if waited >= self.timeout_seconds and self.timeout_keep_alive_task is None:
            self.transport.abort()
        else:
            self._watch = self.loop.call_later(self.timeout_seconds, self._check_waiting)


def bounded(timeout_seconds: float) -> type[BoundedProtocol]:
    """The protocol that waits so long for a request to be whole, twice so long at most."""
    return type("BoundedProtocol", (BoundedProtocol,), {"timeout_seconds": timeout_seconds})
