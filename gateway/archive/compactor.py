"""Rewrites packs: those whose objects still hold what was removed, so that the bytes are really gone, and small ones of
a series that trickled in, so that they become one.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from threading import Event

from gateway import log, metrics
from gateway.archive.attempts import Attempts, Tally
from gateway.archive.clock import microseconds
from gateway.archive.leases import SeriesLease
from gateway.archive.places import ARCHIVE, COPY
from gateway.archive.publishing import check_room, publish, staged, useless_after
from gateway.archive.steps import COMPACTED, MERGED, STAGED, Hook, Stopped, unwatched
from storage.dicom.identity import Scope
from storage.errors import Conflict, NotFound
from storage.index import Documents, PackingIndex
from storage.objects import Body, Buffer, ObjectStore
from storage.packs import Damaged, Pack, PackedInstance
from storage.packs.merging import to_be_merged
from storage.packs.metadata import FULL_BYTES as FULL_METADATA_BYTES
from storage.packs.write import PackWriter, Written, place

_AT_ONCE = 16
_log = log.get(__name__)


class Compactor:
    """Compacts within `stores["archive"]`, from the copy what is damaged or lost there; `documents` gives the metadata
    of what is left. None that it merges is larger than `max_pack_bytes`. As `Sealer` in all else.
    """

    def __init__(
        self,
        index: PackingIndex,
        stores: Mapping[str, ObjectStore],
        documents: Documents,
        *,
        staging: Path,
        min_free_bytes: int = 0,
        max_pack_bytes: int = 8 << 30,
        stop: Event | None = None,
        clock: Callable[[], int] = microseconds,
        at: Hook = unwatched,
    ) -> None:
        self._index = index
        self._stores = stores
        self._documents = documents
        self._staging = staging
        self._min_free_bytes = min_free_bytes
        self._max_pack_bytes = max_pack_bytes
        self._stop = stop or Event()
        self._clock = clock
        self._at = at
        self._attempts = Attempts("compact", clock=clock, failed=lambda: metrics.upkeep_failed("compact"))
        self._merges = Attempts("merge", clock=clock, failed=lambda: metrics.upkeep_failed("merge"))

    def run_once(self) -> Tally:
        """Compact up to 16 packs. Raises Exhausted, Unavailable, and Stopped."""
        packs = self._index.wasteful(_AT_ONCE, besides=self._attempts.names_waiting)
        return self._attempts.run(packs, key=lambda pack: pack.location.key, do=self.compact)

    def merge_once(self) -> Tally:
        """Merge small packs of up to 16 series, once in each. Raises Exhausted, Unavailable, and Stopped."""
        series = self._index.crowded(_AT_ONCE + self._merges.waiting)
        return self._merges.run(series, key=lambda one: f"{one.study_uid}/{one.series_uid}", do=self.merge)

    def compact(self, found: Pack) -> None:
        """Put what is left of a pack in its place. Raises Busy, Damaged when an instance is not what was stored,
        Conflict when something changed meanwhile, Exhausted, Unavailable, and Stopped.
        """
        with SeriesLease(self._index, found.study_uid, found.series_uid) as lease:
            old = self._current(found)
            if old is None:
                return  # another was faster
            if not old.instances:
                self._index.repack([old], None)
            else:
                self._replace([old], lease, "compacted")
            self._at(COMPACTED)
        _log.info("pack compacted", key=old.location.key, instances=len(old.instances))

    def merge(self, series: Scope) -> None:
        """Make one pack of those that `to_be_merged` names. Raises as `compact`, and Conflict when it names none."""
        assert series.series_uid is not None
        with SeriesLease(self._index, series.study_uid, series.series_uid) as lease:
            old = to_be_merged(list(self._index.packs(series)), self._max_pack_bytes)
            if not old:
                raise Conflict("its packs were merged by another, or are to stay as they are")
            new = self._replace(old, lease, "merged")
            self._at(MERGED)
        _log.info("packs merged", key=new.location.key, packs=len(old), instances=len(new.instances))

    def _current(self, found: Pack) -> Pack | None:
        """As it is now that we have the lease; None when it is gone."""
        packs = self._index.packs(Scope(found.study_uid, found.series_uid))
        return next((pack for pack in packs if pack.pack_id == found.pack_id), None)

    def _replace(self, old: Sequence[Pack], lease: SeriesLease, act: str) -> Pack:
        """The pack that stands for these now."""
        with staged(self._staging) as path:
            check_room(self._staging, sum(pack.location.length for pack in old), self._min_free_bytes)
            written = self._write(path, old)
            self._at(STAGED)
            publish(written, self._index, self._stores, lease, now=self._clock(), at=self._at)
            with useless_after(Conflict, self._index, written.pack.location, self._clock()):
                self._index.repack(old, written.pack)
        metrics.packed(act, len(written.pack.instances), written.pack.location.length)
        return written.pack

    def _write(self, path: Path, old: Sequence[Pack]) -> Written:
        try:
            return self._write_from(self._stores[ARCHIVE], path, old)
        except (Damaged, NotFound) as error:
            if COPY not in self._stores:
                raise
            try:
                written = self._write_from(self._stores[COPY], path, old)
            except NotFound:
                raise error from None
            keys = [pack.location.key for pack in old]
            _log.warning("a pack is damaged or lost, and is written anew from its copy", keys=keys)
            return written

    def _write_from(self, store: ObjectStore, path: Path, old: Sequence[Pack]) -> Written:
        custodian = old[0].location.key.split("/")[1]
        highest: dict[str, int] = {}
        for packed in chain.from_iterable(pack.instances for pack in old):
            highest[packed.sop_uid] = max(packed.revision, highest.get(packed.sop_uid, packed.revision))
        documents = self._documents_of(old)
        with (
            PackWriter(
                path, study_uid=old[0].study_uid, series_uid=old[0].series_uid, store=ARCHIVE, custodian=custodian
            ) as writer,
            ExitStack() as opened,
        ):
            objects = [opened.enter_context(closing(_Forward(store, pack))) for pack in old]
            sources = [
                zip(pack.instances, found, repeat(object_, len(pack.instances)), strict=True)
                for pack, found, object_ in zip(old, documents, objects, strict=True)
            ]
            for packed, document, object_ in heapq.merge(*sources, key=lambda source: place(source[0])):
                if self._stop.is_set():
                    raise Stopped
                if writer.full:
                    raise Conflict("these packs have too much metadata for one")
                superseded = packed.revision < highest[packed.sop_uid]
                writer.add(packed, document, object_.span(packed), superseded=superseded)
            return writer.finish()

    def _documents_of(self, old: Sequence[Pack]) -> list[Sequence[bytes]]:
        """The metadata of each; Conflict when there is more of it than a pack should have."""
        found: list[Sequence[bytes]] = []
        length = 0
        for pack in old:
            found.append(self._documents.documents(pack))
            length += sum(map(len, found[-1]))
            if len(old) > 1 and length > FULL_METADATA_BYTES // 2:
                raise Conflict("these packs have too much metadata for one")
        return found


class _Forward:
    """The object of a pack, read once from its beginning when spans of it are wanted, in rising order. Close it."""

    def __init__(self, store: ObjectStore, pack: Pack) -> None:
        self._open = partial(store.get, pack.location.key)
        self._end = max(packed.offset + packed.length for packed in pack.instances)
        self._body: Body | None = None
        self._chunks: Iterator[Buffer] = iter(())
        self._held = memoryview(b"")
        self._position = 0

    def span(self, packed: PackedInstance) -> Iterator[memoryview]:
        """The bytes of an instance; fewer when the object ends before."""
        if self._body is None:
            self._body = self._open()
            self._chunks = self._body.chunks()
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
        if end == self._end:
            self.close()

    def close(self) -> None:
        """Give back what it is read by."""
        self._held = memoryview(b"")
        if self._body is not None:
            self._body.close()
