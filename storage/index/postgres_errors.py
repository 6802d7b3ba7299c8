"""What the errors of PostgreSQL mean for who stores and searches, by their SQLSTATE (PostgreSQL manual, appendix A)."""

import re

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
_REMEDIES = {
    "3D000": "there is no such database: make it, with encoding UTF8 and owned by the gateway's user",
    "28P01": "the password is missing or wrong: it comes from PGPASSWORD or the file that ?passfile= names",
    "28000": "the server does not let this user in: see that the user is there, and the server's pg_hba.conf",
    "42501": "its user lacks a right: let the user own the database",
    "25006": "the database can only be read: name the server that takes writes",
}
_NO_MORE_CONNECTIONS = "53300"
# When a server refuses a connection, libpq gives its words and no SQLSTATE; of other languages we know nothing.
_SAID = (
    (re.compile(r"too many clients|too many connections|remaining connection slots"), _NO_MORE_CONNECTIONS),
    (re.compile(r'database ".*" does not exist'), "3D000"),
    (re.compile(r"password authentication failed|no password supplied"), "28P01"),
    (re.compile(r'role ".*" does not exist|no pg_hba\.conf entry|is not permitted to log in'), "28000"),
    (re.compile(r"permission denied for database"), "42501"),
    (re.compile(r"session is read-only"), "25006"),
)


class Lost(psycopg.OperationalError):
    """There is no connection, or it was given up."""


class Contended(Unavailable):
    """The server undid the transaction for the sake of another one: the same again will succeed."""


def meaning(error: psycopg.Error, name: str) -> StorageError:
    """The error in the words of storage. Its own text is left out: it may quote what was to be stored."""
    state = error.sqlstate or _said(error)
    if state in (_DEADLOCK, _NOT_SERIAL):
        return Contended(f"the index {name} undid a transaction that another one stood in the way of; try again")
    if state in _FULL:
        return Exhausted(f"the server of the index {name} cannot go on: {_FULL[state]}")
    if state.startswith(_TOO_LARGE):
        return Invalid(Fault.TOO_LARGE, "the attributes are larger than the index can hold")
    what = f"{type(error).__name__} {state}".strip()
    remedy = _REMEDIES.get(state, "see that its server runs and is reachable, and lets the gateway's user in")
    return Unavailable(f"the index {name} cannot be used now ({what}): {remedy}")


def _said(error: psycopg.Error) -> str:
    """The SQLSTATE of a connection that was refused, by what the server said; "" when that is not known."""
    said = str(error)
    return next((state for words, state in _SAID if words.search(said)), "")
