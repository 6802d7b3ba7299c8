"""The index in one SQLite file: a writer with group commit and readers beside it, in any number of processes."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import BindParameter, ColumnElement, UnaryExpression, func, select
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.sql.operators import custom_op

from storage.errors import Unavailable
from storage.index import Documents
from storage.index.compile import Flavour
from storage.index.connections import (
    WRITER_CACHE_KIB,
    Readers,
    WriteTransaction,
    empty_journal,
    open_connection,
    prepare_file,
    translated,
)
from storage.index.session import Session, Statements
from storage.index.sql import SqlIndex
from storage.index.writer import Writer

Result = TypeVar("Result")
CLOSE_SECONDS = 3  # for what is being written when the index is closed


def glob(pattern: str) -> str:
    """A wildcard pattern for GLOB, which knows `[...]` as well."""
    return pattern.replace("[", "[[]")


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column with a unary plus, by which SQLite's planner lets itself be told (sqlite.org/queryplanner.html)."""
    return UnaryExpression(column, operator=custom_op("+"))


def among(column: ColumnElement[Any], values: BindParameter[Any]) -> ColumnElement[bool]:
    """Whether the column is one of `values`, a JSON array."""
    return column.in_(select(func.json_each(values).table_valued("value").c.value))


def listed(values: tuple[str, ...] | tuple[int, ...]) -> str:
    """The array for `among`."""
    return orjson.dumps(values).decode()


class SqliteIndex(SqlIndex):
    """`PackingIndex` in the file `path`, which is made when it is not there, its folder too.

    `group_max` instances at most share a transaction; `readers` searches at most run at once. `documents` gives the
    metadata that is in packs. Raises Unavailable when the file cannot be opened or has a form that is not known.
    """

    def __init__(
        self, path: Path, *, group_max: int = 256, readers: int = 8, documents: Documents | None = None
    ) -> None:
        super().__init__(SqliteEngine(path, group_max=group_max, readers=readers), documents)
        self._path = path

    def empty_journal(self) -> bool:
        """Empty the write-ahead log, which holds what was deleted until then; False when others were in the way.

        Waits for nobody. Raises Exhausted, Unavailable.
        """
        return empty_journal(self._path)


class SqliteEngine:
    """`Engine` in the file `path`; see `SqliteIndex`."""

    def __init__(self, path: Path, *, group_max: int, readers: int) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot make the folder of the index {path}: {error.strerror}") from error
        prepare_file(path)
        dialect = sqlite_dialect(paramstyle="qmark")
        shared = Statements(dialect)
        self.flavour = Flavour(dialect, "GLOB", glob, unindexed, among, listed, lambda tested: tested)
        with translated():
            self.connection = open_connection(path, cache_kib=WRITER_CACHE_KIB, read_only=False)
        self._session = Session(self.connection, shared)
        self._writer = Writer(WriteTransaction(self.connection, self._session, path), group_max=group_max)
        self.readers = Readers(path, shared, most=readers)

    def reading(self) -> AbstractContextManager[Session]:
        """See `Engine`."""
        return self.readers.session()

    def write(self, work: Callable[[Session], Result], *, studies: Sequence[str]) -> Result:
        """See `Engine`. There is one lock, whatever the studies."""

        def translated_work() -> Result:
            with translated():
                return work(self._session)

        return self._writer.run(translated_work)

    def close(self) -> None:
        """See `Engine`."""
        if not self._writer.close(CLOSE_SECONDS):
            self.connection.interrupt()
            self._writer.close(CLOSE_SECONDS)
        self.readers.close()
        self.connection.close()
