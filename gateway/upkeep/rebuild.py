"""Makes the index anew from the object stores alone: packs by their last bytes, loose objects by their headers.

It may be killed at any time and run again: what the index has by then is left alone. What the index does not have and
need not have (left by a crash, deleted, sealed meanwhile) is doomed; what cannot be read is told and stays.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby

import orjson

from gateway.archive.clock import microseconds
from gateway.archive.places import ARCHIVE, SPOOL, Places
from gateway.upkeep import loose
from gateway.upkeep.buried import Buried, slack
from gateway.upkeep.lost_index import LOOSE, PACKS
from gateway.upkeep.parallel import each
from gateway.upkeep.whole import check_whole
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import Instance
from storage.errors import Conflict, Exhausted, Invalid, NotFound, StorageError
from storage.index import InstanceRecord, Outcome, PackingIndex
from storage.index.documents import instance_attributes
from storage.objects import Location, ObjectMeta, ObjectStore, keys
from storage.packs import Pack, PackedInstance
from storage.packs.read import Recovered, recover

SOURCE = "reindex"  # who is named as the sender of a loose instance: who it was is not in the object


class Fate(StrEnum):
    """What became of an object."""

    ADOPTED = "adopted"  # its instances can be found
    KNOWN = "known"  # they could be found already
    DOOMED = "doomed"  # nothing needs it: the gateway will delete it
    LEFT = "left"  # it cannot be read; nothing was done


@dataclass(frozen=True, slots=True)
class Done:
    """An object, and how many instances it brought into the index; `why` it was left or doomed."""

    key: str
    fate: Fate
    instances: int = 0
    why: str = ""


def rebuild(
    places: Places, index: PackingIndex, *, threads: int = 4, clock: Callable[[], int] = microseconds
) -> Iterator[Done]:
    """Bring every object into the index, and tell what became of each.

    Raises Unavailable when a store or the index does not answer, or a tombstone cannot be read: to go on without it
    could bring back what was deleted.
    """
    work = Rebuilding(places, index, clock)
    for metas_of, of_series in ((places.archive.scan(PACKS), work.packs), (places.spool.scan(LOOSE), work.loose)):
        for done in each(of_series, by_series(metas_of), threads):
            yield from done


def by_series(metas: Iterable[ObjectMeta]) -> Iterator[list[ObjectMeta]]:
    """The objects of one series together: they follow each other in the order of their keys."""
    for _, group in groupby(metas, lambda meta: meta.key.rpartition("/")[0]):
        yield list(group)


class Sealed:
    """What the packs of one series hold, to be asked whether a loose object is left over from before it was sealed."""

    def __init__(self, packs: Iterable[Pack], places: Places) -> None:
        self._store = places.packs
        self._slack = slack(places)
        self._versions: dict[str, list[tuple[PackedInstance, Pack]]] = {}
        self._whole: set[str] = set()
        for pack in packs:
            for one in pack.instances:
                self._versions.setdefault(one.sop_uid, []).append((one, pack))

    def holds(self, instance: Instance, written_at: int) -> bool:
        """Whether its bytes are in a pack, and not those of an older version that came once more afterwards.

        Raises Damaged when that pack is not whole: then this object may be the only one, whatever it was sealed for.
        """
        versions = self._versions.get(instance.identity.sop_uid, [])
        pack = next((pack for one, pack in versions if one.digest == instance.digest), None)
        if pack is None or written_at > max(one.received_at for one, _ in versions) + self._slack:
            return False
        if pack.location.key not in self._whole:
            check_whole(self._store, pack)
            self._whole.add(pack.location.key)
        return True


class Rebuilding:
    """Brings the objects of one series at a time into the index. Safe under threads that work on different series."""

    def __init__(self, places: Places, index: PackingIndex, clock: Callable[[], int] = microseconds) -> None:
        self._places = places
        self._index = index
        self._clock = clock
        self._buried = Buried(places)
        self._slack = slack(places)

    def packs(self, metas: Sequence[ObjectMeta]) -> list[Done]:
        """Adopt packs of one series; of instances that lie in several, each is taken from one."""
        series = keys.series_of_pack(metas[0].key)
        if series is None:
            return [Done(meta.key, Fate.LEFT, why="its key is not that of a pack") for meta in metas]
        known = {pack.location.key: pack for pack in self._index.packs(Scope(*series))}
        done = [Done(meta.key, Fate.KNOWN) for meta in metas if meta.key in known]
        unknown = [meta for meta in metas if meta.key not in known]
        taken = {_version(one) for pack in known.values() for one in pack.instances}
        if len(unknown) > 1:
            unknown = self._in_order(unknown)
        return done + [self._adopt(meta, taken) for meta in unknown]

    def _in_order(self, metas: Sequence[ObjectMeta]) -> list[ObjectMeta]:
        """Those first whose objects hold the least that was deleted, then the larger ones: so a pack that took the
        place of others is used, and they are not.
        """
        ranks: dict[str, tuple[int, int]] = {}
        for meta in metas:
            recovered = self._recovered(meta)
            if isinstance(recovered, Recovered):
                count = len(recovered.pack.instances)
                kept = len(self._kept(recovered.pack, set()))
                ranks[meta.key] = (count - kept, -kept)
        return sorted(metas, key=lambda meta: (ranks.get(meta.key, (0, 0)), meta.key))

    def _adopt(self, meta: ObjectMeta, taken: set[tuple[str, int, bytes]]) -> Done:
        recovered = self._recovered(meta)
        if isinstance(recovered, Done):
            return recovered
        pack, kept = recovered.pack, self._kept(recovered.pack, taken)
        if not kept:
            self._doom(pack.location)
            return Done(meta.key, Fate.DOOMED, why="its instances were deleted, or lie in other packs")
        documents: Sequence[bytes] = recovered.documents
        if len(kept) < len(pack.instances):
            documents = [documents[position] for position in kept]
            pack = replace(pack, instances=tuple(pack.instances[position] for position in kept), positions=tuple(kept))
        self._index.adopt(pack, documents)
        taken.update(_version(one) for one in pack.instances)
        return Done(meta.key, Fate.ADOPTED, len(kept))

    def _recovered(self, meta: ObjectMeta) -> Recovered | Done:
        try:
            return recover(self._places.packs, meta, ARCHIVE, _attributes)
        except StorageError as error:
            return self._left(self._places.archive, meta.key, error)

    def _kept(self, pack: Pack, taken: set[tuple[str, int, bytes]]) -> list[int]:
        """Which instances of the pack were not deleted, and are not `taken` from elsewhere."""
        return [
            position
            for position, one in enumerate(pack.instances)
            if _version(one) not in taken
            and not self._buried.holds(identity_of(pack, one), one.digest, one.received_at)
        ]

    def loose(self, metas: Sequence[ObjectMeta]) -> list[Done]:
        """Add the loose objects of one series, in the order in which they were written."""
        named = keys.instance_of_spool(metas[0].key)
        if named is None:
            return [Done(meta.key, Fate.LEFT, why="its key is not that of a loose instance") for meta in metas]
        study_uid, series_uid, _, _ = named
        known = {one.location.key for one in self._index.loose(study_uid, series_uid)}
        sealed = Sealed(self._index.packs(Scope(study_uid, series_uid)), self._places)
        return [
            Done(meta.key, Fate.KNOWN) if meta.key in known else self._add(meta, sealed)
            for meta in sorted(metas, key=lambda meta: (meta.modified_at, meta.key))
        ]

    def _add(self, meta: ObjectMeta, sealed: Sealed) -> Done:
        try:
            instance = loose.read(self._places.spool, meta, self._places.staging, self._places.check_room)
            if sealed.holds(instance, meta.modified_at):
                return self._doomed(meta, "it lies in a pack")
        except Exhausted:
            raise
        except StorageError as error:
            return self._left(self._places.spool, meta.key, error)
        if self._buried.holds_object(instance.identity, meta.key, meta.modified_at):
            return self._doomed(meta, "it was deleted")
        location = _location(meta)
        record = InstanceRecord(instance, location, meta.modified_at or self._clock(), SOURCE)
        try:
            added = self._index.bring_back(record, slack=self._slack)
        except Conflict:
            return Done(meta.key, Fate.DOOMED, why="it was doomed before")
        if added.outcome is not Outcome.SAME:
            return Done(meta.key, Fate.ADOPTED, 1)
        identity = instance.identity
        [served] = self._index.locate(Scope(identity.study_uid, identity.series_uid, identity.sop_uid))
        if served.location == location:  # a gateway that runs meanwhile was faster
            return Done(meta.key, Fate.KNOWN)
        return self._doomed(meta, "the same instance lies in another object")

    def _doomed(self, meta: ObjectMeta, why: str) -> Done:
        self._doom(_location(meta))
        return Done(meta.key, Fate.DOOMED, why=why)

    def _left(self, store: ObjectStore, key: str, error: StorageError) -> Done:
        """What cannot be read is passed over, unless it is the store that does not answer."""
        if isinstance(error, NotFound):
            return Done(key, Fate.LEFT, why="it vanished meanwhile")
        if not isinstance(error, Invalid):
            store.check()
        return Done(key, Fate.LEFT, why=str(error))

    def _doom(self, location: Location) -> None:
        self._index.doom([location], self._clock())


def _location(meta: ObjectMeta) -> Location:
    return Location(SPOOL, meta.key, 0, meta.length)


def _attributes(document: bytes) -> bytes:
    return orjson.dumps(instance_attributes(orjson.loads(document)))


def _version(packed: PackedInstance) -> tuple[str, int, bytes]:
    return packed.sop_uid, packed.revision, packed.digest


def identity_of(pack: Pack, packed: PackedInstance) -> Identity:
    """The identity of an instance in a pack."""
    return Identity(pack.study_uid, pack.series_uid, packed.sop_uid, packed.sop_class)
