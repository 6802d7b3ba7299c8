"""Deletes objects that nothing names any more, after a while in which those who were reading them may finish."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from threading import Event

from gateway import log, metrics
from gateway.archive.clock import SECOND, microseconds
from gateway.archive.leases import Busy, SeriesLease
from gateway.archive.places import ARCHIVE, COPY
from gateway.archive.steps import SWEPT, Hook, Stopped, unwatched
from storage.errors import StorageError
from storage.index import PackingIndex
from storage.objects import Location, ObjectStore, keys

GRACE_SECONDS = 60.0
_AT_ONCE = 1000
_MAX_LEFT = 100_000

_log = log.get(__name__)


class Sweeper:
    """Deletes what the index has doomed: loose objects many at a time, each pack under the lease of its series, when
    the index still does not name it. A pack of the archive goes from its copy too. `deleted` is told its key.

    What is doomed in a store that is not among `stores` waits for a worker that has it.
    """

    def __init__(
        self,
        index: PackingIndex,
        stores: Mapping[str, ObjectStore],
        *,
        grace_seconds: float = GRACE_SECONDS,
        stop: Event | None = None,
        clock: Callable[[], int] = microseconds,
        at: Hook = unwatched,
        deleted: Callable[[str], None] = lambda key: None,
    ) -> None:
        self._index = index
        self._stores = stores
        self._grace = int(grace_seconds * SECOND)
        self._stop = stop or Event()
        self._clock = clock
        self._at = at
        self._deleted = deleted
        self._left = 0
        self._told_of: set[str] = set()

    def run_once(self) -> int:
        """Delete up to 1,000 objects that are due; how many went. A store that does not answer is left alone for the
        rest of the run and holds up no other; what it said is raised in the end (Unavailable).
        """
        before = self._clock() - self._grace
        due = [one for store in self._stores for one in self._index.doomed(before, _AT_ONCE + self._left, store=store)]
        troubles: dict[str, StorageError] = {}
        gone = self._sweep_loose([one for one in due if keys.series_of_pack(one.key) is None], troubles)
        for location in due:
            series = keys.series_of_pack(location.key)
            if series is not None:
                gone += self._sweep_pack(location, *series, troubles)
        self._left = min(len(due) - gone, _MAX_LEFT)
        metrics.swept(gone, self._left + self._out_of_reach(before))
        for error in troubles.values():
            raise error
        return gone

    def _out_of_reach(self, before: int) -> int:
        """How many (of the first 1,000) lie in stores that this worker does not have; each store is told of once."""
        others = [one.store for one in self._index.doomed(before, _AT_ONCE) if one.store not in self._stores]
        for store in set(others) - self._told_of:
            self._told_of.add(store)
            _log.warning("objects are to be deleted in a store that is not configured here", store=store)
        return len(others)

    def _sweep_loose(self, locations: Sequence[Location], troubles: dict[str, StorageError]) -> int:
        by_store: dict[str, list[Location]] = defaultdict(list)
        for location in locations:
            by_store[location.store].append(location)
        gone = 0
        for store, found in by_store.items():
            if self._delete([store], [location.key for location in found], troubles):
                self._forget(found)
                gone += len(found)
        return gone

    def _sweep_pack(
        self, location: Location, study_uid: str, series_uid: str, troubles: dict[str, StorageError]
    ) -> int:
        """1 when it is done with: gone, or named again. The lease keeps out whoever is about to name it."""
        if self._stop.is_set():
            raise Stopped
        copies = [COPY] if location.store == ARCHIVE and COPY in self._stores else []
        stores = [location.store, *copies]
        if not troubles.keys().isdisjoint(stores):
            return 0
        try:
            with SeriesLease(self._index, study_uid, series_uid) as lease:
                if not self._index.names(location.key):
                    lease.check()
                    if not self._delete(stores, [location.key], troubles):
                        return 0
                    self._deleted(location.key)
                self._forget([location])
        except Busy:
            return 0
        return 1

    def _delete(self, names: Sequence[str], doomed: Sequence[str], troubles: dict[str, StorageError]) -> bool:
        """Whether they are gone from all these stores."""
        for name in names:
            try:
                self._stores[name].delete(doomed)
            except StorageError as error:
                metrics.upkeep_failed("sweep")
                troubles[name] = error
                return False
        return True

    def _forget(self, locations: Sequence[Location]) -> None:
        self._at(SWEPT)
        self._index.forget(locations)
