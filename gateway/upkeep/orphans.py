"""Objects that nothing names: left by a crash, or by an index that was lost. What holds the only copy of an instance
that was not deleted is never doomed.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from gateway.archive.clock import SECOND
from gateway.archive.places import ARCHIVE, COPY, SPOOL, Places
from gateway.upkeep import loose
from gateway.upkeep.buried import Buried, slack
from gateway.upkeep.findings import Checked, Finding, Kind, Passed
from gateway.upkeep.packs_found import identity_of
from gateway.upkeep.rebuild import SOURCE
from storage.dicom.identity import Scope
from storage.errors import Conflict, Exhausted, NotFound, StorageError
from storage.index import InstanceRecord, Outcome, PackingIndex
from storage.objects import Location, ObjectMeta, ObjectStore, keys
from storage.packs.read import read_manifest

YOUNG_SECONDS = 3600  # an object so young may be about to be named

_NEEDLESS = "nothing needs it"
_UNKNOWN = "nothing names it"
_BRING_BACK = {
    ARCHIVE: "run `gateway reindex --resume`, beside the gateway or not: it brings them back",
    COPY: "put it into the archive under the same key, and run `gateway reindex --resume`",
}


class Orphans:
    """Looks at the objects of one series at a time. Safe under threads."""

    def __init__(
        self,
        places: Places,
        index: PackingIndex,
        buried: Buried,
        *,
        repair: bool,
        clock: Callable[[], int],
        damaged: set[tuple[str, str]],
    ) -> None:
        self._places = places
        self._index = index
        self._buried = buried
        self._repair = repair
        self._clock = clock
        self._damaged = damaged

    def packs(self, metas: Sequence[ObjectMeta]) -> list[Checked]:
        """Look at the pack objects of a series."""
        series = keys.series_of_pack(metas[0].key)
        named = {pack.location.key for pack in self._index.packs(Scope(*series))} if series else set()
        return self._each(ARCHIVE, series, metas, named, lambda meta: self._pack(ARCHIVE, meta, series))

    def copies(self, metas: Sequence[ObjectMeta]) -> list[Checked]:
        """Look at copies of packs of a series; of one whose original is there too, that tells what is to be done."""
        series = keys.series_of_pack(metas[0].key)
        named = {pack.location.key for pack in self._index.packs(Scope(*series))} if series else set()
        return self._each(COPY, series, metas, named, lambda meta: self._copy(meta, series))

    def _copy(self, meta: ObjectMeta, series: tuple[str, str] | None) -> Checked:
        with suppress(NotFound):
            self._places.archive.head(meta.key)
            return Checked(meta.key)
        return self._pack(COPY, meta, series)

    def _pack(self, name: str, meta: ObjectMeta, series: tuple[str, str] | None) -> Checked:
        store = self._places.stores[name]
        if series is None:
            return _finding(name, meta.key, "its key is not that of a pack", "move it elsewhere: it is not ours")
        try:
            pack = read_manifest(store, meta, name).pack
        except NotFound:
            return Checked(meta.key)
        except StorageError as error:
            return self._unreadable(store, name, meta.key, error)
        here = self._versions(*series)
        wanted = [
            one
            for one in pack.instances
            if (one.sop_uid, one.digest) not in here
            and not self._buried.holds(identity_of(pack, one), one.digest, one.received_at)
        ]
        if wanted:
            what = f"{_UNKNOWN}, and it holds {len(wanted)} instances that are nowhere else"
            return _finding(name, meta.key, what, _BRING_BACK[name])
        return self._needless(pack.location, series)

    def loose(self, metas: Sequence[ObjectMeta]) -> list[Checked]:
        """Look at the loose objects of a series."""
        found = keys.instance_of_spool(metas[0].key)
        series = found[:2] if found else None
        named = {one.location.key for one in self._index.loose(*series)} if series else set()
        return self._each(SPOOL, series, metas, named, self._loose)

    def _loose(self, meta: ObjectMeta) -> Checked:
        store = self._places.spool
        try:
            instance = loose.read(store, meta, self._places.staging, self._places.check_room)
        except Exhausted:
            raise
        except NotFound:
            return Checked(meta.key)
        except StorageError as error:
            return self._unreadable(store, SPOOL, meta.key, error)
        identity, location = instance.identity, Location(SPOOL, meta.key, 0, meta.length)
        series = (identity.study_uid, identity.series_uid)
        buried = self._buried.holds_object(identity, meta.key, meta.modified_at)
        if buried or (identity.sop_uid, instance.digest) in self._versions(*series):
            return self._needless(location, series, deleted=buried)
        what = f"{_UNKNOWN}: it was stored, and not acknowledged"
        if not self._repair:
            return _finding(SPOOL, meta.key, what, "run `gateway verify --repair`: it brings it back")
        record = InstanceRecord(instance, location, meta.modified_at or self._clock(), SOURCE)
        try:
            added = self._index.bring_back(record, slack=slack(self._places))
        except Conflict:  # it was doomed while it was read
            return Checked(meta.key)
        is_older = added.outcome is Outcome.OLDER
        advice = "it is kept as a version that was superseded" if is_older else "it can be found now"
        return _finding(SPOOL, meta.key, what, advice, repaired=True)

    def _each(
        self,
        store: str,
        series: tuple[str, str] | None,
        metas: Sequence[ObjectMeta],
        named: set[str],
        look: Callable[[ObjectMeta], Checked],
    ) -> list[Checked]:
        """Those that nothing names: looked at when they are old enough to be named, and not to be deleted."""
        before = self._clock() - YOUNG_SECONDS * SECOND
        unnamed = [meta for meta in metas if meta.key not in named]
        doomed = self._doomed(store, series) if unnamed else set()  # after it was not named: that is their order
        found = []
        for meta in unnamed:
            if meta.key in doomed:
                found.append(Checked(meta.key, passed=Passed.DOOMED))
            elif meta.modified_at >= before:
                again_at = meta.modified_at + YOUNG_SECONDS * SECOND
                found.append(Checked(meta.key, passed=Passed.YOUNG, again_at=again_at))
            else:
                found.append(look(meta))
        return found

    def _doomed(self, store: str, series: tuple[str, str] | None) -> set[str]:
        """The keys of all that is to be deleted of a series."""
        if series is None:
            return set()
        return {location.key for location in self._index.doomed_of(Scope(*series)) if location.store == store}

    def _versions(self, study_uid: str, series_uid: str) -> set[tuple[str, bytes]]:
        """All that the index names in a series."""
        packed = (one for pack in self._index.packs(Scope(study_uid, series_uid)) for one in pack.instances)
        found = {(one.sop_uid, one.digest) for one in packed}
        return found | {(one.packed.sop_uid, one.packed.digest) for one in self._index.loose(study_uid, series_uid)}

    def _needless(self, location: Location, series: tuple[str, str], *, deleted: bool = False) -> Checked:
        """What lies elsewhere was read there and is whole, or else this stays."""
        what = (
            f"{_NEEDLESS}: what it holds was deleted" if deleted else f"{_NEEDLESS}: all that it holds lies elsewhere"
        )
        if series in self._damaged:
            advice = "it is kept, because something else of its series is damaged"
            return _finding(location.store, location.key, what, advice)
        if not self._repair:
            return _finding(location.store, location.key, what, "run `gateway verify --repair`: it is deleted then")
        self._index.doom([location], self._clock())
        return _finding(location.store, location.key, what, "the gateway will delete it", repaired=True)

    def _unreadable(self, store: ObjectStore, name: str, key: str, error: StorageError) -> Checked:
        store.check()
        return _finding(name, key, f"{_UNKNOWN}, and it cannot be read: {error}", "look at it by hand, then delete it")


def _finding(store: str, key: str, what: str, advice: str, *, repaired: bool = False) -> Checked:
    return Checked(key, 0, (Finding(Kind.ORPHAN, store, key, what, advice, repaired),))
