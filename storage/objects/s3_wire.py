"""Signed requests for the objects of one bucket: botocore signs, urllib3 carries, one attempt a call.

This is the path of the bytes: boto3 itself takes four times the processor time for the same requests.
"""

import ipaddress
import math
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, Timeout

from storage.objects.s3_errors import code_in, refusal, translated
from storage.objects.s3_payload import Payload
from storage.objects.s3_settings import S3Settings

_NOTHING_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_ERROR_BYTES = 1 << 16
_READING_SECONDS = 10.0  # without a byte, where nothing is sent that the server has to write first
_VERBS = {"PUT": "write", "GET": "read", "HEAD": "read", "DELETE": "delete"}


class Wire:
    """`endpoint` is the address of the service, `credentials` are botocore's. Safe under threads."""

    def __init__(self, settings: S3Settings, endpoint: str, region: str, credentials: Any) -> None:
        parts = urlsplit(endpoint)
        host = parts.hostname or ""
        virtual = settings.addressing == "virtual"
        self._host = f"{settings.bucket}.{host}" if virtual else host
        self._base = f"/{settings.prefix}" if virtual else f"/{settings.bucket}/{settings.prefix}"
        self._origin = f"{parts.scheme}://{parts.netloc.replace(host, self._host, 1)}"
        self._region = region
        self._credentials = credentials
        self._wait_seconds = settings.connect_timeout_seconds
        self._pool = _pool(settings, parts.scheme == "https", self._host, parts.port)
        self._reading = Timeout(settings.connect_timeout_seconds, min(settings.read_timeout_seconds, _READING_SECONDS))
        # In clear over a network only the signature keeps others from changing the bytes.
        self.signs_payloads = parts.scheme != "https" and not _is_loopback(host)

    def ask(
        self,
        method: str,
        key: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        payload: Payload | None = None,
        stream: bool = False,
    ) -> BaseHTTPResponse:
        """The answer to one request for `key`; with `stream` its body is unread and the caller's to read and release.

        Raises what `s3_errors` makes of a refusal or of a connection that fails.
        """
        path = self._base + key + (f"?{query}" if query else "")
        sent = dict(headers or {})
        if payload is not None:
            sent["Content-Length"] = str(payload.length)
        body: Any = None if payload is None else payload.pieces()  # buffers of any kind, which urllib3 does not promise
        with translated(_VERBS[method]):
            answer = self._pool.urlopen(
                method,
                path,
                body=body,
                headers=self._signed(method, path, sent, payload),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
                timeout=self._pool.timeout if payload is not None else self._reading,
                pool_timeout=math.ceil(self._wait_seconds),
            )
            if answer.status >= 300:
                code = code_in(answer.read(_ERROR_BYTES))
                release(answer)
                raise refusal(answer.status, code, _VERBS[method])
            if not stream:
                answer.read()
                answer.release_conn()
        return answer

    def hang_up(self) -> None:
        """Break the connections that are in use: who waits for them gets an error."""
        for connection in list(self._pool.opened):
            sock = connection.sock
            if sock is not None:
                with suppress(OSError):  # it may be closed by now
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS too: its own would wait for the other side

    def close(self) -> None:
        """Close the connections that are idle."""
        self._pool.close()

    def _signed(self, method: str, path: str, headers: dict[str, str], payload: Payload | None) -> dict[str, str]:
        request = AWSRequest(method=method, url=self._origin + path, headers=headers)
        request.context["payload"] = _NOTHING_SHA256 if payload is None else payload.sha256 or _UNSIGNED
        _Signer(self._credentials.get_frozen_credentials(), "s3", self._region).add_auth(request)
        return dict(request.headers.items())


class _Signer(S3SigV4Auth):  # type: ignore[misc]  # botocore is not typed
    """Signs the digest that is known already instead of reading the body for it."""

    def payload(self, request: Any) -> str:
        return str(request.context["payload"])


def release(answer: BaseHTTPResponse) -> None:
    """Give up what is unread of `answer`: its connection is closed and its place in the pool is free again."""
    answer.close()
    answer.release_conn()


class _Pool(HTTPConnectionPool):
    """Knows the connections that it has opened."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.opened: WeakSet[Any] = WeakSet()

    def _new_conn(self) -> Any:
        connection = super()._new_conn()
        self.opened.add(connection)
        return connection


class _SecurePool(_Pool, HTTPSConnectionPool):
    """The same with TLS."""


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
