"""The index in a PostgreSQL database: many gateways write at once, each in groups, those of one study in turn."""

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    ClauseElement,
    ColumnElement,
    Integer,
    Select,
    Text,
    any_,
    create_engine,
    type_coerce,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from storage.index import Documents, feed
from storage.index.compile import Flavour
from storage.index.postgres_connections import Lent, Readers, Server
from storage.index.postgres_errors import Contended, meaning
from storage.index.session import Session, Statements, constant
from storage.index.sql import SqlIndex
from storage.index.upgrade import upgrade
from storage.index.writer import Writer

Result = TypeVar("Result")
MAX_ATTEMPTS = 6  # of work that the server undid for the sake of other work
FIRST_PAUSE_SECONDS = 0.01  # after the first attempt; then twice as long each time
MIGRATION_SECONDS = 600  # of the migrations; other gateways wait for as long
CLOSE_SECONDS = 3  # for what is being written when the index is closed
# The first halves of advisory locks of two numbers, and of those that are one of a kind.
_STUDY, _ONLY = 0x0D1C, 0x0D1D
_MIGRATION, _FEED = 1, 2


def like(pattern: str) -> str:
    """A wildcard pattern for LIKE."""
    for special in "\\%_":
        pattern = pattern.replace(special, "\\" + special)
    return pattern.replace("*", "%").replace("?", "_")


def plain(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column as it is: this planner knows how many rows it will meet."""
    return column


def among(column: ColumnElement[Any], values: BindParameter[Any]) -> ColumnElement[bool]:
    """Whether the column is one of `values`, an array."""
    return column == any_(type_coerce(values, ARRAY(BigInteger if isinstance(column.type, Integer) else Text)))


def apart(tested: "Select[Any]") -> "Select[Any]":
    """A subquery that the planner does not turn into a join: one with an offset is computed where it stands."""
    return tested.offset(constant(0))


class PostgresIndex(SqlIndex):
    """`PackingIndex` in the database at `url`, whose tables are made when they are not there.

    `group_max` instances at most share a transaction; `readers` searches at most run at once.
    Raises Unavailable when the server does not answer, or holds tables of a form that is not known.
    """

    def __init__(self, url: str, *, group_max: int = 256, readers: int = 8, documents: Documents | None = None) -> None:
        super().__init__(PostgresEngine(url, group_max=group_max, readers=readers), documents)


class PostgresEngine:
    """`Engine` over one writing connection and a pool of reading ones; see PostgresIndex."""

    def __init__(self, url: str, *, group_max: int, readers: int) -> None:
        self._server = Server(url)
        make_tables(self._server)
        dialect = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]
        statements = Statements(dialect)
        self.flavour = Flavour(dialect, "LIKE", like, plain, among, list, apart)
        self._lent = Lent()
        self._session = WritingSession(self._lent, statements)
        self._writer = Writer(WriteTransaction(self._server, self._lent, self._session), group_max=group_max)
        self._readers = Readers(self._server, statements, most=readers)

    def reading(self) -> AbstractContextManager[Session]:
        """See `Engine`."""
        return self._readers.session()

    def write(self, work: Callable[[Session], Result], *, studies: Sequence[str] = ()) -> Result:
        """See `Engine`. What the server undoes for the sake of another transaction is tried again."""

        def translated_work() -> Result:
            with self._server.translated():
                return work(self._session)

        pause = FIRST_PAUSE_SECONDS
        for _ in range(MAX_ATTEMPTS - 1):
            try:
                return self._writer.run(translated_work, studies)
            except Contended:
                time.sleep(pause * random.uniform(0.5, 1.5))
                pause *= 2
        return self._writer.run(translated_work, studies)

    def close(self) -> None:
        """See `Engine`."""
        if not self._writer.close(CLOSE_SECONDS):
            self._lent.cancel()
            self._writer.close(CLOSE_SECONDS)
        self._readers.close()
        self._lent.drop()


class WritingSession(Session):
    """A session that sends the rows of a list one after another, without waiting for each."""

    def __init__(self, lent: Lent, statements: Statements) -> None:
        super().__init__(lent, statements)
        self._lent = lent
        self._texts = statements

    def run_all(self, statement: ClauseElement, rows: Iterable[Mapping[str, object]]) -> None:
        """See `Session.run_all`."""
        compiled = self._texts[statement]
        self._lent.execute_all(compiled.sql, [compiled.bind(values) for values in rows])


class WriteTransaction:
    """The writer's transactions: each holds locks on its studies, so that what it reads of them stays true."""

    def __init__(self, server: Server, lent: Lent, session: Session) -> None:
        self._server = server
        self._lent = lent
        self._session = session

    def begin(self, keys: Sequence[str]) -> None:
        """Wait for all who write to the same studies. Raises Exhausted, Unavailable."""
        self._session.changes.clear()
        with self._server.translated():
            if not self._begun():
                self._lent.connect(self._server)
                self._lent.execute("BEGIN")
            if keys:
                self._lent.execute(_LOCK_STUDIES, (lock_numbers(keys),))

    def _begun(self) -> bool:
        """Whether a transaction could be begun on the connection that is there: the server may have closed it."""
        if self._lent.status is not TransactionStatus.IDLE:  # lost, or a rollback failed
            return False
        with suppress(psycopg.OperationalError):
            self._lent.execute("BEGIN")
            return True
        return False

    def commit(self) -> None:
        """On return it is durable; when this raises, it may be or not.

        Numbers of the feed are given out and become visible one transaction after another: a reader that has seen one
        has seen all before it.
        """
        with self._server.translated():
            if self._session.changes:
                self._lent.execute(_LOCK_FEED)
                feed.append(self._session)
            self._lent.execute("COMMIT")

    def rollback(self) -> None:
        """Undo; a connection that cannot is given up, by which the server undoes it."""
        try:
            self._lent.execute("ROLLBACK")
        except psycopg.Error:
            self._lent.drop()


_LOCK_STUDIES = f"SELECT pg_advisory_xact_lock({_STUDY}, key) FROM unnest(%s::integer[]) AS key"
_LOCK_FEED = f"SELECT pg_advisory_xact_lock({_ONLY}, {_FEED})"
_LOCK_MIGRATION = f"SELECT pg_advisory_xact_lock({_ONLY}, {_MIGRATION})"


def lock_numbers(keys: Sequence[str]) -> list[int]:
    """The numbers by which studies are locked, ascending, so that no two transactions wait for each other."""
    digests = (hashlib.blake2b(key.encode(), digest_size=4).digest() for key in keys)
    return sorted({int.from_bytes(digest, "big", signed=True) for digest in digests})


def make_tables(server: Server) -> None:
    """Make or migrate the tables; of several gateways that start at once one does it, and the others wait."""
    connection = server.connect(answer_seconds=2 * MIGRATION_SECONDS)
    try:
        connection.execute(f"SET statement_timeout = {MIGRATION_SECONDS * 1000}".encode())
        connection.execute(f"SET lock_timeout = {MIGRATION_SECONDS * 1000}".encode())
        connection.autocommit = False
        engine = create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=NullPool)
        with server.translated(), engine.begin() as shared:
            shared.exec_driver_sql(_LOCK_MIGRATION)
            upgrade(shared)
    except DBAPIError as error:
        assert isinstance(error.orig, psycopg.Error)
        raise meaning(error.orig, server.name) from None
    finally:
        connection.close()
