"""Copies packs to a second object store, so that they outlive the first; each is read back before it counts."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event

from gateway import log, metrics
from gateway.archive.attempts import Attempts, Tally
from gateway.archive.clock import SECOND, microseconds
from gateway.archive.leases import SeriesLease
from gateway.archive.places import ARCHIVE, COPY
from gateway.archive.publishing import announce_removal, check_room, staged
from gateway.archive.steps import Hook, Stopped, unwatched
from storage.errors import NotFound
from storage.index import PackingIndex
from storage.objects import Location, ObjectStore
from storage.objects.disk_errors import translated
from storage.packs import Damaged, Pack
from storage.packs.whole import verified_whole

COPY_PUT = "copy put"  # the copy is there, and not confirmed
_AT_ONCE = 8

_log = log.get(__name__)


class Copier:
    """Copies what lies in `stores["archive"]` to `stores["copy"]`, under the lease of each series.

    A copy that lies there already is read and, when it is whole, used: no two packs ever have one key. The removal of
    a copy is announced before it is put: if the pack is deleted meanwhile, or we are killed, the sweeper finds the copy
    by that, and leaves it alone when the pack is there.
    """

    def __init__(
        self,
        index: PackingIndex,
        stores: Mapping[str, ObjectStore],
        *,
        staging: Path,
        min_free_bytes: int = 0,
        stop: Event | None = None,
        clock: Callable[[], int] = microseconds,
        at: Hook = unwatched,
    ) -> None:
        self._index = index
        self._archive = stores[ARCHIVE]
        self._copy = stores[COPY]
        self._staging = staging
        self._min_free_bytes = min_free_bytes
        self._stop = stop or Event()
        self._clock = clock
        self._at = at
        self._attempts = Attempts("copy", clock=clock, failed=lambda: metrics.upkeep_failed("copy"))

    def run_once(self) -> Tally:
        """Copy up to 8 packs, those that wait longest first. Raises Exhausted, Unavailable, and Stopped."""
        oldest = self._index.uncopied(COPY, 1)
        received = [instance.received_at for pack in oldest for instance in pack.instances]
        packs = self._index.uncopied(COPY, _AT_ONCE, besides=self._attempts.names_waiting)
        metrics.copy_lag(max((self._clock() - min(received)) / SECOND, 0) if received else 0)
        return self._attempts.run(packs, key=lambda pack: pack.location.key, do=self.copy)

    def copy(self, pack: Pack) -> None:
        """Copy one pack and confirm it. Raises Busy, Damaged when the pack or its copy is not right, Unavailable."""
        key = pack.location.key
        location = Location(COPY, key, 0, pack.location.length)
        with SeriesLease(self._index, pack.study_uid, pack.series_uid) as lease, staged(self._staging) as path:
            if not self._index.names(key):
                return  # deleted, or compacted
            announce_removal(self._index, location, self._clock())
            was_there = self._is_there(pack)
            if not was_there:
                check_room(self._staging, pack.location.length, self._min_free_bytes)
                self._fetch(pack, path)
                lease.check()
                self._copy.put(key, path, if_absent=False)
                self._at(COPY_PUT)
                self._verify(pack)
            lease.check()
            self._index.copied(pack, COPY)
        metrics.packed("copied", len(pack.instances), pack.location.length)
        _log.info("pack copied", key=key, bytes=pack.location.length, was_there=was_there)

    def _is_there(self, pack: Pack) -> bool:
        """Whether the copy lies there, whole: the index was rebuilt, or the gateway killed before it was confirmed."""
        try:
            self._copy.head(pack.location.key)
            self._verify(pack)
        except NotFound:
            return False
        except Damaged as error:
            _log.warning("a copy is not what the pack is, and is replaced", key=error.key, why=str(error))
            return False
        return True

    def _verify(self, pack: Pack) -> None:
        for _ in self._blocks(self._copy, pack):
            pass

    def _fetch(self, pack: Pack, path: Path) -> None:
        with translated("write"), open(path, "wb") as file:
            for block in self._blocks(self._archive, pack):
                file.write(block)

    def _blocks(self, store: ObjectStore, pack: Pack) -> Iterator[bytes]:
        with store.get(pack.location.key) as body:
            for block in verified_whole(body.chunks(), pack.blocks, key=pack.location.key):
                if self._stop.is_set():
                    raise Stopped
                yield block
