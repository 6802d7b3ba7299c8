"""What the errors of PostgreSQL mean for who stores and searches, by their SQLSTATE (PostgreSQL manual, appendix A)."""

import psycopg

from storage.errors import Exhausted, Fault, Invalid, StorageError, Unavailable

_DEADLOCK, _NOT_SERIAL = "40P01", "40001"
_TOO_LARGE = ("54", "22001")
_FULL = {
    "53100": "its disk is full; make space on it",
    "53200": "it is out of memory or lock space; see max_locks_per_transaction",
    "53300": "it takes no more connections; see max_connections",
    "53400": "a limit of its configuration is reached",
}
_NO_MORE_CONNECTIONS = ("too many clients", "too many connections", "remaining connection slots")


class Lost(psycopg.OperationalError):
    """There is no connection, or it was given up."""


class Contended(Unavailable):
    """The server undid the transaction for the sake of another one: the same again will succeed."""


def meaning(error: psycopg.Error, name: str) -> StorageError:
    """The error in the words of storage. Its own text is left out: it may quote what was to be stored."""
    state = error.sqlstate or ""
    if state in (_DEADLOCK, _NOT_SERIAL):
        return Contended(f"the index {name} undid a transaction that another one stood in the way of; try again")
    if state in _FULL:
        return Exhausted(f"the server of the index {name} cannot go on: {_FULL[state]}")
    if state.startswith(_TOO_LARGE):
        return Invalid(Fault.TOO_LARGE, "the attributes are larger than the index can hold")
    if not state and any(words in str(error) for words in _NO_MORE_CONNECTIONS):
        return Exhausted(f"the server of the index {name} takes no more connections; see max_connections")
    what = f"{type(error).__name__} {state}".strip()
    return Unavailable(f"the index {name} cannot be used now ({what}); see that its server runs and is reachable")
