"""The searchable catalogue of what is stored: the `MetadataIndex` Protocol and what its methods speak of."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from storage.dicom.frames import FrameTable
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import BulkValue, Instance, JsonDataset
from storage.dicom.query import Query
from storage.objects import Location as Location
from storage.packs import Blocks, Pack, PackedInstance

EVER = 1 << 62  # a time after all others


class Outcome(StrEnum):
    """What adding an instance did."""

    NEW = "new"
    SAME = "same"  # this SOP Instance UID with this digest is there already: nothing was written
    VERSION = "version"  # the UID is there with other bytes: kept as a newer version, which is now served
    OLDER = "older"  # came back from a store (`bring_back`) after what followed it: kept, and superseded


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
    header_digest: bytes | None = None  # of what lies before the data set of a loose object; None in a pack
    blocks: Blocks | None = None  # of the pack that it lies in; None for a loose object


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


@dataclass(frozen=True, slots=True)
class LooseInstance:
    """A version of an instance that lies loose, as the sealer takes it; `packed.offset` counts in its own object.

    `superseded` says that there is a higher revision, loose or in a pack.
    """

    packed: PackedInstance
    location: Location
    metadata: bytes
    header_digest: bytes  # as `Instance.header_digest`
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class LooseSeries:
    """A series that has loose instances: how many (all versions), their bytes, and when the last one came."""

    study_uid: str
    series_uid: str
    instances: int
    bytes: int
    touched_at: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What lies loose in all, and when the series that has waited longest was last touched (None: nothing waits)."""

    series: int
    instances: int
    bytes: int
    oldest_at: int | None


@dataclass(frozen=True, slots=True)
class Overdue:
    """Objects of one store that are doomed and still there: how many, and when the first of them was to go."""

    store: str
    objects: int
    oldest_at: int  # microseconds since 1970-01-01 UTC


class Documents(Protocol):
    """Gives the index the metadata that left it for the packs."""

    def documents(self, pack: Pack) -> Sequence[bytes]:
        """The DICOM JSON of each of `pack.instances`, in their order. Raises Unavailable."""


class MetadataIndex(Protocol):
    """Each call is one transaction; what it returns is committed and durable. Raises Unavailable when it cannot."""

    def add(self, record: InstanceRecord) -> Added:
        """Make one instance findable. Calls from many threads share a transaction (group commit).

        Raises Conflict when the object at its location is doomed (see `doom`).
        """

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
        """Forget everything in scope, all versions; NotFound when there is nothing.

        Loose objects, and packs of which nothing is left, are doomed in the same transaction; packs that keep other
        instances are `wasteful` from now on. `Removed.locations` names the doomed objects.
        """

    def doom(self, locations: Sequence[Location], due_at: int) -> None:
        """Announce that these objects are to be removed at `due_at`, unless they come to be named before.

        Said before a pack is put, so that one that is never sealed does not stay. `add` raises Conflict for a location
        that is doomed: its bytes may vanish any moment, put them elsewhere. Loose objects that are named are left out:
        a `doom` that follows an `add` without an answer waits for it to be committed, or keeps it from being.
        """

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """Up to `limit` changes with `seq` greater than `after`, in order."""

    def check(self) -> None:
        """Raise Unavailable (with what is wrong and what to do) unless the index can be read and written now."""

    def close(self) -> None:
        """Finish what was accepted and release everything."""


class KnownStores(Protocol):
    """What an index knows of the object stores that it names, by the identities that lie in them."""

    def known_store(self, name: str) -> str | None:
        """The identity of the store so named; None when none was met yet."""

    def meet_store(self, name: str, identity: str) -> str:
        """Remember the identity of a store, unless one is known already; the one that is known now."""

    def replace_store(self, name: str, identity: str) -> None:
        """Let the store so named be this one from now on. When it is another, copies in the one before do not count."""

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        """See `PackingIndex`."""

    def release(self, name: str, holder: str) -> None:
        """See `PackingIndex`."""


class PackingIndex(MetadataIndex, Protocol):
    """An index that also moves instances from loose objects to packs, and keeps count of what is to be done."""

    def backlog(self) -> Backlog:
        """What lies loose."""

    def unsealed(self, *, touched_before: int, bytes_from: int, limit: int) -> Sequence[LooseSeries]:
        """Series with loose instances that were last touched before then, or that have so many loose bytes; those
        that have waited longest first.
        """

    def loose(self, study_uid: str, series_uid: str) -> Iterator[LooseInstance]:
        """All versions that lie loose, in the order of `Pack.instances`, in bounded memory."""

    def seal(self, pack: Pack, sealed: Sequence[Location]) -> None:
        """Move instances from where they lay (`sealed[i]` for `pack.instances[i]`) into `pack`, all or none.

        Their loose objects are doomed; the removal that was announced for the pack's own object by `doom` is called
        off. Raises Conflict, and changes nothing, when one of them is not there any more or not as it was, or when
        the removal has come first (see `doom`): the pack object must not be used then.
        """

    def repack(self, old: Sequence[Pack], new: Pack | None) -> None:
        """Replace packs of a series by one with what is left of them; as `seal`, the old objects are doomed.

        Raises Conflict also when what is left is not what is in `new`; nothing (None) is never left of a pack that is
        here, because `remove` takes such packs out.
        """

    def adopt(self, pack: Pack, documents: Sequence[bytes], *, instead_of: Set[str] = frozenset()) -> None:
        """Make a pack that is in the object store findable (to rebuild an index); one that is here is left alone.

        Versions that packs under the keys `instead_of` (lost or damaged) have too are taken from this one, and out of
        those. The same versions that lie loose are doomed. Raises Conflict when the object may be removed any moment.
        """

    def bring_back(self, record: InstanceRecord, *, slack: int = 0, instead_of: Set[str] = frozenset()) -> Added:
        """As `add`, for a loose object that was found in its store; `received_at` is what the store says of it, and may
        be off by `slack` microseconds. One that is certainly older than the served version is kept as superseded. One
        that is the served version is taken when that lies under a key of `instead_of` (lost or damaged).
        """

    def packs(self, scope: Scope | None = None) -> Iterator[Pack]:
        """Every pack (of a study or series), by study, series and pack ID, in bounded memory. With instances that
        were removed but are still in the object left out.
        """

    def wasteful(self, limit: int, *, besides: Set[str] = frozenset()) -> Iterator[Pack]:
        """Packs whose objects still hold instances that were removed, but those with keys in `besides`. One at a time
        is in memory.
        """

    def crowded(self, limit: int) -> Sequence[Scope]:
        """Series with so many small packs of like size that some should become one (see `storage.packs.merging`)."""

    def uncopied(self, store: str, limit: int, *, besides: Set[str] = frozenset()) -> Iterator[Pack]:
        """Packs of which no copy in the store so named was confirmed, oldest first; otherwise as `wasteful`."""

    def copied(self, pack: Pack, store: str) -> None:
        """Confirm a copy, and call off the removal that was announced for it; nothing when the pack is gone."""

    def is_copied(self, pack: Pack, store: str) -> bool:
        """Whether a copy of this pack in the store so named was confirmed."""

    def names(self, key: str) -> bool:
        """Whether a pack that is here lies under that key: then its object, and a copy of it, is not to be touched."""

    def respite(self, location: Location, due_at: int) -> None:
        """Doom an object that is about to be put; if it is doomed already, put its removal off until then."""

    def doomed(self, due_before: int, limit: int, *, store: str | None = None) -> Sequence[Location]:
        """Objects (of one store, or of any) to be removed by now, without those that a pack names after all. Their
        lengths are not known: 0. A copy that was confirmed is doomed with its pack.
        """

    def doomed_of(self, scope: Scope, *, due_before: int = EVER) -> Iterator[Location]:
        """The same of a study or series, in all stores, by store and key, in bounded memory; unless told otherwise also
        those that are not due yet.
        """

    def overdue(self, due_before: int) -> Sequence[Overdue]:
        """How much was to be removed by then and is not, by store; of the 100,000 that have waited longest."""

    def forget(self, locations: Sequence[Location]) -> None:
        """These doomed objects are gone."""

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Whether `holder` has `name` for so long from now: it was free, had run out, or was its own already."""

    def renew(self, name: str, holder: str, seconds: float) -> bool:
        """Whether `holder` has `name` still, then for so long from now. One that has run out is his until another takes
        it; one that another had in between, or that is free, is not taken.
        """

    def release(self, name: str, holder: str) -> None:
        """Give a lease back; nothing when another has it."""
