"""How an instance comes to be durable in the spool and found in the index, whatever fails or comes between.

See docs/decisions/0013-storing.md.
"""

import time
from collections.abc import Callable
from contextlib import suppress

from gateway import log
from gateway.archive.incoming import Incoming
from gateway.archive.places import SPOOL, Places
from storage.dicom.digest import digest_of_header
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import Instance
from storage.errors import Conflict, Exhausted, Invalid, NotFound, StorageError, Unavailable
from storage.index import Added, InstanceRecord, Location, MetadataIndex, Outcome, Stored
from storage.objects import keys
from storage.packs import Damaged
from storage.packs.checked import verified_chunks

PACK_SEEN_SECONDS = 60.0  # how long a look at a pack holds: a series that is sent again is a look, not a thousand
_MAX_PACKS_SEEN = 1024
_MAX_HEADER_BYTES = 1 << 20  # of a damaged object, that are kept
_NOT_HEALED = "the stored object of this instance is damaged, and these bytes cannot take its place"

_log = log.get(__name__)


class Landing:
    """Where instances arrive. Safe under threads; several processes may share spool and index."""

    def __init__(self, places: Places, index: MetadataIndex, *, clock: Callable[[], int]) -> None:
        self._places = places
        self._index = index
        self._clock = clock
        self._packs_seen: dict[str, float] = {}  # until when a pack counts as there

    def land(self, instance: Instance, incoming: Incoming, source: str) -> Added:
        """Make it durable, then findable; nothing is written when exactly these bytes are here already.

        Raises Exhausted, Unavailable: then it is not found, unless it was before.
        """
        held = self._held(instance)
        if held is not None and self._is_whole(held, instance, incoming):
            return Added(Outcome.SAME, held.revision)
        key = keys.spool(instance.identity, instance.digest)
        try:
            location = self._put(key, instance.preface, incoming)
        except Unavailable:  # a bucket may have it, or come to have it, and have failed to say so
            self._doom(Location(SPOOL, key, 0, 0))
            raise
        try:
            added = self._index.add(InstanceRecord(instance, location, self._clock(), source))
        except Exhausted:  # it was not committed
            self._delete(location)
            raise
        except Exception:  # it may have been, or be yet
            self._doom(location)
            raise
        if added.outcome is Outcome.SAME:
            self._take_back(location, instance.identity)
        return added

    def served(self, identity: Identity) -> Stored:
        """Where the version lies that is served now. Raises NotFound."""
        return self._index.locate(Scope(identity.study_uid, identity.series_uid, identity.sop_uid))[0]

    def _held(self, instance: Instance) -> Stored | None:
        """The served version when it has these bytes."""
        if not self._index.holds(instance.identity, instance.digest):
            return None
        try:
            served = self.served(instance.identity)
        except NotFound:
            return None
        return served if served.digest == instance.digest else None

    def _is_whole(self, held: Stored, instance: Instance, incoming: Incoming) -> bool:
        """Whether the object is there: to say that we have what is lost would be to lose it for good. False when it was
        deleted, replaced or moved meanwhile.
        """
        if held.location.store == SPOOL:
            return self._is_whole_loose(held, instance, incoming)
        if self._is_in_pack(held.location):
            return True
        if not self._names(held):
            return False
        _log.error("a pack is lost or cut short", key=held.location.key)
        raise Unavailable("the pack of this instance is lost or cut short: run `gateway verify --repair`")

    def _is_in_pack(self, location: Location) -> bool:
        now = time.monotonic()
        if self._packs_seen.get(location.key, 0.0) > now:
            return True
        try:
            length = self._places.packs.head(location.key).length
        except NotFound:
            return False
        if length < location.offset + location.length:
            return False
        if len(self._packs_seen) >= _MAX_PACKS_SEEN:
            self._packs_seen.clear()
        self._packs_seen[location.key] = now + PACK_SEEN_SECONDS
        return True

    def _is_whole_loose(self, held: Stored, instance: Instance, incoming: Incoming) -> bool:
        """The same of a loose object, which is read once, and put anew when it is lost or damaged."""
        lost = False
        try:
            self._read_through(held)
            return True
        except NotFound:
            lost = True
        except (Damaged, Invalid):  # Invalid: it ends before the instance does
            pass
        if not self._names(held):
            return False
        _log.error("stored object is lost or damaged", key=held.location.key)
        self._heal(held, instance, incoming, lost=lost)
        if self._names(held):
            return True
        self._doom(held.location)
        return False

    def _read_through(self, held: Stored) -> None:
        """Raises NotFound, Damaged, Invalid, Unavailable."""
        location = held.location
        with self._places.spool.get(location.key, (location.offset, location.length)) as body:
            chunks = verified_chunks(
                body.chunks(), held.transfer_syntax, held.header_length, held.digest, held.header_digest
            )
            for _ in chunks:
                pass

    def _heal(self, held: Stored, instance: Instance, incoming: Incoming, *, lost: bool) -> None:
        """Put the object anew as it was, byte by byte, unless somebody else has put it first.

        Another sender's file meta information does not take the place of what the index has the digest of: that is
        kept, if it is whole.
        """
        location = held.location
        preface, start = instance.preface, 0
        if (held.header_length, held.header_digest) != (instance.header_length, instance.header_digest):
            preface, start = self._header(held), instance.header_length - len(instance.preface)
        if location.offset or location.length != len(preface) + len(incoming) - start:
            raise Unavailable(_NOT_HEALED)
        with suppress(Conflict):
            self._put(location.key, preface, incoming, start=start, if_absent=lost)

    def _header(self, held: Stored) -> bytes:
        """What lies before the data set of a loose object. Raises Unavailable when it is not what it was."""
        if held.header_length > _MAX_HEADER_BYTES:
            raise Unavailable(_NOT_HEALED)
        try:
            with self._places.spool.get(held.location.key, (0, held.header_length)) as body:
                header = body.read()
        except (NotFound, Invalid) as error:
            raise Unavailable(_NOT_HEALED) from error
        if digest_of_header(header) != held.header_digest:
            raise Unavailable(_NOT_HEALED)
        return header

    def _names(self, held: Stored) -> bool:
        try:
            return self.served(held.identity).location == held.location
        except NotFound:
            return False

    def _put(self, key: str, preface: bytes, incoming: Incoming, *, start: int = 0, if_absent: bool = True) -> Location:
        """Store `preface` and what came in, from byte `start` on."""
        if not preface and not start:
            meta = self._places.spool.put(key, incoming.source, if_absent=if_absent)
        else:
            with incoming.preceded_by(preface, start=start) as file:
                meta = self._places.spool.put(key, file.source, if_absent=if_absent)
        return Location(SPOOL, key, 0, meta.length)

    def _doom(self, location: Location) -> None:
        """Let the sweeper remove an object, unless the index names it, whenever it comes to know."""
        self._leave(location, lambda: self._index.doom([location], self._clock()))

    def _take_back(self, location: Location, identity: Identity) -> None:
        """Remove an object when another was faster to put the same elsewhere, and not to name this one: who rebuilds
        the index meanwhile has found it here.
        """

        def remove() -> None:
            try:
                is_here = self.served(identity).location == location
            except NotFound:
                is_here = False
            if not is_here:
                self._places.spool.delete([location.key])

        self._leave(location, remove)

    def _delete(self, location: Location) -> None:
        """Remove an object that nothing names, nor ever will: its key was ours alone."""
        self._leave(location, lambda: self._places.spool.delete([location.key]))

    def _leave(self, location: Location, remove: Callable[[], None]) -> None:
        try:
            remove()
        except StorageError as error:  # `gateway verify --repair` finds it
            _log.warning("an object that nothing may name is left", key=location.key, error=type(error).__name__)
