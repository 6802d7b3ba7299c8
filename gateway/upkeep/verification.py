"""Holds every object against what the index says, and the index against what objects there are.

With `repair`, what is wrong is put right where that cannot lose anything: a pack is restored from its copy and the
other way round, or from both when they are damaged at different places; an object that nothing needs is doomed, an
instance that was stored but never named is named. What would take away the only copy of anything is left to a person.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain

from gateway.archive.clock import microseconds
from gateway.archive.leases import SeriesLease
from gateway.archive.places import ARCHIVE, COPY, SPOOL, Places
from gateway.archive.publishing import staged
from gateway.upkeep.buried import Buried
from gateway.upkeep.findings import Checked, Finding, Kind
from gateway.upkeep.lost_index import LOOSE, PACKS, has_objects, is_empty
from gateway.upkeep.orphans import Orphans
from gateway.upkeep.parallel import each
from gateway.upkeep.rebuild import by_series
from gateway.upkeep.whole import check_loose, check_pack, check_whole
from storage.dicom.identity import Scope
from storage.errors import Conflict, Exhausted, NotFound, StorageError, Unavailable
from storage.index import LooseInstance, PackingIndex
from storage.objects import ObjectMeta, ObjectStore
from storage.objects.disk_errors import translated
from storage.packs import Damaged, Pack
from storage.packs.stream import BlockStream, count_of

_EVER = 1 << 62  # later than any time
_MAX_SERIES = 1 << 20  # that may lie loose: days of all that a province takes in

_LOST = Finding(
    Kind.LOST,
    "index",
    "",
    "it is empty, but there are packs or loose instances",
    "if it was lost or moved, stop the gateway and put it back, or run `gateway reindex`",
)

Problem = tuple[Kind, str]


def verify(
    places: Places,
    index: PackingIndex,
    scope: Scope | None = None,
    *,
    repair: bool = False,
    threads: int = 4,
    clock: Callable[[], int] = microseconds,
) -> Iterator[Checked]:
    """Look at every object (of a study), and tell of each what was found.

    Raises NotFound when there is no such study, Unavailable when a store or the index does not answer.
    """
    work = Verification(places, index, repair=repair)
    yield from each(work.pack, index.packs(scope), threads)
    for of_series in each(work.loose, _loose_series(index, scope), threads):
        yield from of_series
    buried = Buried(places, scope.study_uid if scope else None)
    orphans = Orphans(places, index, buried, repair=repair, clock=clock, damaged=work.damaged)
    looks = [(orphans.packs, _packs(places.archive, index, scope)), (orphans.loose, _loose(places, scope))]
    if places.copy is not None:
        looks.append((orphans.copies, _packs(places.copy, index, scope)))
    for look, metas in looks:
        for checked in each(look, by_series(metas), threads):
            yield from checked


def look_for_a_lost_index(places: Places, index: PackingIndex) -> Iterator[Checked]:
    """A finding when the index knows of nothing, and there are objects. Raises Unavailable."""
    if is_empty(index) and has_objects((places.archive, places.spool)):
        yield Checked("", 0, (_LOST,))


def _loose_series(index: PackingIndex, scope: Scope | None) -> Iterator[tuple[str, str]]:
    if scope is None:
        for found in index.unsealed(touched_before=_EVER, bytes_from=0, limit=_MAX_SERIES):
            yield found.study_uid, found.series_uid
    else:
        for series_uid in dict.fromkeys(stored.identity.series_uid for stored in index.locate(scope)):
            yield scope.study_uid, series_uid


def _packs(store: ObjectStore, index: PackingIndex, scope: Scope | None) -> Iterator[ObjectMeta]:
    if scope is None:
        return store.scan(PACKS)
    named = {"/".join(pack.location.key.split("/")[:3]) for pack in index.packs(scope)}
    prefixes = sorted(named | {f"{PACKS}local/{scope.study_uid}"})
    return chain.from_iterable(store.scan(f"{prefix}/") for prefix in prefixes)


def _loose(places: Places, scope: Scope | None) -> Iterator[ObjectMeta]:
    return places.spool.scan(LOOSE if scope is None else f"{LOOSE}{scope.study_uid}/")


class Verification:
    """Looks at what the index names. `damaged` are the series of which something is wrong and was not put right."""

    def __init__(self, places: Places, index: PackingIndex, *, repair: bool) -> None:
        self._places = places
        self._index = index
        self._repair = repair
        self.damaged: set[tuple[str, str]] = set()

    def pack(self, pack: Pack) -> Checked:
        """Look at a pack, and at its copy if it should have one."""
        problems = {ARCHIVE: self._problem(ARCHIVE, pack)}
        if self._places.copy is not None:
            problems[COPY] = self._copy_problem(pack)
        wrong = {name: problem for name, problem in problems.items() if problem is not None}
        if not wrong or not self._index.names(pack.location.key):
            return Checked(pack.location.key, pack.location.length * len(problems))
        sound = self._sound(pack, problems)
        findings = tuple(self._pack_finding(pack, name, problem, sound) for name, problem in wrong.items())
        if not all(finding.repaired for finding in findings):
            self.damaged.add((pack.study_uid, pack.series_uid))
        return Checked(pack.location.key, pack.location.length * len(problems), findings)

    def _problem(self, name: str, pack: Pack) -> Problem | None:
        store = self._places.stores[name]
        try:
            check_pack(store, pack)
        except NotFound:
            return Kind.MISSING, "the index names it, and it is not there"
        except Damaged as error:
            return Kind.DAMAGED, str(error)
        except Unavailable as error:
            store.check()
            return Kind.DAMAGED, f"it cannot be read: {error}"
        return None

    def _copy_problem(self, pack: Pack) -> Problem | None:
        """A copy that was never confirmed is not missing: the gateway has yet to make it."""
        problem = self._problem(COPY, pack)
        if problem is None or problem[0] is not Kind.MISSING:
            return problem
        return problem if self._index.is_copied(pack, COPY) else None

    def _sound(self, pack: Pack, problems: Mapping[str, Problem | None]) -> Sequence[str]:
        """The store that has the pack whole, or two that have each of its bytes right in one of them; else none."""
        whole = [name for name, problem in problems.items() if problem is None]
        if whole:
            return whole[:1]
        damaged = [name for name, problem in problems.items() if problem is not None and problem[0] is Kind.DAMAGED]
        if len(damaged) > 1:
            with suppress(NotFound, Unavailable), self._blocks(pack, damaged) as blocks:
                for _ in blocks:
                    pass
                return damaged
        return ()

    def _blocks(self, pack: Pack, names: Sequence[str]) -> BlockStream:
        """All of a pack from the first of these stores, what is wrong there from the last; each block is verified."""
        first, last = self._places.stores[names[0]], self._places.stores[names[-1]]
        return BlockStream(first, pack.location.key, pack.blocks, 0, count_of(pack.blocks), second=last)

    def _pack_finding(self, pack: Pack, bad: str, problem: Problem, sound: Sequence[str]) -> Finding:
        kind, what = problem
        where = " and ".join(f"the store `{name}`" for name in sound)
        advice, repaired = f"bring it back from a backup of the store `{bad}`, under the same key", False
        if len(sound) > 1:
            advice = f"run `gateway verify --repair`: each of its bytes is right in {where.replace(' and ', ' or ')}"
        elif sound:
            advice = f"run `gateway verify --repair`: {where} has it whole"
        elif kind is Kind.DAMAGED:
            advice += (
                "; until then instances that are not named here can be read, also by `gateway export --keep-going`"
            )
        if sound and self._repair:
            try:
                self._restore(pack, bad, sound)
                advice, repaired = f"restored from {where}", True
            except (Conflict, Exhausted, NotFound, Unavailable) as error:
                advice = f"could not be restored from {where} now: {error}"
        return Finding(kind, bad, pack.location.key, what, advice, repaired)

    def _restore(self, pack: Pack, bad: str, sound: Sequence[str]) -> None:
        """Raises Busy while a worker is at the series, Exhausted, Unavailable."""
        stores, key = self._places.stores, pack.location.key
        with SeriesLease(self._index, pack.study_uid, pack.series_uid) as lease, staged(self._places.packing) as path:
            self._places.check_room()
            with translated("write"), path.open("xb") as file, self._blocks(pack, sound) as blocks:
                for block in blocks:
                    file.write(block)
            lease.check()
            if not self._index.names(key):
                return
            stores[bad].put(key, path, if_absent=False)
            check_whole(stores[bad], pack)
            if bad == COPY:
                self._index.copied(pack, COPY)

    def loose(self, series: tuple[str, str]) -> list[Checked]:
        """Look at all loose objects of a series."""
        return [self._loose(series, loose) for loose in self._index.loose(*series)]

    def _loose(self, series: tuple[str, str], loose: LooseInstance) -> Checked:
        store, location = self._places.spool, loose.location
        try:
            check_loose(store, loose)
        except NotFound:
            problem = Kind.MISSING, "the index names it, and it is not there"
        except Damaged as error:
            problem = Kind.DAMAGED, str(error)
        except StorageError as error:
            store.check()
            problem = Kind.DAMAGED, f"it cannot be read: {error}"
        else:
            return Checked(location.key, location.length)
        if all(other.location != location for other in self._index.loose(*series)):
            return Checked(location.key)  # it was sealed or deleted meanwhile
        self.damaged.add(series)
        advice = "send the instance again, or bring it back from a backup of the spool, under the same key"
        return Checked(location.key, 0, (Finding(problem[0], SPOOL, location.key, problem[1], advice),))
