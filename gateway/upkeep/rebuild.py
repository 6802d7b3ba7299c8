"""Makes the index anew from the object stores alone: packs by their last bytes, loose objects by their headers.

It may be killed at any time and run again: what the index has by then is left alone, as far as its object is there and
it was not deleted. What the index does not have and need not have (left by a crash, deleted, sealed meanwhile) is
doomed; what cannot be read is told and stays.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from gateway.archive.clock import microseconds
from gateway.archive.places import SPOOL, Places
from gateway.archive.tombstones import Tombstone
from gateway.archive.unfinished import finish
from gateway.upkeep import loose
from gateway.upkeep.buried import Buried, slack
from gateway.upkeep.fates import Done, Fate, is_gone, left
from gateway.upkeep.lost_index import LOOSE, PACKS
from gateway.upkeep.packs_found import FoundPacks
from gateway.upkeep.parallel import each
from gateway.upkeep.whole import check_loose, is_whole
from storage.dicom.identity import Scope
from storage.dicom.instance import Instance
from storage.errors import Conflict, Exhausted, NotFound, StorageError
from storage.index import InstanceRecord, LooseInstance, Outcome, PackingIndex, Stored
from storage.objects import Location, ObjectMeta, ObjectStore, keys
from storage.packs import Damaged, Pack, PackedInstance

SOURCE = "reindex"  # who is named as the sender of a loose instance: who it was is not in the object


def rebuild(
    places: Places, index: PackingIndex, *, threads: int = 4, clock: Callable[[], int] = microseconds
) -> Iterator[Done]:
    """Bring every object into the index, and tell what became of each.

    Raises Unavailable when a store or the index does not answer, or a tombstone cannot be read: to go on without it
    could bring back what was deleted.
    """
    buried = Buried(places)
    burying = Burying(index, places.archive, buried.at_first)
    yield from burying.go_on()
    loose_series = {hash(uids) for uids in map(_series_of, places.spool.scan(LOOSE))}
    packs = FoundPacks(
        places,
        index,
        buried,
        clock,
        lambda study, series: hash((study, series)) in loose_series or any(index.loose(study, series)),
    )
    work = [(places.archive.scan(PACKS), packs.archived)]
    work.append((places.spool.scan(LOOSE), FoundLoose(places, index, buried, clock).take))
    if places.copy is not None:  # last: what it has is wanted only when it is nowhere else
        work.append((places.copy.scan(PACKS), packs.copied))
    for metas, take in work:
        for done in each(take, by_series(metas), threads):
            yield from done
        yield from burying.go_on()
    burying.left += buried.look()  # what was deleted meanwhile
    yield from burying.go_on()
    for key, _ in burying.left:
        yield Done(
            key, Fate.LEFT, why="what was deleted is still found, because a pack of the series is lost or damaged"
        )


class Burying:
    """Removes from the index what was deleted: it may be older than that, or have been made before. `left` are the
    tombstones that are still to be looked at.
    """

    def __init__(self, index: PackingIndex, archive: ObjectStore, stones: Iterable[tuple[str, Tombstone]]) -> None:
        self._index = index
        self._archive = archive
        self.left = list(stones)

    def go_on(self) -> Iterator[Done]:
        """As far as it can be done. To remove some of a series takes the metadata of what stays: where the pack that
        the index names has it no more, another is to be found first.
        """
        stones, self.left = self.left, []
        for key, stone in stones:
            try:
                removed = finish(self._index, self._archive, key, stone)
            except Damaged:
                self.left.append((key, stone))
                continue
            if removed:
                yield Done(key, Fate.BURIED, why=f"{removed} instances that the index had were deleted, and go")


def by_series(metas: Iterable[ObjectMeta]) -> Iterator[list[ObjectMeta]]:
    """The objects of one series together: they follow each other in the order of their keys."""
    for _, group in groupby(metas, lambda meta: meta.key.rpartition("/")[0]):
        yield list(group)


def _series_of(meta: ObjectMeta) -> tuple[str, ...]:
    return (keys.instance_of_spool(meta.key) or ())[:2]


class Sealed:
    """What the packs of one series hold, to be asked whether a loose object is left over from before it was sealed."""

    def __init__(self, packs: Iterable[Pack], places: Places) -> None:
        self._store = places.packs
        self._slack = slack(places)
        self._packs = {pack.location.key: pack for pack in packs}
        self._versions: dict[str, list[tuple[PackedInstance, str]]] = {}
        self._whole: dict[str, bool] = {}
        for key, pack in self._packs.items():
            for one in pack.instances:
                self._versions.setdefault(one.sop_uid, []).append((one, key))

    def holds(self, instance: Instance, written_at: int) -> bool:
        """Whether its bytes are in a pack that is whole, and not those of an older version that came once more
        afterwards.
        """
        versions = self._versions.get(instance.identity.sop_uid, [])
        holders = {key for one, key in versions if one.digest == instance.digest}
        if not holders or written_at > max(one.received_at for one, _ in versions) + self._slack:
            return False
        return any(self.is_whole(key) for key in sorted(holders))

    def is_whole(self, key: str) -> bool:
        """Whether the pack there is; each is read once. Raises Unavailable."""
        if key not in self._whole:
            self._whole[key] = key in self._packs and is_whole(self._store, self._packs[key])
        return self._whole[key]


class FoundLoose:
    """Adds the loose objects of one series at a time. Safe under threads that work on different series."""

    def __init__(self, places: Places, index: PackingIndex, buried: Buried, clock: Callable[[], int]) -> None:
        self._places = places
        self._index = index
        self._buried = buried
        self._clock = clock
        self._slack = slack(places)

    def take(self, metas: Sequence[ObjectMeta]) -> list[Done]:
        """Add them in the order in which they were written."""
        named = keys.instance_of_spool(metas[0].key)
        if named is None:
            return [Done(meta.key, Fate.LEFT, why="its key is not that of a loose instance") for meta in metas]
        study_uid, series_uid, _, _ = named
        known = {one.location.key for one in self._index.loose(study_uid, series_uid)}
        sealed = Sealed(self._index.packs(Scope(study_uid, series_uid)), self._places)
        done = [
            Done(meta.key, Fate.KNOWN) if meta.key in known else self._add(meta, sealed)
            for meta in sorted(metas, key=lambda meta: (meta.modified_at, meta.key))
        ]
        gone = {key for key in known - {meta.key for meta in metas} if is_gone(self._places.spool, key)}
        if gone:
            gone &= {one.location.key for one in self._index.loose(study_uid, series_uid)}
        why = "the index names it, and it is not there: run `gateway verify`"
        return done + [Done(key, Fate.MISSING, why=why) for key in sorted(gone)]

    def _add(self, meta: ObjectMeta, sealed: Sealed) -> Done:
        try:
            instance = loose.read(self._places.spool, meta, self._places.staging, self._places.check_room)
        except Exhausted:
            raise
        except StorageError as error:
            return left(self._places.spool, meta.key, error)
        if self._buried.holds_object(instance.identity, meta.key, meta.modified_at):
            return self._doomed(meta, "it was deleted")
        if sealed.holds(instance, meta.modified_at):
            return self._doomed(meta, "it lies in a pack")
        record = InstanceRecord(instance, _location(meta), meta.modified_at or self._clock(), SOURCE)
        try:
            return self._bring_back(record, meta, sealed)
        except Conflict:
            return Done(meta.key, Fate.DOOMED, why="it was doomed before")

    def _bring_back(self, record: InstanceRecord, meta: ObjectMeta, sealed: Sealed) -> Done:
        """Raises Conflict when it is doomed."""
        added = self._index.bring_back(record, slack=self._slack)
        if added.outcome is not Outcome.SAME:
            return Done(meta.key, Fate.ADOPTED, 1)
        identity = record.instance.identity
        [served] = self._index.locate(Scope(identity.study_uid, identity.series_uid, identity.sop_uid))
        if served.location == record.location:  # a gateway that runs meanwhile was faster
            return Done(meta.key, Fate.KNOWN)
        if self._is_whole(served, sealed):
            return self._doomed(meta, "the same instance lies in another object")
        self._index.bring_back(record, slack=self._slack, instead_of=frozenset([served.location.key]))
        return Done(meta.key, Fate.ADOPTED, 1)

    def _is_whole(self, served: Stored, sealed: Sealed) -> bool:
        """Whether what is served is there, and what was stored."""
        if served.blocks is not None:
            return sealed.is_whole(served.location.key)
        try:
            for one in self._loose_at(served):
                check_loose(self._places.spool, one)
                return True
        except NotFound:
            return False
        except StorageError as error:
            left(self._places.spool, served.location.key, error)
        return False

    def _loose_at(self, served: Stored) -> Iterator[LooseInstance]:
        identity = served.identity
        found = self._index.loose(identity.study_uid, identity.series_uid)
        return (one for one in found if one.location == served.location)

    def _doomed(self, meta: ObjectMeta, why: str) -> Done:
        self._index.doom([_location(meta)], self._clock())
        return Done(meta.key, Fate.DOOMED, why=why)


def _location(meta: ObjectMeta) -> Location:
    return Location(SPOOL, meta.key, 0, meta.length)
