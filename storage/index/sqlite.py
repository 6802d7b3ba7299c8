"""The index in one SQLite file: a writer with group commit and readers beside it, in any number of processes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import BindParameter, ColumnElement, UnaryExpression, bindparam, func, select
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.sql.operators import custom_op

from storage.dicom.identity import Identity, Scope
from storage.dicom.query import Query
from storage.errors import Unavailable
from storage.index import (
    Added,
    Change,
    Contents,
    InstanceRecord,
    Page,
    Removed,
    Stored,
    compile,
    ingest,
    removal,
    results,
    scopes,
)
from storage.index.connections import (
    WRITER_CACHE_KIB,
    Readers,
    WriteTransaction,
    open_connection,
    prepare_file,
    translated,
)
from storage.index.schema import probes
from storage.index.session import Session, Statements
from storage.index.writer import Writer

Result = TypeVar("Result")
MAX_ROWS = 10_000  # that one search returns, whatever its limit
MAX_COUNTED = 10_000  # further matches that are counted exactly
MAX_OFFSET = 1 << 40
CLOSE_SECONDS = 3  # for what is being written when the index is closed

_PROBE = insert(probes).values(id=bindparam("id"), at=bindparam("at"))
_PROBE = _PROBE.on_conflict_do_update(index_elements=["id"], set_={"at": _PROBE.excluded.at})


def glob(pattern: str) -> str:
    """A wildcard pattern for GLOB, which knows `[...]` as well."""
    return pattern.replace("[", "[[]")


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column with a unary plus, by which SQLite's planner lets itself be told (sqlite.org/queryplanner.html)."""
    return UnaryExpression(column, operator=custom_op("+"))


def among(column: ColumnElement[Any], values: BindParameter[Any]) -> ColumnElement[bool]:
    """Whether the column is one of `values`, a JSON array."""
    return column.in_(select(func.json_each(values).table_valued("value").c.value))


def listed(values: tuple[str, ...]) -> str:
    """The array for `among`."""
    return orjson.dumps(values).decode()


class SqliteIndex:
    """`MetadataIndex` in the file `path`, which is made when it is not there, its folder too.

    `group_max` instances at most share a transaction; `readers` searches at most run at once.
    Raises Unavailable when the file cannot be opened or was made by a newer version.
    """

    def __init__(self, path: Path, *, group_max: int = 256, readers: int = 8) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot make the folder of the index {path}: {error.strerror}") from error
        prepare_file(path)
        dialect = sqlite_dialect(paramstyle="qmark")
        shared = Statements(dialect)
        self._flavour = compile.Flavour(dialect, "GLOB", glob, unindexed, among, listed)
        with translated():
            self._connection = open_connection(path, cache_kib=WRITER_CACHE_KIB, read_only=False)
        self._session = Session(self._connection, shared)
        self._writer = Writer(WriteTransaction(self._connection, path), group_max=group_max)
        self._readers = Readers(path, shared, most=readers)

    def _write(self, work: Callable[[Session], Result]) -> Result:
        def translated_work() -> Result:
            with translated():
                return work(self._session)

        return self._writer.run(translated_work)

    def add(self, record: InstanceRecord) -> Added:
        """See `MetadataIndex`. Raises Exhausted when the disk is full or too much waits, otherwise Unavailable."""
        prepared = ingest.prepare(record)
        return self._write(lambda session: ingest.add(session, prepared))

    def remove(self, scope: Scope) -> Removed:
        """See `MetadataIndex`."""
        return self._write(lambda session: removal.remove(session, scope))

    def holds(self, identity: Identity, digest: bytes) -> bool:
        """See `MetadataIndex`."""
        with self._readers.session() as session:
            return scopes.digest_of(session, identity) == digest

    def search(self, query: Query) -> Page:
        """See `MetadataIndex`. Raises Invalid (QUERY) for keys that cannot be matched at the query's level."""
        wanted = results.selection(query)
        statements = compile.search(query, self._flavour, with_metadata=wanted.needs_metadata)
        offset, limit = min(query.offset, MAX_OFFSET), min(query.limit, MAX_ROWS)
        found = []
        remaining = 0
        with self._readers.session() as session:
            if limit:
                values = statements.values | {"limit": limit + 1, "offset": offset}
                found = session.execute(statements.rows, values).fetchall()
            if len(found) > limit or not limit:
                seen = offset + limit
                values = statements.values | {"bound": seen + MAX_COUNTED + 1}
                remaining = max(0, session.execute(statements.counting, values).fetchone()[0] - seen)
        rows = results.results(found[:limit], query.level, wanted)
        return Page(rows, min(remaining, MAX_COUNTED), remaining_is_exact=remaining <= MAX_COUNTED)

    def locate(self, scope: Scope) -> Sequence[Stored]:
        """See `MetadataIndex`."""
        with self._readers.session() as session:
            return scopes.locate(session, scope)

    def contents(self, scope: Scope) -> Contents:
        """See `MetadataIndex`."""
        with self._readers.session() as session:
            return scopes.contents_of(session, scope)

    def metadata(self, scope: Scope) -> Iterator[tuple[Identity, bytes]]:
        """See `MetadataIndex`. An instance that is removed meanwhile is left out."""
        with self._readers.session() as session:
            instances = scopes.ids(session, scope)
        return self._metadata_of(instances)

    def _metadata_of(self, instances: list[int]) -> Iterator[tuple[Identity, bytes]]:
        waiting = deque(instances)
        while waiting:
            with self._readers.session() as session:
                batch = scopes.next_metadata(session, waiting)
            yield from batch

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """See `MetadataIndex`."""
        with self._readers.session() as session:
            return scopes.changes_after(session, after, limit)

    def check(self) -> None:
        """See `MetadataIndex`. Commits a row, so that a full or read-only disk is noticed."""
        self._write(lambda session: session.run(_PROBE, id=1, at=ingest.now()))
        with self._readers.session() as session:
            scopes.changes_after(session, 0, 1)

    def close(self) -> None:
        """See `MetadataIndex`."""
        if not self._writer.close(CLOSE_SECONDS):
            self._connection.interrupt()
            self._writer.close(CLOSE_SECONDS)
        self._readers.close()
        self._connection.close()
