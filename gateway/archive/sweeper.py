"""Deletes objects that nothing names any more, after a while in which those who were reading them may finish."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Event

from gateway import log, metrics
from gateway.archive.clock import SECOND, microseconds
from gateway.archive.deleting import Deleting, Refusals
from gateway.archive.leases import Busy, SeriesLease
from gateway.archive.places import ARCHIVE, COPY
from gateway.archive.steps import SWEPT, Hook, Stopped, unwatched
from storage.errors import StorageError
from storage.index import PackingIndex
from storage.objects import Location, ObjectStore, keys

GRACE_SECONDS = 60.0
_AT_ONCE = 1000
_MAX_LEFT = 100_000
_TELL_SECONDS = 60

_log = log.get(__name__)


class Sweeper:
    """Deletes what the index has doomed: loose objects many at a time, each pack under the lease of its series, when
    the index still does not name it. A pack of the archive goes from its copy too. `deleted` is told its key.

    What is doomed in a store that is not among `stores` waits for a worker that has it. `refusals` are objects that
    cannot be deleted though their store is in order: each rests, and holds up no other.
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
        self.refusals = Refusals(clock)
        self._index = index
        self._stores = stores
        self._grace = int(grace_seconds * SECOND)
        self._stop = stop or Event()
        self._clock = clock
        self._at = at
        self._deleted = deleted
        self._left = 0
        self._tell_again_at = 0
        self._told_of: set[str] = set()

    def run_once(self) -> int:
        """As `sweep`; how many went. What a store that does not answer said is raised in the end (Unavailable)."""
        gone, troubles = self.sweep()
        for error in troubles.values():
            raise error
        return gone

    def sweep(self) -> tuple[int, Mapping[str, StorageError]]:
        """Delete up to 1,000 objects of each store that are due: how many went, and the stores that do not answer: such
        a one is left alone for the rest of the run and holds up no other. Raises Unavailable when the index does not.
        """
        before = self._clock() - self._grace
        limit = _AT_ONCE + self._left
        found = [one for store in self._stores for one in self._index.doomed(before, limit, store=store)]
        due = [one for one in found if not self.refusals.rests(one)]
        deleting = Deleting(self._stores, self.refusals)
        gone = self._sweep_loose([one for one in due if keys.series_of_pack(one.key) is None], deleting)
        for location in due:
            series = keys.series_of_pack(location.key)
            if series is not None:
                gone += self._sweep_pack(location, *series, deleting)
        self._left = min(len(found) - gone, _MAX_LEFT)
        deleting.tell()
        metrics.swept(gone)
        self._tell(before, is_busy=gone > 0)
        return gone, deleting.troubles

    def _tell(self, before: int, *, is_busy: bool) -> None:
        """Say in the metrics what waits, once a minute while it goes; of each store that this worker does not have in
        the log too, once.
        """
        if is_busy and self._clock() < self._tell_again_at:
            return
        self._tell_again_at = self._clock() + _TELL_SECONDS * SECOND
        overdue = {one.store: one for one in self._index.overdue(before)}
        for store in overdue.keys() - self._stores.keys() - self._told_of:
            self._told_of.add(store)
            _log.warning("objects are to be deleted in a store that is not configured here", store=store)
        for store in {*self._stores, *self._told_of}:
            one = overdue.get(store)
            late = 0 if one is None else self._clock() - one.oldest_at
            metrics.doomed(store, 0 if one is None else one.objects, late / SECOND)

    def _sweep_loose(self, locations: Sequence[Location], deleting: Deleting) -> int:
        by_store: dict[str, list[Location]] = defaultdict(list)
        for location in locations:
            by_store[location.store].append(location)
        gone = 0
        for store, found in by_store.items():
            if deleted := deleting.delete(store, found):
                self._forget(deleted)
                gone += len(deleted)
        return gone

    def _sweep_pack(self, location: Location, study_uid: str, series_uid: str, deleting: Deleting) -> int:
        """1 when it is done with: gone, or named again. The lease keeps out whoever is about to name it."""
        if self._stop.is_set():
            raise Stopped
        if location.store in deleting.troubles:
            return 0
        try:
            with SeriesLease(self._index, study_uid, series_uid) as lease:
                if not self._index.names(location.key):
                    lease.check()
                    if not deleting.delete(location.store, [location]):
                        return 0
                    self._deleted(location.key)
                    self._sweep_copy(location, deleting)
                self._forget([location])
        except Busy:
            return 0
        return 1

    def _sweep_copy(self, location: Location, deleting: Deleting) -> None:
        """Of a pack that is gone from the archive; a copy that cannot go now is doomed by itself."""
        if location.store != ARCHIVE or COPY not in self._stores:
            return
        copy = replace(location, store=COPY)
        if not deleting.delete(COPY, [copy]):
            self._index.doom([copy], self._clock())

    def _forget(self, locations: Sequence[Location]) -> None:
        self._at(SWEPT)
        self._index.forget(locations)
