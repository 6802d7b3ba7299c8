"""Runs SQLAlchemy Core statements on a plain driver connection, at the driver's speed.

Building and compiling a statement costs more than running it, so each is compiled once for its dialect.
"""

from typing import Any, Protocol

from sqlalchemy import ClauseElement, ColumnElement, Dialect, literal_column


class Cursor(Protocol):
    """What is used of a DB-API cursor."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class DriverConnection(Protocol):
    """What is used of a driver's connection (sqlite3, psycopg)."""

    def execute(self, sql: str, values: Any = (), /) -> Any: ...


def constant(value: str | int) -> ColumnElement[Any]:
    """A value that is part of the statement's text; never one that came from outside."""
    return literal_column(str(value) if isinstance(value, int) else f"'{value}'")


class Rendered:
    """The text of module-level statements in one dialect; each statement is rendered at its first use."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._text: dict[ClauseElement, str] = {}

    def __call__(self, statement: ClauseElement) -> str:
        text = self._text.get(statement)
        if text is None:
            text = self._text[statement] = str(statement.compile(dialect=self.dialect))
        return text


class Session:
    """One driver connection; not to be used by two threads at a time."""

    __slots__ = ("connection", "rendered")

    def __init__(self, connection: DriverConnection, rendered: Rendered) -> None:
        self.connection = connection
        self.rendered = rendered

    def run(self, statement: ClauseElement, **values: object) -> Cursor:
        """Execute `statement` with its parameters by name."""
        cursor: Cursor = self.connection.execute(self.rendered(statement), values)
        return cursor

    def command(self, sql: str) -> None:
        """Execute what is no Core statement: BEGIN, COMMIT, ROLLBACK."""
        self.connection.execute(sql)
