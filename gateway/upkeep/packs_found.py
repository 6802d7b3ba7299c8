"""Brings packs that were found in an object store into the index, and none in the place of what is better.

No row is trusted whose object is not there, and nothing is doomed on the word of an object that was not read whole.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace

import orjson

from gateway.archive.leases import Busy, SeriesLease
from gateway.archive.places import ARCHIVE, Places
from gateway.archive.publishing import announce_removal
from gateway.upkeep.buried import Buried
from gateway.upkeep.fates import Done, Fate, is_gone, left
from gateway.upkeep.whole import is_whole
from storage.dicom.identity import Identity, Scope
from storage.errors import Conflict, NotFound, StorageError
from storage.index import PackingIndex
from storage.index.documents import instance_attributes
from storage.objects import ObjectMeta, ObjectStore, keys
from storage.packs import Pack, PackedInstance
from storage.packs.read import Recovered, read_manifest, recover

Version = tuple[str, int, bytes]

_NO_PACK = "its key is not that of a pack"
_MISSING = "the index names it, and it is not there: run `gateway verify`"
_ONLY_COPY = "the copy alone has it: run `gateway verify --repair`, which puts it back"


class _Series:
    """Where the versions of a series lie, in `packs` that are there; `yielding` are keys of packs that were lost."""

    def __init__(self, study_uid: str, series_uid: str, packs: Iterable[Pack], yielding: Set[str]) -> None:
        self.uids = study_uid, series_uid
        self.yielding = set(yielding)
        self.packs: dict[str, Pack] = {}
        self._holder: dict[Version, str] = {}
        self._whole: dict[str, bool] = {}
        for pack in packs:
            self.add(pack)

    def add(self, pack: Pack) -> None:
        self.packs[pack.location.key] = pack
        self._holder.update(dict.fromkeys(map(version, pack.instances), pack.location.key))

    def holds(self, packed: PackedInstance) -> bool:
        return version(packed) in self._holder

    def is_whole(self, store: ObjectStore, pack: Pack) -> bool:
        """See `whole.is_whole`; each is read once."""
        key = pack.location.key
        if key not in self._whole:
            self._whole[key] = is_whole(store, pack)
        return self._whole[key]

    def make_way(self, store: ObjectStore, wanted: Sequence[PackedInstance]) -> list[str]:
        """Let packs that are not whole hold none of `wanted`, of which a whole one was found; the keys of those."""
        holders = {self._holder[version(one)] for one in wanted if self.holds(one)}
        damaged = sorted(key for key in holders if not self.is_whole(store, self.packs[key]))
        for one in wanted:
            if self._holder.get(version(one)) in damaged:
                del self._holder[version(one)]
        self.yielding.update(damaged)
        return damaged


class FoundPacks:
    """Takes the packs of one series at a time. Safe under threads that work on different series.

    `lies_loose` says whether something of a series may lie loose: then its packs are read whole.
    """

    def __init__(
        self,
        places: Places,
        index: PackingIndex,
        buried: Buried,
        clock: Callable[[], int],
        lies_loose: Callable[[str, str], bool],
    ) -> None:
        self._places = places
        self._index = index
        self._buried = buried
        self._clock = clock
        self._lies_loose = lies_loose

    def archived(self, metas: Sequence[ObjectMeta]) -> list[Done]:
        """Adopt packs of one series; of instances that lie in several, each is taken from one."""
        uids = keys.series_of_pack(metas[0].key)
        if uids is None:
            return [Done(meta.key, Fate.LEFT, why=_NO_PACK) for meta in metas]
        known, gone = self._known(uids, {meta.key for meta in metas})
        series = _Series(*uids, (pack for key, pack in known.items() if key not in gone), gone)
        done = [Done(meta.key, Fate.KNOWN) for meta in metas if meta.key in known]
        for meta in self._in_order([meta for meta in metas if meta.key not in known]):
            done += self._adopt(meta, series)
        if gone:
            named = (pack for pack in self._index.packs(Scope(*uids)) if pack.location.key in gone)
            lost = sorted(pack.location.key for pack in named if self._wanted(pack))
            done += [Done(key, Fate.MISSING, why=_MISSING) for key in lost]
        return done

    def copied(self, metas: Sequence[ObjectMeta]) -> list[Done]:
        """Adopt packs of one series of which the copy alone has what they hold; they make no other step back."""
        uids = keys.series_of_pack(metas[0].key)
        metas = [meta for meta in metas if not self._index.names(meta.key)]
        copy = self._places.copy
        if uids is None or copy is None or not metas:
            return []
        known, gone = self._known(uids, ())
        series = _Series(*uids, (pack for key, pack in known.items() if key not in gone), gone)
        loose = self._loose(series)
        done = []
        for meta in metas:
            recovered = self._recovered(copy, meta)
            if isinstance(recovered, Done):
                done.append(recovered)
                continue
            kept = [at for at in self._wanted(recovered.pack) if self._is_only_here(recovered.pack, at, series, loose)]
            if kept:
                done.append(self._name(recovered, kept, series, Fate.MISSING, _ONLY_COPY))
        return done

    def _known(self, uids: tuple[str, str], seen: Iterable[str]) -> tuple[dict[str, Pack], set[str]]:
        """What the index names of a series, by key, and which of it is not there; what was `seen` is."""
        known = {pack.location.key: pack for pack in self._index.packs(Scope(*uids))}
        return known, {key for key in known.keys() - set(seen) if is_gone(self._places.archive, key)}

    def _in_order(self, metas: Sequence[ObjectMeta]) -> Sequence[ObjectMeta]:
        """Those first whose objects hold the least that was deleted, then the larger ones: so a pack that took the
        place of others is used, and they are not.
        """
        if len(metas) < 2:
            return metas
        ranks: dict[str, tuple[int, int]] = {}
        for meta in metas:
            try:
                pack = read_manifest(self._places.packs, meta, ARCHIVE).pack
            except StorageError as error:
                left(self._places.archive, meta.key, error)  # it is told when it is its turn
                continue
            wanted = len(self._wanted(pack))
            ranks[meta.key] = (len(pack.instances) - wanted, -wanted)
        return sorted(metas, key=lambda meta: (ranks.get(meta.key, (0, 0)), meta.key))

    def _adopt(self, meta: ObjectMeta, series: _Series) -> list[Done]:
        recovered = self._recovered(self._places.packs, meta)
        if isinstance(recovered, Done):
            return [recovered]
        pack = recovered.pack
        kept = self._wanted(pack)
        if not kept:
            return [self._doom(pack, "its instances were deleted")]
        if not self._is_contested(pack, kept, series):
            return [self._name(recovered, kept, series)]
        store = self._places.archive
        if not series.is_whole(store, pack):
            return [self._salvage(recovered, kept, series)]
        damaged = series.make_way(store, [pack.instances[at] for at in kept])
        told = [Done(key, Fate.LEFT, why=f"it is damaged: what {meta.key} holds too is taken there") for key in damaged]
        kept = [at for at in kept if not series.holds(pack.instances[at])]
        if not kept:
            return [*told, self._doom(pack, "its instances were deleted, or lie in other packs")]
        return [*told, self._name(recovered, kept, series)]

    def _is_contested(self, pack: Pack, kept: Sequence[int], series: _Series) -> bool:
        """Whether something of it lies elsewhere too, so that one of both will have to go."""
        return self._lies_loose(*series.uids) or any(series.holds(pack.instances[at]) for at in kept)

    def _salvage(self, recovered: Recovered, kept: Sequence[int], series: _Series) -> Done:
        """Take from a damaged pack what lies nowhere else."""
        loose = self._loose(series)
        kept = [at for at in kept if self._is_only_here(recovered.pack, at, series, loose)]
        if not kept:
            return Done(recovered.pack.location.key, Fate.LEFT, why="it is damaged; what it holds lies elsewhere")
        return self._name(recovered, kept, series, Fate.LEFT, "it is damaged; what lies nowhere else is taken from it")

    def _is_only_here(self, pack: Pack, position: int, series: _Series, loose: Set[tuple[str, str]]) -> bool:
        one = pack.instances[position]
        return not series.holds(one) and (one.sop_uid, one.digest.hex()[:12]) not in loose

    def _loose(self, series: _Series) -> set[tuple[str, str]]:
        """SOP Instance UID and beginning of the digest of all loose objects."""
        metas = self._places.spool.scan(f"spool/{'/'.join(series.uids)}/")
        return {(found[2], found[3]) for found in map(keys.instance_of_spool, (meta.key for meta in metas)) if found}

    def _wanted(self, pack: Pack) -> list[int]:
        """Which instances of the pack were not deleted."""
        return [
            position
            for position, one in enumerate(pack.instances)
            if not self._buried.holds(identity_of(pack, one), one.digest, one.received_at)
        ]

    def _recovered(self, store: ObjectStore, meta: ObjectMeta) -> Recovered | Done:
        try:
            return recover(store, meta, ARCHIVE, _attributes)
        except StorageError as error:
            return left(store, meta.key, error)

    def _name(
        self, recovered: Recovered, kept: Sequence[int], series: _Series, fate: Fate = Fate.ADOPTED, why: str = ""
    ) -> Done:
        pack: Pack = recovered.pack
        documents: Sequence[bytes] = recovered.documents
        if len(kept) < len(pack.instances):
            documents = [documents[position] for position in kept]
            pack = replace(pack, instances=tuple(pack.instances[position] for position in kept), positions=tuple(kept))
        try:
            try:
                self._index.adopt(pack, documents, instead_of=series.yielding)
            except Conflict:  # it is doomed, and due
                self._rescue(pack, documents, series.yielding)
        except Busy:
            return Done(pack.location.key, Fate.LEFT, why="a gateway is at its series: run it again with --resume")
        except NotFound:
            return Done(pack.location.key, Fate.LEFT, why="it vanished meanwhile")
        series.add(pack)
        return Done(pack.location.key, fate, len(kept), why)

    def _rescue(self, pack: Pack, documents: Sequence[bytes], instead_of: Set[str]) -> None:
        """The same when a sweeper may be about to delete it: under the lease that it takes too."""
        with SeriesLease(self._index, pack.study_uid, pack.series_uid) as lease:
            self._places.archive.head(pack.location.key)
            announce_removal(self._index, pack.location, self._clock())
            lease.check()
            self._index.adopt(pack, documents, instead_of=instead_of)

    def _doom(self, pack: Pack, why: str) -> Done:
        self._index.doom([pack.location], self._clock())
        return Done(pack.location.key, Fate.DOOMED, why=why)


def _attributes(document: bytes) -> bytes:
    return orjson.dumps(instance_attributes(orjson.loads(document)))


def version(packed: PackedInstance) -> Version:
    """What tells a version of an instance in a series from all others."""
    return packed.sop_uid, packed.revision, packed.digest


def identity_of(pack: Pack, packed: PackedInstance) -> Identity:
    """The identity of an instance in a pack."""
    return Identity(pack.study_uid, pack.series_uid, packed.sop_uid, packed.sop_class)
