"""Rewrites packs whose objects still hold what was removed, so that the bytes are really gone."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event

from gateway import log, metrics
from gateway.archive.attempts import Attempts, Tally
from gateway.archive.clock import microseconds
from gateway.archive.leases import SeriesLease
from gateway.archive.places import ARCHIVE, COPY
from gateway.archive.publishing import check_room, naming, publish, staged
from gateway.archive.steps import COMPACTED, STAGED, Hook, Stopped, unwatched
from storage.dicom.identity import Scope
from storage.errors import NotFound
from storage.index import Documents, PackingIndex
from storage.objects import Body, ObjectStore
from storage.packs import Damaged, Pack, PackedInstance
from storage.packs.write import PackWriter, Written

_AT_ONCE = 16
_log = log.get(__name__)


class Compactor:
    """Compacts within `stores["archive"]`, from the copy what is damaged or lost there; `documents` gives the metadata
    of what is left. As `Sealer` in all else.
    """

    def __init__(
        self,
        index: PackingIndex,
        stores: Mapping[str, ObjectStore],
        documents: Documents,
        *,
        staging: Path,
        min_free_bytes: int = 0,
        stop: Event | None = None,
        clock: Callable[[], int] = microseconds,
        at: Hook = unwatched,
    ) -> None:
        self._index = index
        self._stores = stores
        self._documents = documents
        self._staging = staging
        self._min_free_bytes = min_free_bytes
        self._stop = stop or Event()
        self._clock = clock
        self._at = at
        self._attempts = Attempts("compact", clock=clock, failed=lambda: metrics.upkeep_failed("compact"))

    def run_once(self) -> Tally:
        """Compact up to 16 packs. Raises Exhausted, Unavailable, and Stopped."""
        packs = self._index.wasteful(_AT_ONCE, besides=self._attempts.names_waiting)
        return self._attempts.run(packs, key=lambda pack: pack.location.key, do=self.compact)

    def compact(self, found: Pack) -> None:
        """Put what is left of a pack in its place. Raises Busy, Damaged when an instance is not what was stored,
        Conflict when something changed meanwhile, Exhausted, Unavailable, and Stopped.
        """
        with SeriesLease(self._index, found.study_uid, found.series_uid) as lease, staged(self._staging) as path:
            old = self._current(found)
            if old is None:
                return  # another was faster
            if not old.instances:
                self._index.repack(old, None)
            else:
                check_room(self._staging, old.location.length, self._min_free_bytes)
                written = self._write(path, old)
                self._at(STAGED)
                publish(written, self._index, self._stores, lease, now=self._clock(), at=self._at)
                with naming(self._index, written.pack.location, self._clock()):
                    self._index.repack(old, written.pack)
                metrics.packed("compacted", len(old.instances), written.pack.location.length)
            self._at(COMPACTED)
        _log.info("pack compacted", key=old.location.key, instances=len(old.instances))

    def _current(self, found: Pack) -> Pack | None:
        """As it is now that we have the lease; None when it is gone."""
        packs = self._index.packs(Scope(found.study_uid, found.series_uid))
        return next((pack for pack in packs if pack.pack_id == found.pack_id), None)

    def _write(self, path: Path, old: Pack) -> Written:
        try:
            return self._write_from(self._stores[ARCHIVE], path, old)
        except (Damaged, NotFound) as error:
            if COPY not in self._stores:
                raise
            try:
                written = self._write_from(self._stores[COPY], path, old)
            except NotFound:
                raise error from None
            _log.warning("a pack is damaged or lost, and is compacted from its copy", key=old.location.key)
            return written

    def _write_from(self, store: ObjectStore, path: Path, old: Pack) -> Written:
        custodian = old.location.key.split("/")[1]
        documents = self._documents.documents(old)
        highest: dict[str, int] = {}
        for packed in old.instances:
            highest[packed.sop_uid] = max(packed.revision, highest.get(packed.sop_uid, packed.revision))
        with (
            PackWriter(
                path, study_uid=old.study_uid, series_uid=old.series_uid, store=ARCHIVE, custodian=custodian
            ) as writer,
            store.get(old.location.key) as body,
        ):
            object_ = _Forward(body)
            for packed, document in zip(old.instances, documents, strict=True):
                if self._stop.is_set():
                    raise Stopped
                superseded = packed.revision < highest[packed.sop_uid]
                writer.add(packed, document, object_.span(packed), superseded=superseded)
            return writer.finish()


class _Forward:
    """An object read once from its beginning, of which spans are wanted in rising order."""

    def __init__(self, body: Body) -> None:
        self._chunks = body.chunks()
        self._held = memoryview(b"")
        self._position = 0

    def span(self, packed: PackedInstance) -> Iterator[memoryview]:
        """The bytes of an instance; fewer when the object ends before."""
        end = packed.offset + packed.length
        while self._position < end:
            if not self._held:
                self._held = memoryview(next(self._chunks, b""))
                if not self._held:
                    return
            step = (packed.offset if self._position < packed.offset else end) - self._position
            piece, self._held = self._held[:step], self._held[step:]
            if self._position >= packed.offset:
                yield piece
            self._position += len(piece)
