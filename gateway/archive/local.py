"""The archive of this place: the use-cases, over an object store for the bytes and an index to find them.

What is acknowledged is durable first and findable second. See docs/decisions/0013-storing.md.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import BoundedSemaphore

from gateway import log
from gateway.archive import AS_STORED, Expected, Found, Part, Receipt
from gateway.archive.incoming import Incoming
from gateway.archive.inflated import Inflated, as_inflated
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
from gateway.config import Ingest
from gateway.security.caller import Caller
from storage.dicom.frames import Layout
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import Instance
from storage.dicom.parse import parse
from storage.dicom.query import Query
from storage.dicom.syntax import EXPLICIT_LITTLE, is_deflated
from storage.errors import Conflict, Exhausted, Fault, Invalid, NotAcceptable, NotFound, StorageError, Unavailable
from storage.index import Added, Contents, InstanceRecord, Location, MetadataIndex, Outcome, Removed, Stored
from storage.objects import ObjectStore, keys

SPOOL = "spool"
_TURN_SECONDS = 5.0  # how long a store waits for its turn before it is refused
_ATTEMPTS = 8  # to read an instance that is replaced while it is looked up

_log = log.get(__name__)


def _microseconds() -> int:
    return time.time_ns() // 1000


class LocalArchive:
    """An Archive over `spool` and `index`. `staging` is a folder for what is being received, best on the same file
    system as the spool; `check_room` raises Exhausted when nothing more should be written there.
    Safe under threads; several processes may share spool and index.
    """

    def __init__(
        self,
        spool: ObjectStore,
        index: MetadataIndex,
        *,
        staging: Path,
        ingest: Ingest,
        check_room: Callable[[], None] = lambda: None,
        clock: Callable[[], int] = _microseconds,
    ) -> None:
        self._spool = spool
        self._index = index
        self._staging = staging
        self._ingest = ingest
        self._check_room = check_room
        self._clock = clock
        self._turns = BoundedSemaphore(ingest.max_concurrent_stores)

    def incoming(self) -> Incoming:
        """See `Archive`."""
        return Incoming(
            self._staging,
            memory_bytes=self._ingest.memory_bytes_per_instance,
            max_bytes=self._ingest.max_instance_bytes,
            check_room=self._check_room,
        )

    def store(self, incoming: Incoming, expected: Expected, *, by: Caller) -> Receipt:
        """See `Archive`; PS3.4 B.2.2, PS3.18 10.5."""
        with self._turn():
            with incoming.view() as data:
                instance = parse(data)
            _refuse_difference(expected, instance.identity)
            held = self._held(instance)
            if held is not None and self._is_whole(held, instance, incoming):
                return _receipt(instance, Added(Outcome.SAME, held.revision))
            location = self._write(instance, incoming, being_deleted=held is not None)
            return _receipt(instance, self._add(instance, location, f"{by.door}:{by.identity}"))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=_TURN_SECONDS):
            raise Exhausted("too many instances are being stored at once; try again later")
        try:
            yield
        finally:
            self._turns.release()

    def _held(self, instance: Instance) -> Stored | None:
        """The served version when it has these bytes."""
        if not self._index.holds(instance.identity, instance.digest):
            return None
        try:
            served = self._served(instance.identity)
        except NotFound:
            return None
        return served if served.digest == instance.digest else None

    def _is_whole(self, held: Stored, instance: Instance, incoming: Incoming) -> bool:
        """Whether the object is there, put anew when it is lost or cut short: to say that we have what is lost would be
        to lose it for good. False when it was deleted or replaced meanwhile.
        """
        length = self._length(held.location.key)
        if length is not None and length >= held.location.offset + held.location.length:
            return True
        _log.error("stored object is lost or cut short", key=held.location.key)
        healed = self._heal(held, instance, incoming, lost=length is None)
        if self._names(held):
            return True
        if healed and length is None:  # else it may be another's by now, who is about to tell the index
            self._take_back(instance, held.location)
        return False

    def _length(self, key: str) -> int | None:
        try:
            return self._spool.head(key).length
        except NotFound:
            return None

    def _heal(self, held: Stored, instance: Instance, incoming: Incoming, *, lost: bool) -> bool:
        """Put the object anew; False when somebody else has put it first."""
        location = held.location
        length = len(instance.preface) + len(incoming)
        if location.offset or (location.length, held.header_length) != (length, instance.header_length):
            raise Unavailable("the stored object of this instance is damaged, and these bytes cannot take its place")
        try:
            self._put(location.key, instance, incoming, if_absent=lost)
        except Conflict:
            return False
        return True

    def _names(self, held: Stored) -> bool:
        try:
            return self._served(held.identity).location == held.location
        except NotFound:
            return False

    def _served(self, identity: Identity) -> Stored:
        return self._index.locate(_scope(identity))[0]

    def _write(self, instance: Instance, incoming: Incoming, *, being_deleted: bool) -> Location:
        """Put the bytes under a key that is ours alone: what has the usual one may be about to be deleted, and so would
        what takes its place while it is `being_deleted`.
        """
        if not being_deleted:
            with suppress(Conflict):
                return self._put(keys.spool(instance.identity, instance.digest), instance, incoming)
        return self._put(keys.spool(instance.identity, instance.digest, secrets.token_hex(8)), instance, incoming)

    def _put(self, key: str, instance: Instance, incoming: Incoming, *, if_absent: bool = True) -> Location:
        if not instance.preface:
            meta = self._spool.put(key, incoming.source, if_absent=if_absent)
        else:
            with incoming.preceded_by(instance.preface) as file:
                meta = self._spool.put(key, file.source, if_absent=if_absent)
        return Location(SPOOL, key, 0, meta.length)

    def _add(self, instance: Instance, location: Location, source: str) -> Added:
        try:
            added = self._index.add(InstanceRecord(instance, location, self._clock(), source))
        except Exception:  # whatever it was: nothing may be left that nothing names
            self._take_back(instance, location)
            raise
        if added.outcome is Outcome.SAME:
            self._take_back(instance, location)
        return added

    def _take_back(self, instance: Instance, location: Location) -> None:
        """Delete the object just written, unless the index may name it: it may have committed and failed to say so."""
        try:
            served = self._served(instance.identity)
            named = served.location == location or served.digest != instance.digest
        except NotFound:
            named = False
        except StorageError:
            named = True
        if named:
            return
        try:
            self._spool.delete([location.key])
        except StorageError as error:
            _log.warning("an object that nothing names is left", key=location.key, error=type(error).__name__)

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
        return Parts(StoredPart(self._spool, one, one.transfer_syntax, "", whole(one)) for one in found)

    def frames(self, scope: Scope, numbers: Sequence[int], *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`; PS3.18 10.4.1.1.6. Uncompressed frames are little endian, whatever was stored.

        A video has no frames that could be told apart: NotAcceptable; it is retrieved whole, or as bulk value.
        """
        stored, contents = self._one(scope)
        if contents.frames.layout is Layout.STREAM:
            raise NotAcceptable(f"the frames of a video ({stored.transfer_syntax}) cannot be told apart")
        opener, lying = self._seekable(stored) if len(numbers) > 1 else (self._spool, stored)
        readings = [(number, frame(lying, contents, number)) for number in numbers]
        if not readings:
            raise NotFound("no frames were asked for")
        syntax = pixel_syntax(stored)
        _refuse_unacceptable(accept, syntax, stored.transfer_syntax)
        return Parts(StoredPart(opener, lying, syntax, f"frames/{n}", reading) for n, reading in readings)

    def _seekable(self, stored: Stored) -> tuple[Opener, Stored]:
        """What opens the object of `stored`, and how it lies there, so that no frame costs reading those before it."""
        if not is_deflated(stored.transfer_syntax):
            return self._spool, stored
        return Inflated(self._spool, stored, self._staging, self._check_room), as_inflated(stored)

    def bulk(self, scope: Scope, path: str, *, by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`; PS3.18 10.4.1.1.5."""
        stored, contents = self._one(scope)
        found = contents.bulk.get(path)
        if found is None:
            raise NotFound("the instance has no bulk value there")
        numbers = frames_of_value(contents, path)
        if numbers is not None:
            return self.frames(scope, numbers, accept=[AS_STORED], by=by)
        syntax = pixel_syntax(stored) if path.endswith(PIXEL_DATA) else EXPLICIT_LITTLE
        return Parts(iter([StoredPart(self._spool, stored, syntax, f"bulkdata/{path}", value(stored, found))]))

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
        """See `Archive`. First nothing is found any more, then the bytes go."""
        removed = self._index.remove(scope)
        self._spool.delete(location.key for location in removed.locations if location.store == SPOOL)
        return removed

    def check(self) -> None:
        """See `Archive`."""
        self._spool.check()
        self._index.check()


def _scope(identity: Identity) -> Scope:
    return Scope(identity.study_uid, identity.series_uid, identity.sop_uid)


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
