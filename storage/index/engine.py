"""What one database must offer for `SqlIndex` to be an index in it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from storage.index.compile import Flavour
from storage.index.session import Session

Result = TypeVar("Result")


class Engine(Protocol):
    """A database with the tables of `schema`. What its driver raises leaves it as a StorageError."""

    @property
    def flavour(self) -> Flavour: ...

    def reading(self) -> AbstractContextManager[Session]:
        """A session to read with; all that is read inside sees one state. Raises Exhausted, Unavailable."""

    def write(self, work: Callable[[Session], Result], *, studies: Sequence[str]) -> Result:
        """What `work` returns, once all that it wrote is committed, durable and visible, its changes last.

        Calls from many threads share a transaction. `work` may run more than once, must not call the index, and what
        it raises is raised here after what it did was undone. `studies` are the Study Instance UIDs (or other names)
        of all rows that it reads to decide by, or writes: nobody else who names one of them writes meanwhile.
        """

    def close(self) -> None:
        """Finish what was accepted and release everything; closing again is fine."""
