"""The DICOM JSON of instances one after another, in bounded memory, whether it is in the index or in packs.

What is read takes longer than one session may last, so instances are looked for again when they have moved meanwhile.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, select

from storage.dicom.identity import Identity, Scope
from storage.errors import NotFound, Unavailable
from storage.index import Documents, scopes, served
from storage.index.engine import Engine
from storage.index.packed import Listings, Packed
from storage.index.schema import contents, instances
from storage.index.served import InPack, Loose, Series, Served
from storage.index.session import Session

BATCH = 64  # loose instances whose metadata is in memory at once, unless
BATCH_BYTES = 4 << 20  # are reached before, which the last one may pass
PACKS_BYTES = 32 << 20  # of the metadata of packs, more than which is held only when one pack has more
MAX_MOVES = 3  # of one instance while it is read

_METADATA = (
    select(contents.c.metadata)
    .join_from(instances, contents, contents.c.instance_id == instances.c.id)
    .where(
        instances.c.id == bindparam("instance"),
        instances.c.study_id == bindparam("study"),
        instances.c.series_id == bindparam("one_series"),
        instances.c.sop_uid == bindparam("sop_uid"),
    )
)


class _Wanted(NamedTuple):
    series: Series
    instance: Served
    moves: int = 0

    @property
    def identity(self) -> Identity:
        one = self.instance
        return Identity(self.series.study_uid, self.series.series_uid, one.sop_uid, one.sop_class)


def loose_document(session: Session, series: Series, instance: Loose) -> bytes | None:
    """The DICOM JSON of a loose instance; None when it lies there no more."""
    ids = {"instance": instance.id, "study": series.study_id, "one_series": series.id}
    row = session.run(_METADATA, sop_uid=instance.sop_uid, **ids).fetchone()
    return None if row is None else row[0]


def pack_documents(documents: Documents | None, series: Series, pack: Packed) -> Sequence[bytes]:
    """The DICOM JSON of all instances in the listing of a pack. Raises Unavailable."""
    if documents is None:
        raise Unavailable("the metadata of packs cannot be read here: the index was opened without their store")
    try:
        found = documents.documents(pack.pack(series.study_uid, series.series_uid))
    except NotFound as error:  # never to be taken for: there is no such instance
        raise Unavailable(f"the pack {pack.location.key} is not in its store") from error
    if len(found) != len(pack.listing):
        raise Unavailable(f"the metadata in the pack {pack.location.key} does not fit the index")
    return found


class Reading:
    """The metadata of everything in a scope. Raises NotFound when it is made, not later."""

    def __init__(self, engine: Engine, listings: Listings, documents: Documents | None, scope: Scope) -> None:
        self._engine = engine
        self._listings = listings
        self._documents = documents
        self._packs: OrderedDict[int, Sequence[bytes]] = OrderedDict()
        self._packs_bytes = 0
        with engine.reading() as session:
            found = served.in_scope(session, listings, scope)
            self._waiting = deque(_Wanted(series, each) for series, instances in found for each in instances)
        if not self._waiting:
            raise scopes.nothing(scope)

    def __iter__(self) -> Iterator[tuple[Identity, bytes]]:
        while self._waiting:
            if isinstance(self._waiting[0].instance, Loose):
                yield from self._next_loose()
            else:
                yield from self._next_packed()

    def _next_loose(self) -> list[tuple[Identity, bytes]]:
        """Those that come next and lie loose, until a batch is full."""
        batch: list[tuple[Identity, bytes]] = []
        length = 0
        with self._engine.reading() as session:
            while self._waiting and len(batch) < BATCH and length < BATCH_BYTES:
                wanted = self._waiting[0]
                if not isinstance(wanted.instance, Loose):
                    break
                self._waiting.popleft()
                document = loose_document(session, wanted.series, wanted.instance)
                if document is not None:
                    batch.append((wanted.identity, document))
                    length += len(document)
                elif not self._look_again(session, wanted):
                    raise Unavailable("the index has an instance without its metadata: it was damaged")
        return batch

    def _next_packed(self) -> list[tuple[Identity, bytes]]:
        wanted = self._waiting.popleft()
        assert isinstance(wanted.instance, InPack)
        pack, row = wanted.instance
        try:
            return [(wanted.identity, self._documents_of(wanted.series, pack)[row])]
        except Unavailable:
            with self._engine.reading() as session:
                moved = self._look_again(session, wanted)
            if not moved:
                raise
            return []

    def _look_again(self, session: Session, wanted: _Wanted) -> bool:
        """Put the instance back to where it is now; False when it has not moved. One that was removed is left out."""
        identity = wanted.identity
        scope = Scope(identity.study_uid, identity.series_uid, identity.sop_uid)
        for series, [instance] in served.in_scope(session, self._listings, scope):
            if _place(instance) == _place(wanted.instance):
                return False
            if wanted.moves == MAX_MOVES:
                raise Unavailable("an instance was moved again and again while its metadata was read; try again")
            self._waiting.appendleft(_Wanted(series, instance, wanted.moves + 1))
        return True

    def _documents_of(self, series: Series, pack: Packed) -> Sequence[bytes]:
        """Of the packs of a series that were read last, because instances may come from several in turn."""
        found = self._packs.get(pack.edition)
        if found is None:
            found = self._packs[pack.edition] = pack_documents(self._documents, series, pack)
            self._packs_bytes += sum(map(len, found))
            while self._packs_bytes > PACKS_BYTES and len(self._packs) > 1:
                _, oldest = self._packs.popitem(last=False)
                self._packs_bytes -= sum(map(len, oldest))
        self._packs.move_to_end(pack.edition)
        return found


def _place(instance: Served) -> tuple[str, int]:
    return ("loose", instance.id) if isinstance(instance, Loose) else ("pack", instance.pack.edition)
