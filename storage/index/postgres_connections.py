"""Connections to a PostgreSQL server: how they are opened, bounded, replaced when they break, and lent to threads."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8BinaryDumper

from storage.errors import Unavailable
from storage.index.lending import Lending
from storage.index.postgres_errors import Lost, meaning
from storage.index.session import Cursor, Session, Statements

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 60  # of one statement, on the server
LOCK_SECONDS = 20  # that a statement waits for a lock
IDLE_SECONDS = 60  # inside a transaction: who stops there would hold its locks for ever
ANSWER_SECONDS = STATEMENT_SECONDS + 15  # then the server is taken for lost
READER_WAIT_SECONDS = 5
PREPARE_AFTER = 2  # uses of a statement on a connection, from which on the server keeps its plan
PREPARED_MAX = 400  # statements that a connection keeps so
OLDEST_SERVER = 140000
_DEFAULTS: dict[str, str | int | None] = {
    "application_name": "gateway",
    "connect_timeout": CONNECT_SECONDS,
    "target_session_attrs": "read-write",  # of several hosts, the one that can be written
    # A host that vanished says nothing: the kernel asks, and gives up.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_SETTINGS = f"""
SET statement_timeout = {STATEMENT_SECONDS * 1000};
SET lock_timeout = {LOCK_SECONDS * 1000};
SET idle_in_transaction_session_timeout = {IDLE_SECONDS * 1000};
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
"""
# To read a table whole, in a scan or as one side of a join, pays while an archive is small and is unbearable when it
# has grown: the planner is not to find out between the two.
_BY_INDEX = b"SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"


def unknown_parameters(url: str) -> list[str]:
    """The names in the query of a connection URL that libpq does not know."""
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} | {"ssl"}
    return sorted(set(parse_qs(urlsplit(url).query, keep_blank_values=True)) - known)


class Server:
    """Where the database is, as libpq understands its URL, and how to connect to it.

    Passwords come from `PGPASSWORD`, a password file or a service file, as for every client of PostgreSQL.
    Raises Unavailable for a URL that is none.
    """

    def __init__(self, url: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            raise Unavailable("the URL of the index is no connection URL of PostgreSQL") from None
        self._conninfo = make_conninfo("", **{**_DEFAULTS, **given, "client_encoding": "UTF8"})
        self.name = f"in database {given.get('dbname') or '(default)'} on {given.get('host') or '(default)'}"

    def connect_to_read(self) -> "Connection":
        """Likewise, for searches: answers are found in their order, by indexes, until a page is full."""
        connection = self.connect()
        with self.translated():
            connection.execute(_BY_INDEX)
        return connection

    def connect(self, answer_seconds: float = ANSWER_SECONDS) -> "Connection":
        """A new connection. Raises Exhausted when the server takes no more, Unavailable when it does not answer."""
        with self.translated():
            connection = Connection.connect(self._conninfo, autocommit=True)
            try:
                connection.answer_seconds = answer_seconds
                connection.prepare_threshold = PREPARE_AFTER
                connection.prepared_max = PREPARED_MAX
                # One type for all integers, whatever their size: else each size makes another prepared statement.
                connection.adapters.register_dumper(int, Int8BinaryDumper)
                connection.execute(_SETTINGS)
                self._refuse_unfit(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _refuse_unfit(self, connection: "Connection") -> None:
        if connection.info.server_version < OLDEST_SERVER:
            raise Unavailable(f"the index needs PostgreSQL {OLDEST_SERVER // 10_000} or newer at {self.name}")
        if connection.info.parameter_status("server_encoding") != "UTF8":
            raise Unavailable(f"the index needs a database whose encoding is UTF8; {self.name} has another")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise what PostgreSQL says in the words of storage; see `postgres_errors`."""
        try:
            yield
        except psycopg.Error as error:
            # Not as its cause: the server's own words may quote what was to be stored.
            raise meaning(error, self.name) from None


class Connection(psycopg.Connection[Any]):
    """A connection that waits for an answer only so long."""

    answer_seconds: float = ANSWER_SECONDS

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **named: Any) -> Any:
        """See `psycopg.Connection.wait`. Raises Lost, and closes, when the server is silent for too long."""
        return super().wait(self._bounded(gen), *arguments, **named)

    def _bounded(self, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """`generator`, which yields what it waits for and is sent what is ready: nothing, every tenth of a second."""
        deadline = time.monotonic() + self.answer_seconds
        try:
            wanted = next(generator)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise Lost("the server does not answer")
                wanted = generator.send(ready)
        except StopIteration as stop:
            return stop.value


class Lent:
    """A `DriverConnection` for sessions over a connection that may be replaced."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection | None = None) -> None:
        self._connection = connection

    @property
    def status(self) -> TransactionStatus:
        """Of the present connection; UNKNOWN when there is none or it is broken."""
        return TransactionStatus.UNKNOWN if self._connection is None else self._connection.info.transaction_status

    def execute(self, sql: str, values: tuple[object, ...] = (), /) -> Cursor:
        """Execute one statement; values travel both ways in binary form."""
        if self._connection is None:
            raise Lost("there is no connection")
        return self._connection.execute(sql.encode(), values, binary=True)

    def execute_all(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Execute one statement for each of `rows`, whose results are not wanted, in few round trips."""
        if self._connection is None:
            raise Lost("there is no connection")
        with self._connection.cursor() as cursor:
            cursor.executemany(sql.encode(), rows)

    def connect(self, server: Server) -> None:
        """Use a new connection from now on. Raises Exhausted, Unavailable."""
        self.drop()
        self._connection = server.connect()

    def cancel(self) -> None:
        """Ask the server to break off what it does for this connection; from any thread."""
        if (connection := self._connection) is not None:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CONNECT_SECONDS)

    def drop(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Readers:
    """Reading sessions, a bounded number, lent to whatever thread asks; a connection that broke is replaced."""

    def __init__(self, server: Server, statements: Statements, *, most: int) -> None:
        self._server = server
        self._statements = statements
        self._lending: Lending[Connection] = Lending(most=most, wait_seconds=READER_WAIT_SECONDS)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session to read with; all that is read inside sees the same state. Raises Exhausted, Unavailable."""
        with self._lending.place():
            connection = self._begun()
            try:
                with self._server.translated():
                    yield Session(Lent(connection), self._statements)
            finally:
                self._give_back(connection)

    def _begun(self) -> Connection:
        """A connection in a new transaction: an idle one that still works, or a new one."""
        begin = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        while (connection := self._lending.take()) is not None:
            try:
                connection.execute(begin)
                return connection
            except psycopg.Error:
                connection.close()
        connection = self._server.connect_to_read()
        with self._server.translated():
            connection.execute(begin)
        return connection

    def _give_back(self, connection: Connection) -> None:
        try:
            connection.rollback()
        except psycopg.Error:
            connection.close()
            return
        self._lending.give_back(connection)

    def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._lending.close()
