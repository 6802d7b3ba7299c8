"""Audits those who were not let in: the same shapes as `Tokens` and `AERules`, wrapped around them."""

from typing import Protocol

from gateway.security.ae_rules import AERules, Rejected
from gateway.security.audit import AuditLog, Event, Outcome
from gateway.security.caller import Caller
from gateway.security.policy import Unauthenticated
from gateway.security.tokens import ANONYMOUS, Tokens


class Authenticator(Protocol):
    """What the web door asks: `Tokens`, audited or not."""

    def authenticate(self, authorization: str | None, address: str, door: str = "web") -> Caller:
        """Who sent this Authorization header; raises Unauthenticated."""


class Rules(Protocol):
    """What the DIMSE door asks: `AERules`, audited or not."""

    def admit(self, called: str, calling: str, address: str) -> Caller:
        """The caller at the other end; raises Rejected."""


class AuditedTokens:
    """`Tokens` whose refusals are recorded; nothing of the header is."""

    def __init__(self, tokens: Tokens, audit: AuditLog) -> None:
        self._tokens = tokens
        self._audit = audit

    def authenticate(self, authorization: str | None, address: str, door: str = "web") -> Caller:
        """Who sent this Authorization header; raises Unauthenticated."""
        try:
            return self._tokens.authenticate(authorization, address, door)
        except Unauthenticated as error:
            reason = "wrong credentials" if error.presented else "no credentials"
            self._audit.record(Event("authenticate", Outcome.DENIED, ANONYMOUS, address, door, reason=reason))
            raise


class AuditedRules:
    """`AERules` whose rejections are recorded, with the calling AE title as it was given."""

    def __init__(self, rules: AERules, audit: AuditLog) -> None:
        self._rules = rules
        self._audit = audit

    def admit(self, called: str, calling: str, address: str) -> Caller:
        """The caller at the other end; raises Rejected."""
        try:
            return self._rules.admit(called, calling, address)
        except Rejected as error:
            reason = f"rejected {error.result}/{error.source}/{error.reason}"
            self._audit.record(Event("associate", Outcome.DENIED, calling.strip(), address, "dimse", reason=reason))
            raise
