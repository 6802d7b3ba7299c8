"""The index in any SQL database: each method of the Protocol is one session of an `Engine`."""

from collections.abc import Iterator, Sequence, Set

from sqlalchemy import bindparam, update

from storage.dicom.identity import Identity, Scope
from storage.dicom.query import Query
from storage.errors import Unavailable
from storage.index import (
    EVER,
    Added,
    Backlog,
    Change,
    Contents,
    Documents,
    InstanceRecord,
    Location,
    LooseInstance,
    LooseSeries,
    Overdue,
    Page,
    Removed,
    Stored,
    adoption,
    doomed,
    feed,
    ingest,
    leases,
    loose,
    packed,
    removal,
    restoring,
    scopes,
    sealing,
    search,
    shelf,
    stores,
)
from storage.index.engine import Engine
from storage.index.metadata import Reading, pack_documents
from storage.index.packed import Listings
from storage.index.schema import probes
from storage.index.session import Session, constant
from storage.index.speakers import Speeches, Wanted
from storage.packs import Pack

MAX_SPEECHES = 16  # instances whose metadata one removal may need from packs, one after another

_PROBE = update(probes).values(at=bindparam("moment")).where(probes.c.id == constant(1))


class SqlIndex:
    """`PackingIndex` in the database of `engine`. `documents` gives the metadata that is in packs."""

    def __init__(self, engine: Engine, documents: Documents | None = None) -> None:
        self._engine = engine
        self._documents = documents
        self._listings = Listings()

    def add(self, record: InstanceRecord) -> Added:
        """See `MetadataIndex`. Raises Exhausted when there is no room or too much waits, otherwise Unavailable."""
        prepared = ingest.prepare(record)
        return self._engine.write(
            lambda session: ingest.add(session, self._listings, prepared), studies=_names_of(record)
        )

    def remove(self, scope: Scope) -> Removed:
        """See `MetadataIndex`. Raises Unavailable also when metadata that is needed cannot be read from its pack."""
        speeches: Speeches = {}
        for _ in range(MAX_SPEECHES):
            try:
                return self._engine.write(
                    lambda session: removal.remove(session, self._listings, scope, speeches),
                    studies=[scope.study_uid],
                )
            except Wanted as wanted:
                pack, row = wanted.instance
                speeches[wanted.version] = pack_documents(self._documents, wanted.series, pack)[row]
        raise Unavailable("what is to be removed changes all the time; try again")

    def holds(self, identity: Identity, digest: bytes) -> bool:
        """See `MetadataIndex`."""
        with self._engine.reading() as session:
            return scopes.digest_of(session, self._listings, identity) == digest

    def search(self, query: Query) -> Page:
        """See `MetadataIndex`. Raises Invalid (QUERY) for keys that cannot be matched at the query's level."""
        return search.search(self._engine, self._listings, self._documents, query)

    def locate(self, scope: Scope) -> Sequence[Stored]:
        """See `MetadataIndex`."""
        with self._engine.reading() as session:
            return scopes.locate(session, self._listings, scope)

    def contents(self, scope: Scope) -> Contents:
        """See `MetadataIndex`."""
        with self._engine.reading() as session:
            return scopes.contents_of(session, self._listings, scope)

    def metadata(self, scope: Scope) -> Iterator[tuple[Identity, bytes]]:
        """See `MetadataIndex`. An instance that is removed meanwhile is left out."""
        return iter(Reading(self._engine, self._listings, self._documents, scope))

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """See `MetadataIndex`."""
        with self._engine.reading() as session:
            return feed.after(session, after, limit)

    def check(self) -> None:
        """See `MetadataIndex`. Commits a row, so that a full or read-only disk is noticed."""
        self._engine.write(_probe, studies=[])
        with self._engine.reading() as session:
            feed.after(session, 0, 1)

    def backlog(self) -> Backlog:
        """See `PackingIndex`."""
        with self._engine.reading() as session:
            return loose.backlog(session)

    def unsealed(self, *, touched_before: int, bytes_from: int, limit: int) -> Sequence[LooseSeries]:
        """See `PackingIndex`."""
        with self._engine.reading() as session:
            return loose.unsealed(session, touched_before, bytes_from, limit)

    def loose(self, study_uid: str, series_uid: str) -> Iterator[LooseInstance]:
        """See `PackingIndex`. What is removed or sealed while it is read is left out."""
        return loose.read(self._engine, study_uid, series_uid)

    def seal(self, pack: Pack, sealed: Sequence[Location]) -> None:
        """See `PackingIndex`."""
        columns = packed.columns(pack)
        self._engine.write(
            lambda session: sealing.seal(session, self._listings, pack, columns, sealed), studies=[pack.study_uid]
        )

    def repack(self, old: Sequence[Pack], new: Pack | None) -> None:
        """See `PackingIndex`. A pack of which nothing is left has no row any more, and that is a Conflict."""
        columns = None if new is None else packed.columns(new)
        self._engine.write(
            lambda session: sealing.repack(session, self._listings, old, new, columns), studies=[old[0].study_uid]
        )

    def adopt(self, pack: Pack, documents: Sequence[bytes], *, instead_of: Set[str] = frozenset()) -> None:
        """See `PackingIndex`."""
        adopted = adoption.Adopted(pack, documents, instead_of)
        self._engine.write(lambda session: adoption.adopt(session, self._listings, adopted), studies=[pack.study_uid])

    def bring_back(self, record: InstanceRecord, *, slack: int = 0, instead_of: Set[str] = frozenset()) -> Added:
        """See `PackingIndex`."""
        prepared = ingest.prepare(record)
        return self._engine.write(
            lambda session: restoring.bring_back(session, self._listings, prepared, slack, instead_of),
            studies=_names_of(record),
        )

    def packs(self, scope: Scope | None = None) -> Iterator[Pack]:
        """See `PackingIndex`."""
        return shelf.every(self._engine, scope)

    def wasteful(self, limit: int, *, besides: Set[str] = frozenset()) -> Iterator[Pack]:
        """See `PackingIndex`."""
        return shelf.wasteful(self._engine, limit, besides)

    def crowded(self, limit: int) -> Sequence[Scope]:
        """See `PackingIndex`."""
        with self._engine.reading() as session:
            return shelf.crowded(session, limit)

    def uncopied(self, store: str, limit: int, *, besides: Set[str] = frozenset()) -> Iterator[Pack]:
        """See `PackingIndex`. One store is remembered for each pack: the last in which a copy was confirmed."""
        return shelf.uncopied(self._engine, store, limit, besides)

    def copied(self, pack: Pack, store: str) -> None:
        """See `PackingIndex`."""
        self._engine.write(lambda session: shelf.copied(session, pack, store), studies=[pack.study_uid])

    def is_copied(self, pack: Pack, store: str) -> bool:
        """See `PackingIndex`."""
        with self._engine.reading() as session:
            return shelf.is_copied(session, pack, store)

    def names(self, key: str) -> bool:
        """See `PackingIndex`."""
        with self._engine.reading() as session:
            return shelf.names(session, key)

    def respite(self, location: Location, due_at: int) -> None:
        """See `PackingIndex`."""
        self._engine.write(lambda session: doomed.respite(session, location, due_at), studies=[location.key])

    def doom(self, locations: Sequence[Location], due_at: int) -> None:
        """See `PackingIndex`. One that is doomed already goes when it was to go, if that is earlier."""
        keys = [each.key for each in locations]

        def doom(session: Session) -> None:
            doomed.doom(session, doomed.unnamed(session, locations), due_at)

        self._engine.write(doom, studies=keys)

    def doomed(self, due_before: int, limit: int, *, store: str | None = None) -> Sequence[Location]:
        """See `PackingIndex`. The length of a location is not known: 0."""
        with self._engine.reading() as session:
            return doomed.due(session, due_before, limit, store)

    def doomed_of(self, scope: Scope, *, due_before: int = EVER) -> Iterator[Location]:
        """See `PackingIndex`."""
        return doomed.of_scope(self._engine, scope, due_before)

    def overdue(self, due_before: int) -> Sequence[Overdue]:
        """See `PackingIndex`."""
        with self._engine.reading() as session:
            return doomed.overdue(session, due_before)

    def forget(self, locations: Sequence[Location]) -> None:
        """See `PackingIndex`."""
        self._engine.write(lambda session: doomed.forget(session, locations), studies=[])

    def known_store(self, name: str) -> str | None:
        """See `KnownStores`."""
        with self._engine.reading() as session:
            return stores.known(session, name)

    def meet_store(self, name: str, identity: str) -> str:
        """See `KnownStores`."""
        return self._engine.write(lambda session: stores.meet(session, name, identity), studies=[name])

    def replace_store(self, name: str, identity: str) -> None:
        """See `KnownStores`."""
        self._engine.write(lambda session: stores.replace(session, name, identity), studies=[name])

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        """See `PackingIndex`."""
        return self._engine.write(lambda session: leases.take(session, name, holder, seconds), studies=[])

    def renew(self, name: str, holder: str, seconds: float) -> bool:
        """See `PackingIndex`."""
        return self._engine.write(lambda session: leases.renew(session, name, holder, seconds), studies=[])

    def release(self, name: str, holder: str) -> None:
        """See `PackingIndex`."""
        self._engine.write(lambda session: leases.release(session, name, holder), studies=[])

    def close(self) -> None:
        """See `MetadataIndex`."""
        self._engine.close()


def _names_of(record: InstanceRecord) -> list[str]:
    """What adding it locks. Its key too: that it is not doomed has to stay true until it is named."""
    return [record.instance.identity.study_uid, record.location.key]


def _probe(session: Session) -> None:
    if session.run(_PROBE, moment=feed.now()).rowcount != 1:
        raise Unavailable("a table of the index lacks the row that is written to test it: the index was damaged")
