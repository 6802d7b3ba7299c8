"""Runs SQLAlchemy Core statements on a plain driver connection, at the driver's speed.

Building and compiling a statement costs more than running it, so each is compiled once for its dialect.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ClauseElement, ColumnElement, Dialect, literal_column
from sqlalchemy.sql.compiler import SQLCompiler


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


class Prepared(NamedTuple):
    """The text of a statement, and its parameters: given by name, passed by position, which drivers do faster."""

    sql: str
    names: tuple[str, ...]

    def bind(self, values: Mapping[str, object]) -> tuple[object, ...]:
        """The values in the order of the text."""
        return tuple([values[name] for name in self.names])


def prepared(statement: ClauseElement, dialect: Dialect) -> Prepared:
    """Compile for a dialect with positional parameters. Values of its own must be `constant`."""
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    return Prepared(str(compiled), tuple(compiled.positiontup or ()))


class Statements:
    """The module-level statements in one dialect, each compiled at its first use."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._prepared: dict[ClauseElement, Prepared] = {}

    def __getitem__(self, statement: ClauseElement) -> Prepared:
        found = self._prepared.get(statement)
        if found is None:
            found = self._prepared[statement] = prepared(statement, self.dialect)
        return found


class Session:
    """One driver connection; not to be used by two threads at a time.

    `changes` are rows of the change feed that wait for the end of the transaction (see `feed`).
    """

    __slots__ = ("_connection", "_statements", "changes")

    def __init__(self, connection: DriverConnection, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements
        self.changes: list[Mapping[str, object]] = []

    def run(self, statement: ClauseElement, **values: object) -> Cursor:
        """Execute a module-level `statement` with its parameters by name."""
        return self.execute(self._statements[statement], values)

    def run_all(self, statement: ClauseElement, rows: Iterable[Mapping[str, object]]) -> None:
        """Execute a module-level `statement` for each of `rows`; what it returns is not wanted."""
        compiled = self._statements[statement]
        for values in rows:
            self.execute(compiled, values)

    def execute(self, statement: Prepared, values: Mapping[str, object]) -> Cursor:
        """Execute what was compiled elsewhere; more values than it has parameters are fine."""
        cursor: Cursor = self._connection.execute(statement.sql, statement.bind(values))
        return cursor
