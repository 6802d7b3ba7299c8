"""Bearer tokens (RFC 6750): who presents one is the caller it was made for. Only SHA-256 hashes are kept."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

from gateway.config import Token
from gateway.security.audit import AuditLog, Event, NullAudit, Outcome
from gateway.security.caller import Caller, Right
from gateway.security.policy import Unauthenticated

ANONYMOUS = "anonymous"
_MAX_HEADER_LENGTH = 4096
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE | re.ASCII)


class Tokens:
    """The tokens that the configuration names.

    When it names none, everybody is let in with all rights: the configuration has made sure that this is on loopback
    or was asked for (`open = true`). When it names some, one of them is needed, open or not. Refusals are audited.
    """

    def __init__(self, tokens: Sequence[Token], *, audit: AuditLog | None = None) -> None:
        self._audit = audit or NullAudit()
        self._tokens = tuple((bytes.fromhex(token.sha256), token) for token in tokens)

    def authenticate(self, authorization: str | None, address: str, door: str = "web") -> Caller:
        """Who sent this Authorization header; raises Unauthenticated when that cannot be told."""
        if not self._tokens:
            return Caller(ANONYMOUS, address, door, frozenset(Right))
        if not authorization:
            raise self._refusal("a bearer token is needed", address, door, presented=False)
        token = self._find(authorization)
        if token is None:
            raise self._refusal("the bearer token is not valid", address, door, presented=True)
        return Caller(token.name, address, door, token.rights)

    def _refusal(self, message: str, address: str, door: str, *, presented: bool) -> Unauthenticated:
        reason = "wrong credentials" if presented else "no credentials"
        self._audit.record(Event("authenticate", Outcome.DENIED, ANONYMOUS, address, door, reason=reason))
        return Unauthenticated(message, presented=presented)

    def _find(self, authorization: str) -> Token | None:
        presented = _BEARER.fullmatch(authorization) if len(authorization) <= _MAX_HEADER_LENGTH else None
        if presented is None:
            return None
        digest = hashlib.sha256(presented[1].encode()).digest()
        found = None
        for expected, token in self._tokens:  # all of them: how long it takes must not tell which one is near
            if hmac.compare_digest(expected, digest):
                found = token
        return found


def new_token() -> tuple[str, str]:
    """A fresh token of 256 random bits for its holder, and its SHA-256 in hexadecimal for the configuration."""
    token = f"igw_{secrets.token_urlsafe(32)}"
    return token, hashlib.sha256(token.encode()).hexdigest()
