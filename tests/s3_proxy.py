"""A faulty network in front of a real S3 server: passes HTTP on byte for byte, counts, and breaks what it is told to.

Requests are signed for the proxy's own address: the Host header is passed on as it came.
"""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tests.seaweed import free_port_pairs

_PIECE = 1 << 18
_HEAD_LIMIT = 1 << 16
_IDLE_SECONDS = 120.0


@dataclass(frozen=True)
class Seen:
    """A request as it came: `path` is decoded, with the bucket in front of the key."""

    method: str
    path: str
    query: str
    headers: dict[str, str]


@dataclass
class Trouble:
    """What happens to the next `times` requests of `method` ("" is any) with `key` somewhere in path and query.

    `skip` of them are let through first. `hits` counts how often it happened.
    """

    method: str = ""
    key: str = ""
    times: int = 1
    skip: int = 0
    status: int = 0  # answered without asking the server
    code: str = "InternalError"
    hang: bool = False  # the server is not asked, nothing is answered until `release` or the end
    delay_seconds: float = 0
    lose: bool = False  # the server does it all, the answer is lost
    cut_at: int = -1  # the connection ends after so many bytes of the answer's body
    flip_at: int = -1  # one bit of this byte of the answer's body is flipped
    hits: int = 0

    def takes(self, seen: Seen) -> bool:
        if self.times <= 0 or (self.method and seen.method != self.method):
            return False
        if self.key not in f"{seen.path}?{seen.query}":
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        self.hits += 1
        return True


@dataclass
class S3Proxy:
    """Listens on 127.0.0.1:`port` for the server at `upstream` (host, port)."""

    upstream: tuple[str, int]
    port: int
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0  # accepted so far
    _troubles: list[Trouble] = field(default_factory=list)
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _released: threading.Event = field(default_factory=threading.Event)
    _listener: socket.socket | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def counts(self, key: str = "") -> Counter[str]:
        """How many requests of each method came so far whose path and query contain `key`."""
        with self._lock:
            return Counter(seen.method for seen in self.requests if key in f"{seen.path}?{seen.query}")

    def forget(self) -> None:
        """Count from nothing again, and call off all troubles."""
        with self._lock:
            self.requests.clear()
            self._troubles.clear()

    def cause(self, trouble: Trouble) -> Trouble:
        """Let this happen; of several that take a request the first does."""
        with self._lock:
            self._troubles.append(trouble)
        return trouble

    def release(self) -> None:
        """End all hanging requests; their connections are closed."""
        self._released.set()
        self._released = threading.Event()

    def up(self) -> None:
        """Accept connections."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections, and break those that are open."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
            self._listener.close()
            self._listener = None
        self.release()
        with self._lock:
            for sock in self._open:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), self._kept(client), self._kept(socket.create_connection(self.upstream, 30)) as server:
            ask, answer = _Wire(client), _Wire(server)
            while self._exchange(ask, answer):
                pass

    @contextmanager
    def _kept(self, sock: socket.socket) -> Iterator[socket.socket]:
        sock.settimeout(_IDLE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(sock)
        try:
            yield sock
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def _exchange(self, client: "_Wire", server: "_Wire") -> bool:
        """Pass one request and its answer on; whether the connection can carry another."""
        head = client.head()
        if not head:
            return False
        seen, trouble = self._see(head)
        if trouble.hang:
            self._released.wait(_IDLE_SECONDS)
            return False
        if trouble.delay_seconds:
            self._released.wait(trouble.delay_seconds)
        expects = seen.headers.get("expect", "").lower() == "100-continue"
        if trouble.status:
            if not expects:
                _pass_body(client, None, seen.headers, trouble)  # else its end would come before our answer
            client.sock.sendall(_refusal(trouble))
            return False
        server.sock.sendall(head)
        answer = b""
        if expects:
            answer = server.head()
            if answer.startswith(b"HTTP/1.1 100"):
                client.sock.sendall(answer)
                answer = b""
        if not answer:
            _pass_body(client, server, seen.headers, Trouble())
            answer = server.head()
        if trouble.lose or not answer:
            return False
        client.sock.sendall(answer)
        headers = _headers(answer)
        status = answer.split(None, 2)[1]
        has_body = seen.method != "HEAD" and status not in (b"204", b"304")
        if has_body and not _pass_body(server, client, headers, trouble):
            return False
        return headers.get("connection", "").lower() != "close"

    def _see(self, head: bytes) -> tuple[Seen, Trouble]:
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        url = urlsplit(target)
        seen = Seen(method, unquote(url.path), url.query, _headers(head))
        with self._lock:
            self.requests.append(seen)
            return seen, next((trouble for trouble in self._troubles if trouble.takes(seen)), Trouble())


class _Wire:
    """A socket with what was read from it too early."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._ahead = b""

    def head(self) -> bytes:
        """Up to the empty line; nothing when the other side has ended."""
        data = self._ahead
        while b"\r\n\r\n" not in data:
            more = self.sock.recv(_HEAD_LIMIT)
            if not more or len(data) > _HEAD_LIMIT:
                return b""
            data += more
        end = data.index(b"\r\n\r\n") + 4
        self._ahead = data[end:]
        return data[:end]

    def line(self) -> bytes:
        while b"\n" not in self._ahead:
            more = self.sock.recv(_HEAD_LIMIT)
            if not more or len(self._ahead) > _HEAD_LIMIT:
                raise OSError("no line")
            self._ahead += more
        line, _, self._ahead = self._ahead.partition(b"\n")
        return line + b"\n"

    def some(self, most: int) -> bytes:
        """1 to `most` bytes; nothing when the other side has ended."""
        if self._ahead:
            data, self._ahead = self._ahead[:most], self._ahead[most:]
            return data
        return self.sock.recv(min(most, _PIECE))

    def send_broken(self, data: bytes, offset: int, trouble: Trouble) -> bool:
        """Send the bytes at `offset` of a body as `trouble` has it; False when that was its end."""
        if 0 <= trouble.flip_at - offset < len(data):
            broken = bytearray(data)
            broken[trouble.flip_at - offset] ^= 1
            data = bytes(broken)
        if 0 <= trouble.cut_at <= offset + len(data):
            self.sock.sendall(data[: trouble.cut_at - offset])
            return False
        self.sock.sendall(data)
        return True


def _pass_body(source: _Wire, sink: _Wire | None, headers: dict[str, str], trouble: Trouble) -> bool:
    """Pass a body on (or nowhere), broken as `trouble` says; False when the connection cannot go on."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while True:
            size = source.line()
            if sink is not None:
                sink.sock.sendall(size)
            _pass_bytes(source, sink, int(size.split(b";")[0], 16) + 2, Trouble())
            if int(size.split(b";")[0], 16) == 0:
                return True
    return _pass_bytes(source, sink, int(headers.get("content-length", "0")), trouble)


def _pass_bytes(source: _Wire, sink: _Wire | None, length: int, trouble: Trouble) -> bool:
    done = 0
    while done < length:
        data = source.some(length - done)
        if not data:
            return False
        if sink is not None and not sink.send_broken(data, done, trouble):
            return False
        done += len(data)
    return True


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _refusal(trouble: Trouble) -> bytes:
    body = f'<?xml version="1.0"?><Error><Code>{trouble.code}</Code><Message>trouble</Message></Error>'.encode()
    head = f"HTTP/1.1 {trouble.status} Trouble\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


@contextmanager
def s3_proxy(endpoint: str) -> Iterator[S3Proxy]:
    """A running proxy in front of `endpoint` (http://host:port)."""
    url = urlsplit(endpoint)
    assert url.hostname and url.port
    proxy = S3Proxy((url.hostname, url.port), free_port_pairs(1)[0])
    proxy.up()
    try:
        yield proxy
    finally:
        proxy.down()
