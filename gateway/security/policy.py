"""What a caller may do: the rights that the configuration gives, checked for every act, and the two refusals."""

from enum import StrEnum
from typing import Protocol

from gateway.security.caller import Caller, Right
from storage.dicom.identity import Scope
from storage.dicom.query import Query


class Unauthenticated(Exception):
    """Nobody we know: no credentials, or wrong ones. `str(error)` is safe to show; HTTP answers it with 401."""

    def __init__(self, message: str, *, presented: bool) -> None:
        super().__init__(message)
        self.presented = presented

    @property
    def challenge(self) -> str:
        """The value of WWW-Authenticate; names the error only when credentials were presented (RFC 6750 3)."""
        return 'Bearer realm="gateway"' + (', error="invalid_token"' if self.presented else "")


class Forbidden(Exception):
    """We know who asks, and they may not. `str(error)` is safe to show; HTTP answers it with 403, DIMSE with 0124."""


class Verb(StrEnum):
    """What can be done with an archive: the same words in methods, routes, audit, metrics and commands."""

    STORE = "store"
    SEARCH = "search"
    METADATA = "metadata"
    RETRIEVE = "retrieve"
    FRAMES = "frames"
    BULK = "bulk"
    DELETE = "delete"


class Policy(Protocol):
    """Decides; knows nothing of how the act is done."""

    def check(self, by: Caller, verb: Verb, scope: Scope | None) -> None:
        """Return when `by` may; else raise Forbidden. `scope` is None for a search and for a store."""

    def narrow(self, by: Caller, query: Query) -> Query:
        """`query` with what `by` may not see filtered out by further keys, so that paging and counts stay true."""


_NEEDED = {Verb.STORE: Right.STORE, Verb.DELETE: Right.DELETE}


class RightsPolicy:
    """A Policy by the rights of the caller alone: whoever may read may read everything."""

    def check(self, by: Caller, verb: Verb, scope: Scope | None) -> None:
        """Raise Forbidden unless `by` has the right that `verb` needs."""
        needed = _NEEDED.get(verb, Right.READ)
        if needed not in by.rights:
            raise Forbidden(f"{by.identity} may not {verb}: the right `{needed}` is needed")

    def narrow(self, by: Caller, query: Query) -> Query:
        """`query` as it is: these rights do not depend on what is found."""
        return query
