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
from storage.packs import PackedInstance

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
        removed = self._finish(meta.key, stone)
        if removed:
            _log.warning("a deletion that was cut off is finished", key=meta.key, instances=removed)
        if len(self._finished) < _MAX_KEPT:
            self._finished.add(meta.key)

    def _finish(self, key: str, stone: Tombstone) -> int:
        """How many instances went."""
        removed = 0
        for scope in self._left(stone):
            try:
                self._archive.head(key)  # it is withdrawn when the deletion has failed
                removed += self._index.remove(scope).instances
            except NotFound:
                continue
        return removed

    def _left(self, stone: Tombstone) -> list[Scope]:
        """What is to be removed: the scope of the tombstone, or those instances of which it covers every version."""
        try:
            found = self._index.locate(stone.scope)
        except NotFound:
            return []
        covered: dict[Scope, bool] = defaultdict(lambda: True)
        for series_uid in sorted({one.identity.series_uid for one in found}):
            series = Scope(stone.scope.study_uid, series_uid)
            for packed in self._versions(series):
                instance = Scope(series.study_uid, series_uid, packed.sop_uid)
                if stone.scope.sop_uid in (None, packed.sop_uid):
                    covered[instance] &= _covers(stone, series, packed)
        if all(covered.values()):
            return [stone.scope] if covered else []
        return [instance for instance, is_covered in covered.items() if is_covered]

    def _versions(self, series: Scope) -> Iterator[PackedInstance]:
        """Loose ones first, lest one is missed that is sealed now."""
        assert series.series_uid is not None
        for loose in self._index.loose(series.study_uid, series.series_uid):
            yield loose.packed
        for pack in self._index.packs(series):
            yield from pack.instances


def _covers(stone: Tombstone, series: Scope, packed: PackedInstance) -> bool:
    assert series.series_uid is not None
    identity = Identity(series.study_uid, series.series_uid, packed.sop_uid, packed.sop_class)
    return stone.covers(identity, packed.digest, packed.received_at)
