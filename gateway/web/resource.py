"""A resource: which methods a path has, and what the others get (PS3.18 8.5; RFC 9110 9.3.7, 15.5.6)."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.web.errors import Refused
from storage.errors import Exhausted

Handler = Callable[[Request], Awaitable[Response]]


class Resource:
    """An ASGI application for one path. HEAD is GET without its body; OPTIONS tells the methods."""

    def __init__(self, name: str, *, get: Handler | None = None, post: Handler | None = None) -> None:
        self.name = name  # a word from a fixed list, for metrics
        self._handlers = {"GET": get, "HEAD": get, "POST": post}
        self._allow = ", ".join([*(method for method, handler in self._handlers.items() if handler), "OPTIONS"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["resource"] = self.name
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        handler = self._handlers.get(request.method)
        if handler is not None:
            return await handler(request)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": self._allow})
        raise Refused(405, "method-not-allowed", f"this resource has {self._allow}", {"Allow": self._allow})


def at_most(count: int, handler: Handler) -> Handler:
    """The same handler for so many requests at a time; the others are told to come back (503), their bodies unread."""
    free = count

    async def limited(request: Request) -> Response:
        nonlocal free
        if free <= 0:
            raise Exhausted("as many requests of this kind as are allowed at once are being answered")
        free -= 1
        try:
            return await handler(request)
        finally:
            free += 1

    return limited
