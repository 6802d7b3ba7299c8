"""Copies packs to a second object store, so that they outlive the first; each is read back before it counts."""

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from threading import Event

from gateway import log, metrics
from gateway.archive.attempts import Attempts, Tally
from gateway.archive.clock import SECOND, microseconds
from gateway.archive.leases import SeriesLease
from gateway.archive.places import ARCHIVE, COPY
from gateway.archive.publishing import announce_removal, check_room, staged
from gateway.archive.steps import Hook, Stopped, unwatched
from storage.errors import Conflict
from storage.index import PackingIndex
from storage.objects import Location, ObjectStore
from storage.objects.disk_errors import translated
from storage.packs import Damaged, Pack
from storage.packs.verify import verify_object
from storage.packs.whole import verified_whole

COPY_PUT = "copy put"  # the copy is there, and not confirmed
_AT_ONCE = 8

_log = log.get(__name__)


class Copier:
    """Copies what lies in `stores["archive"]` to `stores["copy"]`, under the lease of each series.

    The removal of a copy is announced before it is put: if the pack is deleted meanwhile, or we are killed, the sweeper
    finds the copy by that, and leaves it alone when the pack is there.
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
            check_room(self._staging, pack.location.length, self._min_free_bytes)
            digest = self._fetch(pack, path)
            announce_removal(self._index, location, self._clock())
            lease.check()
            self._put(pack, path, digest)
            self._at(COPY_PUT)
            lease.check()
            self._index.copied(pack, COPY)
            self._index.forget([location])
        metrics.packed("copied", len(pack.instances), pack.location.length)
        _log.info("pack copied", key=key, bytes=pack.location.length)

    def _fetch(self, pack: Pack, path: Path) -> bytes:
        """Its SHA-256."""
        digest = sha256()
        with translated("write"), open(path, "wb") as file:
            for block in self._blocks(pack):
                digest.update(block)
                file.write(block)
        return digest.digest()

    def _blocks(self, pack: Pack) -> Iterator[bytes]:
        with self._archive.get(pack.location.key) as body:
            for block in verified_whole(body.chunks(), pack.blocks, key=pack.location.key):
                if self._stop.is_set():
                    raise Stopped
                yield block

    def _put(self, pack: Pack, path: Path, digest: bytes) -> None:
        key, length = pack.location.key, pack.location.length
        try:
            self._copy.put(key, path)
        except Conflict:  # of an earlier attempt, or of a pack of the same instances that was deleted
            try:
                verify_object(self._copy, key, length, digest)
                return
            except Damaged:
                self._copy.put(key, path, if_absent=False)
        verify_object(self._copy, key, length, digest)
