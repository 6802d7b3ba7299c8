"""The interface that carries the product: what any archive offers, local, guarded or federated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.archive.incoming import Incoming
from gateway.security.caller import Caller
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import JsonDataset
from storage.dicom.query import Query
from storage.index import Outcome, Removed

# In `accept`, beside transfer syntax UIDs:
AS_STORED = "*"  # whatever it is stored in; but nothing goes out in implicit VR or big endian
BY_DEFAULT = "default"  # Explicit VR Little Endian; as stored what is lossy or cannot be decoded (PS3.18 8.7.3.4)
RATHER_THAN = ">"  # what stands before is preferred to what follows; others are liked equally


@dataclass(frozen=True, slots=True)
class Expected:
    """What a door was told about an instance before its bytes came; a difference is Invalid (MISMATCH)."""

    study_uid: str | None = None  # the study of the resource path (STOW-RS)
    sop_class: str | None = None  # Affected SOP Class and Instance UID of the command set (C-STORE)
    sop_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """An instance is durable and findable. `warnings` say what was odd about it, without patient data."""

    identity: Identity
    outcome: Outcome
    revision: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of a search (DICOM JSON, no RetrieveURL), how many more match, and who did not answer."""

    rows: list[JsonDataset]
    remaining: int
    remaining_is_exact: bool
    unanswered: tuple[str, ...] = ()


class Part(Protocol):
    """One instance, frame or bulk value on its way out. `chunks` may be called once; it closes the part at its end."""

    @property
    def identity(self) -> Identity: ...

    @property
    def transfer_syntax(self) -> str: ...

    @property
    def place(self) -> str:
        """Below the instance: "" for the instance itself, "frames/3", "bulkdata/00420011"."""

    @property
    def length(self) -> int:
        """Bytes in all; what `chunks` gives is exactly so long, or it raises."""

    def chunks(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class ArchiveReader(Protocol):
    """What every archive offers to readers.

    Each method looks up and raises first (NotFound, NotAcceptable, Forbidden, Unavailable), then returns an iterator;
    an error while iterating means that the answer is broken off. `accept` lists transfer syntax UIDs,
    `AS_STORED` or `BY_DEFAULT`; of those that are liked equally (see `RATHER_THAN`) it is the stored one that comes,
    else the first that is possible.
    """

    def search(self, query: Query, *, by: Caller) -> Found: ...

    def metadata(self, scope: Scope, *, by: Caller) -> Iterator[tuple[Identity, bytes]]:
        """Each instance's DICOM JSON, bulk values as `"BulkDataURI":"bulkdata/{path}"` relative to the instance."""

    def retrieve(self, scope: Scope, *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        """Each instance in scope as a Part 10 file (PS3.18 10.4.1.1.1)."""

    def frames(self, scope: Scope, numbers: Sequence[int], *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        """These frames of one instance, counted from 1, in the order asked (PS3.18 10.4.1.1.6)."""

    def bulk(self, scope: Scope, path: str, *, accept: Sequence[str] = (AS_STORED,), by: Caller) -> Iterator[Part]:
        """The value that the metadata names `bulkdata/{path}`: one part, one a frame when encapsulated.

        `accept` is for pixel data; other values have no transfer syntax of their own.
        """


class Archive(ArchiveReader, Protocol):
    """An archive that also takes instances in."""

    def incoming(self) -> Incoming:
        """An empty place to receive one instance into; close it when done, stored or not."""

    def store(self, incoming: Incoming, expected: Expected, *, by: Caller) -> Receipt:
        """Make the received instance durable and findable, or raise (Invalid, Exhausted, Unavailable, Forbidden)."""

    def delete(self, scope: Scope, *, by: Caller) -> Removed: ...

    def check(self) -> str:
        """Raise Unavailable or Exhausted, saying what to do, unless instances can be stored now and those read that
        came last. What is out of order all the same, "" when nothing is.
        """
