"""What every request passes, whatever it asks for: errors become answers, load is limited, the caller gets a name.

Each is plain ASGI: an application that takes an application. The order is fixed in `app.build`.
"""

import time
from collections.abc import Callable, Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import log, metrics
from gateway.security.caller import Caller
from gateway.security.policy import Forbidden
from gateway.web import errors
from gateway.web.address import SERVICES, client_address
from gateway.web.protocol import BREAK_OFF
from storage.errors import Exhausted, StorageError

Authenticate = Callable[[str | None, str], Caller]

CLIENT_GONE = 499  # for the metrics: nobody was there to take an answer

_logger = log.get(__name__)


class Observed:
    """Counts and times every response, and turns whatever goes wrong inside into one.

    When a response has already begun it cannot be taken back: its connection is broken, so that nobody takes half an
    answer for a whole one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope.setdefault("state", {})
        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            status = status or CLIENT_GONE
        except Exception as error:
            if status == 0:
                await errors.response(error)(scope, receive, sending)
            else:
                _log_broken_off(_resource(scope), error)
                scope["state"][BREAK_OFF]()
        finally:
            metrics.responded(_resource(scope), status, time.perf_counter() - began)


def _log_broken_off(resource: str, error: Exception) -> None:
    if isinstance(error, StorageError):
        _logger.error("answer broken off", resource=resource, reason=str(error))
    else:
        _logger.error("answer broken off by an unexpected error", resource=resource, exc_info=error)


class Limited:
    """Lets at most so many DICOMweb requests in at a time; the others are told to come back (503)."""

    def __init__(self, app: ASGIApp, max_concurrent_requests: int) -> None:
        self._app = app
        self._free = max_concurrent_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(SERVICES):
            return await self._app(scope, receive, send)
        if self._free <= 0:
            raise Exhausted("as many requests as are allowed at once are being answered")
        self._free -= 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._free += 1


class CalledByName:
    """Refuses requests that call this gateway by another name than its own.

    Where everybody on this machine is let in, a page from elsewhere must not get in through the browser on it by giving
    a name of its own the address 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._hosts is not None and scope["type"] == "http":
            host = _host(Request(scope).headers.get("host", ""))
            if host and host not in self._hosts:
                raise Forbidden("this gateway is not known by that host name; see [web] public_url")
        await self._app(scope, receive, send)


def _host(header: str) -> str:
    """The name or address in a Host header, without port and brackets."""
    return header.partition("]")[0].strip("[").lower() if header.startswith("[") else header.partition(":")[0].lower()


class Authenticated:
    """Puts the Caller into the scope; nobody we know gets 401. The health pages are open."""

    def __init__(self, app: ASGIApp, authenticate: Authenticate) -> None:
        self._app = app
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(SERVICES) or scope["path"] == "/metrics":
            request = Request(scope)
            header = request.headers.get("authorization")
            scope["state"]["caller"] = self._authenticate(header, client_address(request))
        await self._app(scope, receive, send)


class WithoutTrailingSlash:
    """Treats `/studies/` as `/studies`; a redirect would lose the body of a POST and the Authorization."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.endswith("/") and path.startswith(SERVICES):
            scope["path"] = path.rstrip("/")
        await self._app(scope, receive, send)


def _resource(scope: Scope) -> str:
    return str(scope["state"].get("resource", "none"))
