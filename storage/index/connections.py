"""Connections to an SQLite file: how they are opened, shared among threads, and what their errors mean."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from storage.errors import Exhausted, Fault, Invalid, Unavailable
from storage.index import feed
from storage.index.lending import Lending
from storage.index.session import Session, Statements
from storage.index.upgrade import upgrade

# How long to wait for another process that writes. A group takes milliseconds; whoever holds the lock for longer than
# this has stopped, and a gateway that has been told to stop itself must not wait for it.
BUSY_SECONDS = 5
UPGRADE_SECONDS = 120  # how long to wait for another process that makes or migrates the file
WAL_PAGES = 4000  # of 4 KiB, before they are moved to the main file
WAL_BYTES_KEPT = 64 << 20
READER_CACHE_KIB = 2048
WRITER_CACHE_KIB = 16384


@contextmanager
def translated() -> Iterator[None]:
    """Raise what SQLite says as Exhausted (no space), Invalid (TOO_LARGE: more than a row can hold) or Unavailable."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if code == sqlite3.SQLITE_FULL:
            raise Exhausted("the index cannot grow: the disk is full; make space on it") from error
        if code == sqlite3.SQLITE_TOOBIG:
            raise Invalid(Fault.TOO_LARGE, "the attributes are larger than the index can hold") from error
        raise Unavailable(f"the index cannot be used now ({name}); see that its file and folder are sound") from error


def open_connection(
    path: Path, *, cache_kib: int, read_only: bool, busy_seconds: float = BUSY_SECONDS
) -> sqlite3.Connection:
    """A connection that commits durably, waits for other writers, and begins transactions only when told to."""
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    # What is deleted is overwritten with zeros, also in pages that become free: it was about a patient.
    connection.execute("PRAGMA secure_delete = ON")
    # An index made for one query would cost a pass over the whole table; ours serve all that is asked.
    connection.execute("PRAGMA automatic_index = OFF")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def prepare_file(path: Path) -> None:
    """Make the file, set its journal, and run the migrations; one process does it while others wait."""
    with translated():
        connection = open_connection(path, cache_kib=READER_CACHE_KIB, read_only=False, busy_seconds=UPGRADE_SECONDS)
        try:
            _set_journal(connection)
            engine = create_engine("sqlite://", creator=lambda: connection, poolclass=NullPool)
            with engine.connect() as shared:
                connection.execute("BEGIN IMMEDIATE")
                upgrade(shared)
                connection.execute("COMMIT")
        finally:
            connection.close()


def empty_journal(path: Path) -> bool:
    """Move all that is in the write-ahead log to the file, and cut the log to nothing; False when somebody reads or
    writes just now. Raises Exhausted, Unavailable.
    """
    with translated():
        connection = open_connection(path, cache_kib=READER_CACHE_KIB, read_only=False, busy_seconds=0)
        try:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy
        finally:
            connection.close()


def _set_journal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging. Another process that sets it makes SQLite say busy at once instead of waiting."""
    deadline = time.monotonic() + UPGRADE_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Readers:
    """Reading sessions, a bounded number, lent to whatever thread asks."""

    def __init__(self, path: Path, statements: Statements, *, most: int, wait_seconds: float = BUSY_SECONDS) -> None:
        self._path = path
        self._statements = statements
        self._lending: Lending[sqlite3.Connection] = Lending(most=most, wait_seconds=wait_seconds)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session to read with; all that is read inside sees the same state. Raises Exhausted, Unavailable."""
        with self._lending.place(), translated():
            connection = self._lending.take() or self._opened()
            try:
                connection.execute("BEGIN")
                yield Session(connection, self._statements)
            except sqlite3.Error:
                connection.close()
                raise
            except BaseException:
                self._give_back(connection)
                raise
            self._give_back(connection)

    def _opened(self) -> sqlite3.Connection:
        return open_connection(self._path, cache_kib=READER_CACHE_KIB, read_only=True)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        connection.rollback()
        self._lending.give_back(connection)

    def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._lending.close()


def _file_at(path: Path) -> tuple[int, int] | None:
    """Which file lies at `path`; SQLite itself goes on writing to one that was unlinked."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class WriteTransaction:
    """The writer's transactions: they take the write lock at once, so that what they read stays true."""

    def __init__(self, connection: sqlite3.Connection, session: Session, path: Path) -> None:
        self._connection = connection
        self._session = session
        self._path = path
        self._file = _file_at(path)

    def begin(self, keys: Sequence[str]) -> None:
        """There is one lock, for the whole file.

        Raises Unavailable when another process writes for too long, or the file is not the one that was opened.
        """
        if _file_at(self._path) != self._file:
            raise Unavailable(
                f"the index {self._path} was removed or replaced while it was in use, nothing written to it would be "
                "found again: stop the gateway, put the file back, and start it"
            )
        self._session.changes.clear()
        with translated():
            if self._connection.in_transaction:  # a rollback failed
                self._connection.rollback()
            self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """On return it is durable. Raises Exhausted, Unavailable."""
        with translated():
            feed.append(self._session)
            self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo; when SQLite has done so by itself, nothing. Raises Unavailable."""
        with translated():
            self._connection.rollback()
