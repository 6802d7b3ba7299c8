"""The archive of this place: the use-cases, over an object store for the bytes and an index to find them.

What is acknowledged is durable first and findable second. See docs/decisions/0013-storing.md.
"""

import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from itertools import chain
from threading import BoundedSemaphore

from gateway import log
from gateway.archive import AS_STORED, Expected, Found, Part, Receipt, tombstones
from gateway.archive.incoming import Incoming
from gateway.archive.inflated import Inflated, as_inflated
from gateway.archive.landing import Landing
from gateway.archive.openers import Openers
from gateway.archive.parts import (
    PIXEL_DATA,
    Opener,
    Parts,
    StoredPart,
    frame,
    frames_of_value,
    pixel_syntax,
    value,
    whole,
)
from gateway.archive.places import SPOOL, Places
from gateway.archive.tombstones import Tombstone
from gateway.config import Ingest
from gateway.security.caller import Caller
from storage.dicom.frames import Layout
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import Instance
from storage.dicom.parse import parse
from storage.dicom.query import Query
from storage.dicom.syntax import EXPLICIT_LITTLE, is_deflated
from storage.errors import Exhausted, Fault, Invalid, NotAcceptable, NotFound, StorageError, Unavailable
from storage.index import Added, Contents, Outcome, PackingIndex, Removed, Stored
from storage.objects import keys
from storage.packs import PackedInstance

_TURN_SECONDS = 5.0  # how long a store waits for its turn before it is refused
_ATTEMPTS = 8  # to read an instance that is replaced while it is looked up

_log = log.get(__name__)


def _nothing(*_: int) -> None:
    """Nobody needs to be told, nothing is full."""


def _microseconds() -> int:
    return time.time_ns() // 1000


class LocalArchive:
    """An Archive over the object stores `places` and `index`. Safe under threads; several processes may share both.

    `check_backlog` raises Exhausted while nothing more should be stored, `landed` is told the length of each loose
    object that has come to be named; `trouble` says what is out of order although
    instances can be stored, "" when nothing is; `deleted` is called when objects wait to be removed.
    """

    def __init__(
        self,
        places: Places,
        index: PackingIndex,
        *,
        ingest: Ingest,
        check_backlog: Callable[[], None] = _nothing,
        landed: Callable[[int], None] = _nothing,
        trouble: Callable[[], str] = str,
        deleted: Callable[[], None] = _nothing,
        clock: Callable[[], int] = _microseconds,
    ) -> None:
        self._places = places
        self._index = index
        self._ingest = ingest
        self._check_backlog = check_backlog
        self._landed = landed
        self._trouble = trouble
        self._deleted = deleted
        self._clock = clock
        self._turns = BoundedSemaphore(ingest.max_concurrent_stores)
        self._landing = Landing(places, index, clock=clock)
        self._openers = Openers(places, self._landing.served)

    def incoming(self) -> Incoming:
        """See `Archive`."""
        return Incoming(
            self._places.staging,
            memory_bytes=self._ingest.memory_bytes_per_instance,
            max_bytes=self._ingest.max_instance_bytes,
            check_room=self._check_room,
        )

    def _check_room(self) -> None:
        self._check_backlog()
        self._places.check_room()

    def store(self, incoming: Incoming, expected: Expected, *, by: Caller) -> Receipt:
        """See `Archive`; PS3.4 B.2.2, PS3.18 10.5."""
        with self._turn():
            self._check_backlog()  # when its turn has come: what overshoots the mark is what is being stored at once
            with incoming.view() as data:
                instance = parse(data)
            _refuse_difference(expected, instance.identity)
            added = self._landing.land(instance, incoming, f"{by.door}:{by.identity}")
            if added.outcome is not Outcome.SAME:
                self._landed(len(instance.preface) + len(incoming))
            return _receipt(instance, added)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=_TURN_SECONDS):
            raise Exhausted("too many instances are being stored at once; try again later")
        try:
            yield
        finally:
            self._turns.release()

    def search(self, query: Query, *, by: Caller) -> Found:
        """See `ArchiveReader`; PS3.4 C.2.2.2, PS3.18 10.6."""
        page = self._index.search(query)
        return Found(page.rows, page.remaining, page.remaining_is_exact)

    def metadata(self, scope: Scope, *, by: Caller) -> Iterator[tuple[Identity, bytes]]:
        """See `ArchiveReader`; PS3.18 10.4.1.1.2."""
        return self._index.metadata(scope)

    def retrieve(self, scope: Scope, *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`; PS3.18 10.4.1.1.1. For now, each instance in the transfer syntax in which it came."""
        found = self._index.locate(scope)
        for syntax in {stored.transfer_syntax for stored in found}:
            _refuse_unacceptable(accept, syntax)
        runs = self._openers.series(found)
        readings = ((one, whole(one, *self._openers.steps(one))) for one in found)
        parts = (StoredPart(runs.of(one), one, one.transfer_syntax, "", reading) for one, reading in readings)
        return Parts(parts, runs.close)

    def frames(self, scope: Scope, numbers: Sequence[int], *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`; PS3.18 10.4.1.1.6. Uncompressed frames are little endian, whatever was stored.

        A video has no frames that could be told apart: NotAcceptable; it is retrieved whole, or as bulk value.
        """
        stored, contents = self._one(scope)
        if contents.frames.layout is Layout.STREAM:
            raise NotAcceptable(f"the frames of a video ({stored.transfer_syntax}) cannot be told apart")
        if not numbers:
            raise NotFound("no frames were asked for")
        # Deflated, each frame would cost reading those before it.
        is_inflated = len(numbers) > 1 and is_deflated(stored.transfer_syntax)
        lying = as_inflated(stored) if is_inflated else stored
        readings = [(number, frame(lying, contents, number)) for number in numbers]
        syntax = pixel_syntax(stored)
        _refuse_unacceptable(accept, syntax, stored.transfer_syntax)
        runs = self._openers.spans(() if is_inflated else ((stored, reading.span) for _, reading in readings))
        opener: Opener = runs.of(stored)
        if is_inflated:
            opener = Inflated(opener, stored, self._places.staging, self._places.check_room)
        parts = (StoredPart(opener, lying, syntax, f"frames/{n}", reading) for n, reading in readings)
        return Parts(parts, runs.close)

    def bulk(self, scope: Scope, path: str, *, accept: Sequence[str] = (AS_STORED,), by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`; PS3.18 10.4.1.1.5."""
        stored, contents = self._one(scope)
        found = contents.bulk.get(path)
        if found is None:
            raise NotFound("the instance has no bulk value there")
        numbers = frames_of_value(contents, path)
        if numbers is not None:
            return self.frames(scope, numbers, accept=accept, by=by)
        syntax = pixel_syntax(stored) if path.endswith(PIXEL_DATA) else EXPLICIT_LITTLE
        if path in PIXEL_DATA:
            _refuse_unacceptable(accept, syntax, stored.transfer_syntax)
        part = StoredPart(self._openers.of(stored), stored, syntax, f"bulkdata/{path}", value(stored, found))
        return Parts(iter([part]))

    def _one(self, scope: Scope) -> tuple[Stored, Contents]:
        """An instance and its contents, of one and the same version."""
        if scope.sop_uid is None:
            raise NotFound("frames and bulk values are those of one instance")
        for _ in range(_ATTEMPTS):
            stored = self._index.locate(scope)[0]
            contents = self._index.contents(scope)
            if self._index.holds(stored.identity, stored.digest):
                return stored, contents
        raise Unavailable("the instance is being replaced; try again")

    def delete(self, scope: Scope, *, by: Caller) -> Removed:
        """See `Archive`. On return nothing of it is found any more, also after the index was rebuilt; the bytes go soon
        after, when nobody can be reading them any more.
        """
        series = {one.identity.series_uid for one in self._index.locate(scope)}  # raises NotFound
        of_series = (self._names(scope, series_uid) for series_uid in sorted(series))
        names = frozenset(chain(*of_series, self._names_of_doomed(scope)))
        key = tombstones.new_key(scope)
        try:
            tombstones.put(self._places.archive, Tombstone.of(scope, self._clock(), names), key)
            removed = self._index.remove(scope)
        except NotFound:
            raise
        except StorageError as error:
            raise self._withdrawn(key, scope, error) from error
        self._deleted()
        self._name_late(scope, names, removed)
        return removed

    def _names(self, scope: Scope, series_uid: str) -> Iterator[bytes]:
        """Of all that is to be deleted of a series; loose instances first, lest one is missed that is sealed now."""
        for loose in self._index.loose(scope.study_uid, series_uid):
            if scope.sop_uid in (None, loose.packed.sop_uid):
                yield tombstones.object_name(loose.location.key)
                yield _version_name(loose.packed)
        for pack in self._index.packs(Scope(scope.study_uid, series_uid)):
            yield from (_version_name(one) for one in pack.instances if scope.sop_uid in (None, one.sop_uid))

    def _names_of_doomed(self, scope: Scope) -> Iterator[bytes]:
        """Of loose objects that were sealed just now and are still there."""
        for location in self._index.doomed_of(Scope(scope.study_uid, scope.series_uid)):
            found = keys.instance_of_spool(location.key)
            if found and scope.sop_uid in (None, found[2]):
                yield tombstones.object_name(location.key)

    def _withdrawn(self, key: str, scope: Scope, error: StorageError) -> StorageError:
        """Take back what was said, when nothing was deleted; what to tell. As long as that is not known, or cannot be
        taken back, it stands, and `UnfinishedDeletions` sees to it.
        """
        try:
            self._index.locate(scope)
            self._places.archive.delete([key])
        except StorageError as problem:
            _log.warning("a deletion that failed may still be announced", key=key, error=type(problem).__name__)
            return Unavailable(f"{error}; the deletion may stand all the same: then a gateway ends it in ten minutes")
        return error

    def _name_late(self, scope: Scope, names: Set[bytes], removed: Removed) -> None:
        """Another tombstone for loose objects that came after the first was made, and are removed with the rest."""
        spooled = [one.key for one in removed.locations if one.store == SPOOL]
        late = [name for name in map(tombstones.object_name, spooled) if name not in names]
        if not late:
            return
        try:
            tombstones.put(self._places.archive, Tombstone.of(scope, self._clock(), late))
        except StorageError as error:  # it is deleted, and the objects go soon: until then a rebuild would find them
            _log.warning("objects were deleted that no tombstone names", count=len(late), why=str(error))

    def check(self) -> str:
        """See `Archive`."""
        self._places.spool.check()
        self._index.check()
        self._check_backlog()
        return self._trouble()


def _version_name(packed: PackedInstance) -> bytes:
    return tombstones.version_name(packed.sop_uid, packed.digest, packed.received_at)


def _refuse_difference(expected: Expected, identity: Identity) -> None:
    """Raise Invalid (MISMATCH) unless the instance is what was announced (PS3.4 B.2.3, PS3.18 10.5.1.1)."""
    for announced, found, what in (
        (expected.study_uid, identity.study_uid, "Study Instance UID"),
        (expected.sop_class, identity.sop_class, "SOP Class UID"),
        (expected.sop_uid, identity.sop_uid, "SOP Instance UID"),
    ):
        if announced is not None and announced.rstrip(" \0") != found:
            raise Invalid(Fault.MISMATCH, f"the {what} of the data set is not the one announced")


def _refuse_unacceptable(accept: Sequence[str], *syntaxes: str) -> None:
    """Raise NotAcceptable unless one of `syntaxes`, which name what we have, is acceptable."""
    if AS_STORED not in accept and not any(syntax in accept for syntax in syntaxes):
        raise NotAcceptable(f"it is stored in transfer syntax {syntaxes[-1]}, which is not among those accepted")


def _receipt(instance: Instance, added: Added) -> Receipt:
    warnings = list(instance.warnings)
    if instance.repair:
        warnings.append(f"character set: {instance.repair}")
    if added.outcome is Outcome.VERSION:
        warnings.append(f"stored as version {added.revision}: other bytes were here under this SOP Instance UID")
    return Receipt(instance.identity, added.outcome, added.revision, tuple(warnings))
