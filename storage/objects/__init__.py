"""Bytes under names, write-once: the `ObjectStore` Protocol and what its methods speak of."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

Buffer = bytes | bytearray | memoryview
# What is to be stored: buffers written one after another, or a finished local file, which a store on the same
# file system may link instead of copying. The file is not changed by `put` and still belongs to the caller.
Source = Sequence[Buffer] | Path


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """An object's key, its length in bytes, and when it was written (microseconds since 1970-01-01 UTC, 0: unknown).

    What `put` returns need not know the time; `head` and `scan` do.
    """

    key: str
    length: int
    modified_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Location:
    """Where bytes lie: `length` of them from `offset` of object `key` in the store so named."""

    store: str
    key: str
    offset: int
    length: int


class Body(Protocol):
    """An open object, or a span of one. Use as a context manager, or close it.

    Who inherits from it explicitly need not say what a context manager does.
    """

    @property
    @abstractmethod
    def length(self) -> int:
        """Bytes that `chunks` or `read` will give in all."""

    @abstractmethod
    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """The bytes in pieces of at most `size`; raises Unavailable rather than ending short. Closes at the end."""

    @abstractmethod
    def read(self) -> bytes:
        """All the bytes at once; raises Unavailable rather than returning fewer than `length`. Closes."""

    @abstractmethod
    def close(self) -> None:
        """Give up what is unread; may be called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ObjectStore(Protocol):
    """Named bytes that never change once written. Keys are relative, `/`-separated, ASCII (see `keys`)."""

    def put(self, key: str, source: Source, *, if_absent: bool = True) -> ObjectMeta:
        """Store the whole of `source` or nothing; on return it is on stable storage.

        Raises Conflict when `if_absent` and the key is there, Exhausted when there is no room, Unavailable when the
        store cannot be written now, Invalid for a key that is not safe.
        """

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        """The object, or `(offset, length)` of it. Raises NotFound now, not later; Invalid for a span outside it."""

    def head(self, key: str) -> ObjectMeta:
        """Raises NotFound."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove these objects durably; a key that is not there is fine."""

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectMeta]:
        """Every object whose key starts with `prefix` and sorts after `after`, in key order."""

    def check(self) -> None:
        """Raise Unavailable (with what is wrong and what to do) unless objects can be written and read now."""
