"""Signed requests for one bucket: botocore signs, urllib3 carries, one attempt a call.

boto3 itself takes up to three times the processor time for the same requests, and cannot be told to let go of one.
"""

import ipaddress
import math
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit
from weakref import WeakSet
from xml.etree.ElementTree import Element

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError

from storage.errors import Unavailable
from storage.objects.s3_documents import parsed
from storage.objects.s3_errors import Away, code_in, refusal, translated
from storage.objects.s3_payload import Payload
from storage.objects.s3_settings import S3Settings
from storage.objects.s3_tally import Tally

_ANSWER_BYTES = 8 << 20  # of an answer that is no object; a list of 1,000 of the longest keys is shorter
_ONCE = 1 << 16  # asked of the system at once
_READING_SECONDS = 10.0  # without a byte, where nothing is sent that the server has to write first
_COMPLETION_SECONDS = 600.0  # for the whole answer: blanks come while the parts of a large object are joined
_VERBS = {
    "put": "write",
    "get": "read",
    "head": "read",
    "delete": "delete",
    "put_part": "write",
    "create_upload": "write",
    "complete_upload": "write",
    "abort_upload": "delete",
    "list": "list",
    "list_versions": "list versions",
    "list_uploads": "list",
    "delete_many": "delete",
}
# The headers to send with a request of a method for a URL with headers, and the SHA-256 of its body: "" where that is
# not signed, None where there is no body.
Signed = Callable[[str, str, Mapping[str, str], str | None], dict[str, str]]


class Wire:
    """`endpoint` is the address of the service. Each request is told to `tally`. Safe under threads."""

    def __init__(self, settings: S3Settings, endpoint: str, signed: Signed, tally: Tally) -> None:
        parts = urlsplit(endpoint)
        host = parts.hostname or ""
        virtual = settings.addressing == "virtual"
        self._host = f"{settings.bucket}.{host}" if virtual else host
        self._root = "/" if virtual else f"/{settings.bucket}"
        self._base = f"/{settings.prefix}" if virtual else f"/{settings.bucket}/{settings.prefix}"
        self._origin = f"{parts.scheme}://{parts.netloc.replace(host, self._host, 1)}"
        self._signed = signed
        self.tally = tally
        self._wait_seconds = settings.connect_timeout_seconds
        self._answer_seconds = settings.read_timeout_seconds
        self._pool = _pool(settings, parts.scheme == "https", self._host, parts.port)
        self._reading = Timeout(settings.connect_timeout_seconds, min(settings.read_timeout_seconds, _READING_SECONDS))
        # In clear over a network only the signature keeps others from changing the bytes.
        self.signs_payloads = parts.scheme != "https" and not _is_loopback(host)

    def ask(
        self,
        method: str,
        key: str,
        *,
        operation: str = "",
        query: str = "",
        headers: Mapping[str, str] | None = None,
        payload: Payload | None = None,
        stream: bool = False,
    ) -> BaseHTTPResponse:
        """The answer to one request for `key`; with `stream` its body is unread and the caller's to read and release.

        Raises what `s3_errors` makes of a refusal or of a connection that fails.
        """
        operation = operation or method.lower()
        patience = self._reading if payload is None else self._pool.timeout
        with self.tally.request(operation), translated(_VERBS[operation]):
            answer = self._send(operation, method, self._path(key, query), headers or {}, payload, patience)
            if not stream:
                _read(answer, self._answer_seconds)
                answer.release_conn()
        return answer

    def ask_document(
        self,
        operation: str,
        method: str,
        key: str | None,
        root: str,
        *,
        query: str,
        headers: Mapping[str, str] | None = None,
        payload: Payload | None = None,
    ) -> Element:
        """The document, whose outermost element is `root`, that answers a request for `key`; None: for the bucket.

        Raises as `ask` and `s3_documents.parsed`.
        """
        seconds = _COMPLETION_SECONDS if operation == "complete_upload" else self._answer_seconds
        verb = _VERBS[operation]
        with self.tally.request(operation), translated(verb):
            path = self._path(key, query)
            answer = self._send(operation, method, path, headers or {}, payload, self._pool.timeout)
            body = _read(answer, seconds)
            answer.release_conn()
            self.tally.moved("received", len(body))
            return parsed(body, root, verb)

    def _path(self, key: str | None, query: str) -> str:
        path = self._root if key is None else self._base + quote(key)
        return f"{path}?{query}" if query else path

    def _send(
        self,
        operation: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        payload: Payload | None,
        patience: Any,
    ) -> BaseHTTPResponse:
        """The open answer, which is no refusal."""
        sent = dict(headers)
        if payload is not None:
            sent["Content-Length"] = str(payload.length)
        body: Any = None if payload is None else payload.pieces()  # buffers of any kind, which urllib3 does not promise
        answer = self._pool.urlopen(
            method,
            path,
            body=body,
            headers=self._signed(method, self._origin + path, sent, None if payload is None else payload.sha256),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
            timeout=patience,
            pool_timeout=math.ceil(self._wait_seconds),
        )
        if payload is not None:
            self.tally.moved("sent", payload.length)
        if answer.status >= 300:
            code = code_in(_read(answer, self._answer_seconds))
            release(answer)
            if not code and answer.status == 404 and path.startswith(self._root + "?"):
                code = "NoSuchBucket"
            raise refusal(answer.status, code, _VERBS[operation])
        return answer

    def hang_up(self) -> None:
        """Break the connections that are in use: who waits for them gets an error. No other is opened any more."""
        self._pool.hung_up = True
        for connection in list(self._pool.opened):
            sock = connection.sock
            if sock is not None:
                with suppress(OSError):  # it may be closed by now
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS too: its own would wait for the other side

    def close(self) -> None:
        """Close the connections that are idle."""
        self._pool.close()


def release(answer: BaseHTTPResponse) -> None:
    """Give up what is unread of `answer`: its connection is closed and its place in the pool is free again."""
    answer.close()
    answer.release_conn()


def _read(answer: BaseHTTPResponse, seconds: float) -> bytes:
    """The whole body, which has to come within `seconds`. Raises Away, Unavailable when it is longer than any of S3."""
    deadline = time.monotonic() + seconds
    pieces: list[bytes] = []
    length = 0
    try:
        while data := answer.read1(_ONCE):
            pieces.append(data)
            length += len(data)
            if length > _ANSWER_BYTES:
                raise Unavailable("the S3 store answers with more than any answer of S3 can be")
            if time.monotonic() > deadline:
                raise Away("the S3 store does not end its answer in time")
    except BaseException:
        release(answer)
        raise
    return b"".join(pieces)


class _Connection(HTTPConnection):
    """Ends at once when it was made for a pool that hung up meanwhile."""

    hung_up: Callable[[], bool]

    def connect(self) -> None:
        super().connect()
        if self.hung_up():
            self.close()
            raise NewConnectionError(self, "the gateway stops")


class _SecureConnection(_Connection, HTTPSConnection):
    """The same with TLS."""


class _Pool(HTTPConnectionPool):
    """Knows the connections that it has opened."""

    ConnectionCls = _Connection

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.opened: WeakSet[Any] = WeakSet()
        self.hung_up = False

    def _new_conn(self) -> Any:
        connection: Any = super()._new_conn()
        connection.hung_up = lambda: self.hung_up
        self.opened.add(connection)
        return connection


class _SecurePool(_Pool, HTTPSConnectionPool):
    """The same with TLS."""

    ConnectionCls = _SecureConnection


def _pool(settings: S3Settings, secure: bool, host: str, port: int | None) -> _Pool:
    options: dict[str, Any] = {
        "port": port,
        "timeout": Timeout(connect=settings.connect_timeout_seconds, read=settings.read_timeout_seconds),
        "maxsize": settings.max_connections,
        "block": True,
    }
    if not secure:
        return _Pool(host, **options)
    context = ssl.create_default_context(cafile=settings.ca_file)
    return _SecurePool(host, ssl_context=context, **options)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
