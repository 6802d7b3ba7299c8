"""The searchable catalogue of what is stored: the `MetadataIndex` Protocol and what its methods speak of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from storage.dicom.frames import FrameTable
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import BulkValue, Instance, JsonDataset
from storage.dicom.query import Query


class Outcome(StrEnum):
    """What adding an instance did."""

    NEW = "new"
    SAME = "same"  # this SOP Instance UID with this digest is there already: nothing was written
    VERSION = "version"  # the UID is there with other bytes: kept as a newer version, which is now served


@dataclass(frozen=True, slots=True)
class Location:
    """Where an instance's stored bytes lie: `length` bytes from `offset` of object `key` in the store so named."""

    store: str
    key: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance that is durable in an object store and is now to be made findable."""

    instance: Instance
    location: Location
    received_at: int  # microseconds since 1970-01-01 UTC
    source: str  # who sent it: "dimse:CT1", "stow:radiology"


@dataclass(frozen=True, slots=True)
class Added:
    """The result of adding one record. `revision` counts the versions of this instance from 1."""

    outcome: Outcome
    revision: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What reading an instance needs."""

    identity: Identity
    transfer_syntax: str
    location: Location
    header_length: int
    digest: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Contents:
    """Where the frames and bulk values of one stored instance lie."""

    frames: FrameTable
    bulk: dict[str, BulkValue]


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a search in the DICOM JSON Model, in a stable total order, and how many more match beyond them."""

    rows: list[JsonDataset]
    remaining: int
    remaining_is_exact: bool = True  # False: at least so many


class Act(StrEnum):
    """What happened to an instance, series or study."""

    STORED = "stored"
    VERSION = "version"
    SEALED = "sealed"
    DELETED = "deleted"
    CORRECTED = "corrected"


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the change feed; `seq` only ever grows, and rows become visible in its order."""

    seq: int
    at: int  # microseconds since 1970-01-01 UTC
    act: Act
    study_uid: str
    series_uid: str
    sop_uid: str
    revision: int


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal took out: how many instances, and the objects that nothing refers to any more."""

    instances: int
    locations: tuple[Location, ...]


class MetadataIndex(Protocol):
    """Each call is one transaction; what it returns is committed and durable. Raises Unavailable when it cannot."""

    def add(self, record: InstanceRecord) -> Added:
        """Make one instance findable. Calls from many threads share a transaction (group commit)."""

    def holds(self, identity: Identity, digest: bytes) -> bool:
        """Whether exactly these bytes are the served version of this instance."""

    def search(self, query: Query) -> Page:
        """The studies, series or instances that match (PS3.4 C.2.2.2, PS3.18 10.6)."""

    def locate(self, scope: Scope) -> Sequence[Stored]:
        """The served version of every instance in scope, by series, then instance number; NotFound when none."""

    def contents(self, scope: Scope) -> Contents:
        """Frame table and bulk values of one instance (a scope with a SOP Instance UID); NotFound."""

    def metadata(self, scope: Scope) -> Iterator[tuple[Identity, bytes]]:
        """The DICOM JSON of every instance in scope, in the order of `locate`, in bounded memory.

        NotFound is raised by the call itself, before the iterator is returned.
        """

    def remove(self, scope: Scope) -> Removed:
        """Forget everything in scope, all versions; NotFound when there is nothing."""

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """Up to `limit` changes with `seq` greater than `after`, in order."""

    def check(self) -> None:
        """Raise Unavailable (with what is wrong and what to do) unless the index can be read and written now."""

    def close(self) -> None:
        """Finish what was accepted and release everything."""
