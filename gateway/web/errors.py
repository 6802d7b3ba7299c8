"""What the web door answers when something is wrong: one table from errors to statuses, one form of body.

`{"error": word, "detail": sentence}`; never a stack trace, never patient data (PS3.18 8.5, 8.6.3).
"""

import secrets
from collections.abc import Mapping

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway import log
from gateway.security.policy import Forbidden, Unauthenticated
from gateway.web import media
from storage.errors import Conflict, Exhausted, Fault, Invalid, NotAcceptable, NotFound, StorageError, Unavailable
from storage.packs import Damaged

RETRY_AFTER_SECONDS = 5

_logger = log.get(__name__)


class Refused(Exception):
    """A request that the web door itself refuses, before any archive is asked."""

    def __init__(self, status: int, error: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.error, self.detail, self.headers = status, error, detail, headers


_STATUSES: dict[type[Exception], tuple[int, str]] = {
    NotFound: (404, "not-found"),
    NotAcceptable: (406, "not-acceptable"),
    Conflict: (409, "conflict"),
    Unavailable: (503, "unavailable"),
    Exhausted: (503, "exhausted"),
    Unauthenticated: (401, "unauthenticated"),
    Forbidden: (403, "forbidden"),
}
_WORDS = {404: "not-found", 405: "method-not-allowed"}


def response(error: Exception) -> Response:
    """The answer to `error`; one that nobody foresaw becomes 500 with an id that the log has too."""
    match error:
        case Refused():
            return _body(error.status, error.error, error.detail, error.headers)
        case Invalid():
            status = 413 if error.fault is Fault.TOO_LARGE else 400
            return _body(status, str(error.fault), str(error))
        case HTTPException():
            return _body(error.status_code, _WORDS.get(error.status_code, "http"), error.detail, error.headers)
        case Damaged():
            # It may have been damaged on its way from a bucket: that passes.
            detail = f"{error}; if that stays so, the operator is to run `gateway verify --repair`"
            return _body(503, "damaged", detail, _headers(error))
        case StorageError() | Unauthenticated() | Forbidden():
            for kind, (status, word) in _STATUSES.items():
                if isinstance(error, kind):  # or a kind of it that tells more to those below
                    return _body(status, word, str(error), _headers(error))
    detail = "an unexpected error; the log of the gateway has more under this id"
    return _body(500, "internal", detail, id=log_unforeseen(error))


async def routing_error(_: Request, error: Exception) -> Response:
    """The answer to a path or method that is not there."""
    return response(error)


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": error.challenge}
    if isinstance(error, Unavailable | Exhausted):
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return {}


def log_unforeseen(error: Exception) -> str:
    """Log an error that nobody foresaw; gives the id under which the log has it."""
    identifier = secrets.token_hex(8)
    _logger.error("unexpected error", id=identifier, exc_info=error)
    return identifier


def _body(
    status: int, error: str, detail: str, headers: Mapping[str, str] | None = None, id: str | None = None
) -> Response:
    content = {"error": error, "detail": detail} | ({"id": id} if id else {})
    return Response(orjson.dumps(content), status, headers, media.JSON)
