"""Finishes deletions that were announced by a tombstone and cut off before the index forgot."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from threading import Event

from gateway import log, metrics
from gateway.archive import tombstones
from gateway.archive.attempts import Attempts, Tally
from gateway.archive.clock import SECOND, microseconds
from gateway.archive.places import ARCHIVE
from gateway.archive.steps import Stopped
from gateway.archive.tombstones import Tombstone
from storage.dicom.identity import Identity, Scope
from storage.errors import NotFound
from storage.index import PackingIndex
from storage.objects import ObjectMeta, ObjectStore

PATIENCE_SECONDS = 300.0  # more than a deletion takes that is under way, and than clocks differ
_MAX_KEPT = 100_000

_log = log.get(__name__)


class UnfinishedDeletions:
    """Looks through the tombstones of `stores["archive"]` for what the index still has, and removes it there.

    Only what a tombstone covers goes: of an instance that came again since, all versions stay. Each tombstone is read
    once; when all are known, a run is one listing. Several gateways may do so at once.
    """

    def __init__(
        self,
        index: PackingIndex,
        stores: Mapping[str, ObjectStore],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        stop: Event | None = None,
        clock: Callable[[], int] = microseconds,
    ) -> None:
        self._index = index
        self._archive = stores[ARCHIVE]
        self._patience = int(patience_seconds * SECOND)
        self._stop = stop or Event()
        self._clock = clock
        self._finished: set[str] = set()
        self._attempts = Attempts("delete", clock=clock, failed=lambda: metrics.upkeep_failed("delete"))

    def run_once(self) -> Tally:
        """Finish what is found; how many tombstones were looked at. Raises Unavailable, and Stopped."""
        listed: set[str] = set()
        tally = self._attempts.run(self._unknown(listed), key=lambda meta: meta.key, do=self._look)
        self._finished &= listed  # forget those that are gone
        return tally

    def _unknown(self, listed: set[str]) -> Iterator[ObjectMeta]:
        for meta in self._archive.scan(tombstones.PREFIX):
            if self._stop.is_set():
                raise Stopped
            if meta.key not in self._finished:
                yield meta
            if meta.key in self._finished:  # by now
                listed.add(meta.key)

    def _look(self, meta: ObjectMeta) -> None:
        try:
            stone = tombstones.read(self._archive, meta)
        except NotFound:
            return  # withdrawn, or spent
        if self._clock() - stone.at < self._patience:
            return  # whoever put it may be at it
        removed = finish(self._index, self._archive, meta.key, stone)
        if removed:
            _log.warning("a deletion that was cut off is finished", key=meta.key, instances=removed)
        if len(self._finished) < _MAX_KEPT:
            self._finished.add(meta.key)


def finish(index: PackingIndex, archive: ObjectStore, key: str, stone: Tombstone) -> int:
    """Remove from the index what it still has of what the tombstone under `key` covers; how many instances went.

    Of an instance that came again since, all versions stay. Raises Unavailable.
    """
    removed = 0
    for scope in _left(index, stone):
        try:
            archive.head(key)  # it is withdrawn when the deletion has failed
            removed += index.remove(scope).instances
        except NotFound:
            continue
    return removed


def _left(index: PackingIndex, stone: Tombstone) -> list[Scope]:
    """What is to be removed: the scope of the tombstone, or those instances of which it covers every version."""
    try:
        found = index.locate(stone.scope)
    except NotFound:
        return []
    covered: dict[Scope, bool] = defaultdict(lambda: True)
    for series_uid in sorted({one.identity.series_uid for one in found}):
        for identity, is_covered in _versions(index, stone, series_uid):
            if stone.scope.sop_uid in (None, identity.sop_uid):
                covered[Scope(identity.study_uid, identity.series_uid, identity.sop_uid)] &= is_covered
    if all(covered.values()):
        return [stone.scope] if covered else []
    return [instance for instance, is_covered in covered.items() if is_covered]


def _versions(index: PackingIndex, stone: Tombstone, series_uid: str) -> Iterator[tuple[Identity, bool]]:
    """All versions of a series, and whether they are covered; loose ones first, lest one is missed that is sealed now.

    A rebuilt index has not the times at which loose ones were received: these are covered by the names of their objects
    too (and by nothing else: `at` is no older than itself).
    """
    study_uid = stone.scope.study_uid
    for loose in index.loose(study_uid, series_uid):
        identity = Identity(study_uid, series_uid, loose.packed.sop_uid, loose.packed.sop_class)
        is_named = stone.covers_object(identity, loose.location.key, stone.at)
        yield identity, is_named or stone.covers(identity, loose.packed.digest, loose.packed.received_at)
    for pack in index.packs(Scope(study_uid, series_uid)):
        for one in pack.instances:
            identity = Identity(study_uid, series_uid, one.sop_uid, one.sop_class)
            yield identity, stone.covers(identity, one.digest, one.received_at)
