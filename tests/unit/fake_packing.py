"""A PackingIndex in memory, as strict as the contract: for tests of the workers that need no database."""

import threading
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import islice

from storage.dicom.identity import Identity, Scope
from storage.errors import Conflict, NotFound
from storage.index import (
    EVER,
    Added,
    Backlog,
    InstanceRecord,
    LooseInstance,
    LooseSeries,
    Outcome,
    Overdue,
    Removed,
    Stored,
)
from storage.objects import Location
from storage.packs import Pack, PackedInstance
from storage.packs.merging import to_be_merged
from storage.packs.write import place

Series = tuple[str, str]


@dataclass
class FakePackingIndex:
    """`clock` gives microseconds; `before` is called with the name of each method first, and may raise."""

    clock: Callable[[], int]
    before: Callable[[str], None] = lambda method: None
    loose_ones: dict[Series, list[LooseInstance]] = field(default_factory=dict)
    touched: dict[Series, int] = field(default_factory=dict)
    sealed: dict[tuple[str, str, str], Pack] = field(default_factory=dict)
    removals: dict[tuple[str, str], tuple[int, Location]] = field(default_factory=dict)
    leases: dict[str, tuple[str, int]] = field(default_factory=dict)
    copies: set[tuple[str, str]] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, record: InstanceRecord) -> Added:
        made, identity = record.instance, record.instance.identity
        with self._lock:
            if (record.location.store, record.location.key) in self.removals:
                raise Conflict("the object is doomed")
            versions = [
                one for _, one in self._versions(Scope(identity.study_uid, identity.series_uid, identity.sop_uid))
            ]
            revision = max((one.revision for one in versions), default=0) + 1
            number = made.dataset.get("00200013", {}).get("Value", [None])[0]
            packed = PackedInstance(
                identity.sop_uid,
                identity.sop_class,
                number,
                made.transfer_syntax,
                0,
                record.location.length,
                made.header_length,
                made.digest,
                revision,
                record.received_at,
                record.source,
                made.repair,
                b"{}",
                made.frames,
                made.bulk,
            )
            series = identity.study_uid, identity.series_uid
            loose = LooseInstance(packed, record.location, made.metadata, made.header_digest)
            self.loose_ones.setdefault(series, []).append(loose)
            self.touched[series] = self.clock()
            return Added(Outcome.NEW if revision == 1 else Outcome.VERSION, revision)

    def bring_back(self, record: InstanceRecord, *, slack: int = 0) -> Added:
        identity = record.instance.identity
        scope = Scope(identity.study_uid, identity.series_uid, identity.sop_uid)
        with self._lock:
            known = [one for _, one in self._versions(scope)]
            added = self.add(record)
            if all(one.received_at <= record.received_at + slack for one in known):
                return added
            ones = self.loose_ones[identity.study_uid, identity.series_uid]
            lowest = min(one.revision for one in known) - 1
            ones[-1] = replace(ones[-1], packed=replace(ones[-1].packed, revision=lowest))
            return Added(Outcome.OLDER, lowest)

    def _versions(self, scope: Scope) -> Iterator[tuple[Location, PackedInstance]]:
        for series, ones in self.loose_ones.items():
            for one in ones:
                if _within(scope, *series, one.packed.sop_uid):
                    yield one.location, one.packed
        for pack in self.sealed.values():
            for packed in pack.instances:
                if _within(scope, pack.study_uid, pack.series_uid, packed.sop_uid):
                    yield replace(pack.location, offset=packed.offset, length=packed.length), packed

    def _highest(self, study_uid: str, series_uid: str, sop_uid: str) -> int:
        return max(one.revision for _, one in self._versions(Scope(study_uid, series_uid, sop_uid)))

    def locate(self, scope: Scope) -> Sequence[Stored]:
        with self._lock:
            served: dict[str, tuple[Location, PackedInstance]] = {}
            for location, packed in self._versions(scope):
                if packed.sop_uid not in served or served[packed.sop_uid][1].revision < packed.revision:
                    served[packed.sop_uid] = location, packed
        if not served:
            raise NotFound("there is no such study, series or instance")
        return [
            Stored(
                Identity(scope.study_uid, "", one.sop_uid, one.sop_class),
                one.transfer_syntax,
                location,
                one.header_length,
                one.digest,
                one.revision,
            )
            for location, one in sorted(served.values(), key=lambda found: place(found[1]))
        ]

    def remove(self, scope: Scope) -> Removed:
        with self._lock:
            removed = len(self.locate(scope))
            gone: list[Location] = []
            for series, ones in self.loose_ones.items():
                left = [one for one in ones if not _within(scope, *series, one.packed.sop_uid)]
                gone += [one.location for one in ones if one not in left]
                self.loose_ones[series] = left
            for name, pack in list(self.sealed.items()):
                kept = [n for n, one in enumerate(pack.instances) if not _within(scope, *name[:2], one.sop_uid)]
                if not kept:
                    gone.append(self.sealed.pop(name).location)
                    self._doom_copies(pack)
                elif len(kept) < len(pack.instances):
                    before = pack.positions or tuple(range(len(pack.instances)))
                    self.sealed[name] = replace(
                        pack,
                        instances=tuple(pack.instances[n] for n in kept),
                        positions=tuple(before[n] for n in kept),
                    )
            self.doom(gone, self.clock())
            return Removed(removed, tuple(gone))

    def backlog(self) -> Backlog:
        self.before("backlog")
        waiting = {series: ones for series, ones in self.loose_ones.items() if ones}
        lengths = [one.location.length for ones in waiting.values() for one in ones]
        oldest = min((self.touched[series] for series in waiting), default=None)
        return Backlog(len(waiting), len(lengths), sum(lengths), oldest)

    def unsealed(self, *, touched_before: int, bytes_from: int, limit: int) -> Sequence[LooseSeries]:
        self.before("unsealed")
        with self._lock:
            found = [
                LooseSeries(*series, len(ones), sum(one.location.length for one in ones), self.touched[series])
                for series, ones in self.loose_ones.items()
                if ones
            ]
        due = [one for one in found if one.touched_at < touched_before or one.bytes >= bytes_from]
        return sorted(due, key=lambda one: one.touched_at)[:limit]

    def loose(self, study_uid: str, series_uid: str) -> Iterator[LooseInstance]:
        self.before("loose")
        with self._lock:
            found = [
                replace(one, superseded=one.packed.revision < self._highest(study_uid, series_uid, one.packed.sop_uid))
                for one in self.loose_ones.get((study_uid, series_uid), [])
            ]
        return iter(sorted(found, key=lambda one: place(one.packed)))

    def seal(self, pack: Pack, sealed: Sequence[Location]) -> None:
        self.before("seal")
        series = pack.study_uid, pack.series_uid
        with self._lock:
            ones = {one.location: one for one in self.loose_ones.get(series, [])}
            for packed, location in zip(pack.instances, sealed, strict=True):
                if location not in ones or ones[location].packed.digest != packed.digest:
                    raise Conflict("an instance is not there any more")
            self._call_off(pack.location)
            self.loose_ones[series] = [one for one in self.loose_ones[series] if one.location not in set(sealed)]
            self.sealed[(*series, pack.pack_id)] = pack
            self.doom(sealed, self.clock())

    def _call_off(self, location: Location) -> None:
        due = self.removals.get((location.store, location.key))
        if due is None or due[0] <= self.clock():
            raise Conflict("the removal of the pack has come first")
        del self.removals[location.store, location.key]

    def repack(self, old: Sequence[Pack], new: Pack | None) -> None:
        self.before("repack")
        with self._lock:
            names = [(one.study_uid, one.series_uid, one.pack_id) for one in old]
            if [self.sealed.get(name) for name in names] != list(old):
                raise Conflict("a pack has changed")
            if new is not None:
                self._call_off(new.location)
                self.sealed[new.study_uid, new.series_uid, new.pack_id] = new
            for name, one in zip(names, old, strict=True):
                del self.sealed[name]
                self.doom([one.location], self.clock())
                self._doom_copies(one)

    def crowded(self, limit: int) -> Sequence[Scope]:
        self.before("crowded")
        series = {name[:2] for name in self.sealed}
        found = [Scope(*each) for each in sorted(series)]
        return [one for one in found if to_be_merged(list(self.packs(one)), 1 << 62)][:limit]

    def packs(self, scope: Scope | None = None) -> Iterator[Pack]:
        self.before("packs")
        with self._lock:
            found = [
                pack
                for (study, series, _), pack in sorted(self.sealed.items())
                if scope is None or (study == scope.study_uid and scope.series_uid in (None, series))
            ]
        return iter(found)

    def wasteful(self, limit: int, *, besides: Set[str] = frozenset()) -> Iterator[Pack]:
        found = (pack for pack in self.packs() if pack.positions is not None)
        return islice((pack for pack in found if pack.location.key not in besides), limit)

    def uncopied(self, store: str, limit: int, *, besides: Set[str] = frozenset()) -> Iterator[Pack]:
        found = (pack for pack in self.packs() if (pack.pack_id, store) not in self.copies)
        return islice((pack for pack in found if pack.location.key not in besides), limit)

    def is_copied(self, pack: Pack, store: str) -> bool:
        return (pack.pack_id, store) in self.copies

    def copied(self, pack: Pack, store: str) -> None:
        self.before("copied")
        if (pack.study_uid, pack.series_uid, pack.pack_id) in self.sealed:
            self.copies.add((pack.pack_id, store))
            self.removals.pop((store, pack.location.key), None)

    def doom(self, locations: Sequence[Location], due_at: int) -> None:
        self.before("doom")
        for one in locations:
            earlier = self.removals.get((one.store, one.key), (due_at, one))
            self.removals[one.store, one.key] = min(due_at, earlier[0]), one

    def names(self, key: str) -> bool:
        self.before("names")
        return any(pack.location.key == key for pack in self.sealed.values())

    def respite(self, location: Location, due_at: int) -> None:
        self.before("respite")
        self.removals[location.store, location.key] = due_at, location

    def doomed(self, due_before: int, limit: int, *, store: str | None = None) -> Sequence[Location]:
        self.before("doomed")
        rows = sorted(self.removals.values(), key=lambda row: row[0])
        return [one for due, one in rows if due < due_before and store in (None, one.store)][:limit]

    def doomed_of(self, scope: Scope, *, due_before: int = EVER) -> Iterator[Location]:
        below = f"/{scope.study_uid}/" + (f"{scope.series_uid}/" if scope.series_uid else "")
        found = [one for due, one in self.removals.values() if due < due_before and below in one.key]
        return iter(sorted(found, key=lambda one: (one.store, one.key)))

    def overdue(self, due_before: int) -> Sequence[Overdue]:
        due: dict[str, list[int]] = {}
        for at, one in self.removals.values():
            if at < due_before:
                due.setdefault(one.store, []).append(at)
        return [Overdue(store, len(at), min(at)) for store, at in sorted(due.items())]

    def _doom_copies(self, pack: Pack) -> None:
        copies = [replace(pack.location, store=to) for pack_id, to in self.copies if pack_id == pack.pack_id]
        self.doom(copies, self.clock())

    def forget(self, locations: Sequence[Location]) -> None:
        for one in locations:
            self.removals.pop((one.store, one.key), None)

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        self.before("lease")
        with self._lock:
            other, until = self.leases.get(name, (holder, 0))
            if other != holder and until > self.clock():
                return False
            self.leases[name] = holder, self.clock() + int(seconds * 1_000_000)
            return True

    def renew(self, name: str, holder: str, seconds: float) -> bool:
        self.before("renew")
        with self._lock:
            if self.leases.get(name, ("", 0))[0] != holder:
                return False
            self.leases[name] = holder, self.clock() + int(seconds * 1_000_000)
            return True

    def release(self, name: str, holder: str) -> None:
        with self._lock:
            if self.leases.get(name, ("", 0))[0] == holder:
                del self.leases[name]


def _within(scope: Scope, study: str, series: str, sop: str) -> bool:
    return study == scope.study_uid and scope.series_uid in (None, series) and scope.sop_uid in (None, sop)
