"""How an instance comes to be durable in the spool and found in the index, whatever fails or comes between.

See docs/decisions/0013-storing.md.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from gateway import log
from gateway.archive.incoming import Incoming
from gateway.archive.places import SPOOL, Places
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import Instance
from storage.errors import Conflict, NotFound, StorageError, Unavailable
from storage.index import Added, InstanceRecord, Location, MetadataIndex, Outcome, Stored
from storage.objects import keys

PACK_SEEN_SECONDS = 60.0  # how long a look at a pack holds: a series that is sent again is a look, not a thousand
_MAX_PACKS_SEEN = 1024

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
        if held is None:
            # A Conflict: what has this key may be about to be deleted, and so would be what takes its place.
            with suppress(Conflict):
                return self._take(keys.spool(instance.identity, instance.digest), instance, incoming, source)
        return self._take(
            keys.spool(instance.identity, instance.digest, secrets.token_hex(8)), instance, incoming, source
        )

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
        """The same of a loose object, which is put anew when it is lost or cut short."""
        length = self._length(held.location.key)
        if length is not None and length >= held.location.offset + held.location.length:
            return True
        if not self._names(held):
            return False
        _log.error("stored object is lost or cut short", key=held.location.key)
        healed = self._heal(held, instance, incoming, lost=length is None)
        if self._names(held):
            return True
        if healed and length is None:  # else it may be another's by now, who is about to tell the index
            self._take_back(instance, held.location)
        return False

    def _length(self, key: str) -> int | None:
        try:
            return self._places.spool.head(key).length
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
            return self.served(held.identity).location == held.location
        except NotFound:
            return False

    def _take(self, key: str, instance: Instance, incoming: Incoming, source: str) -> Added:
        """Put the bytes under `key`, which is to be ours alone, and add them. Raises Conflict when it cannot be."""
        location = self._put(key, instance, incoming)
        try:
            added = self._index.add(InstanceRecord(instance, location, self._clock(), source))
        except Exception:  # whatever it was: nothing may be left that nothing names
            self._take_back(instance, location)
            raise
        if added.outcome is Outcome.SAME:
            self._take_back(instance, location)
        return added

    def _put(self, key: str, instance: Instance, incoming: Incoming, *, if_absent: bool = True) -> Location:
        if not instance.preface:
            meta = self._places.spool.put(key, incoming.source, if_absent=if_absent)
        else:
            with incoming.preceded_by(instance.preface) as file:
                meta = self._places.spool.put(key, file.source, if_absent=if_absent)
        return Location(SPOOL, key, 0, meta.length)

    def _take_back(self, instance: Instance, location: Location) -> None:
        """Delete the object just written, unless the index may name it: it may have committed and failed to say so."""
        try:
            served = self.served(instance.identity)
            named = served.location == location or served.digest != instance.digest
        except NotFound:
            named = False
        except StorageError:
            named = True
        if named:
            return
        try:
            self._places.spool.delete([location.key])
        except StorageError as error:
            _log.warning("an object that nothing names is left", key=location.key, error=type(error).__name__)
