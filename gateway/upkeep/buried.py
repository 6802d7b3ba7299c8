"""What was deleted, as the tombstones beside the packs say: to be asked before anything is found again."""

from contextlib import suppress

from gateway.archive import tombstones
from gateway.archive.clock import SECOND
from gateway.archive.places import SPOOL, Places
from gateway.archive.tombstones import Tombstone
from storage.dicom.identity import Identity
from storage.errors import NotFound

_CLOCKS_DIFFER = 60 * SECOND


def slack(places: Places) -> int:
    """By how many microseconds the times of loose objects may be off: those of a folder are this machine's own, a
    bucket has another clock, which tells whole seconds. Within so much nothing is certain: what may be wanted stays.
    """
    return _CLOCKS_DIFFER if SPOOL in places.remote else 0


class Buried:
    """All deletions of an archive (of one study). Raises Unavailable when a tombstone cannot be read: to go on without
    it could bring back what was deleted.
    """

    def __init__(self, places: Places, study_uid: str | None = None) -> None:
        self._archive = places.archive
        self._prefix = tombstones.PREFIX if study_uid is None else f"{tombstones.PREFIX}{study_uid}/"
        self._seen: set[str] = set()
        self._of_study: dict[str, list[Tombstone]] = {}
        self.at_first = self.look()

    def look(self) -> list[tuple[str, Tombstone]]:
        """Read the tombstones that were not there at the last look: those, with their keys."""
        found = []
        for meta in self._archive.scan(self._prefix):
            if meta.key in self._seen:
                continue
            with suppress(NotFound):  # withdrawn meanwhile, or spent
                found.append((meta.key, tombstones.read(self._archive, meta)))
        for key, tombstone in found:
            self._seen.add(key)
            self._of_study.setdefault(tombstone.scope.study_uid, []).append(tombstone)
        return found

    def holds(self, identity: Identity, digest: bytes, received_at: int) -> bool:
        """Whether this version of an instance was deleted."""
        return any(stone.covers(identity, digest, received_at) for stone in self._of_study.get(identity.study_uid, ()))

    def holds_object(self, identity: Identity, key: str, written_at: int) -> bool:
        """The same of a loose object, of which its store alone knows the time: certainly deleted."""
        return any(
            stone.covers_object(identity, key, written_at) for stone in self._of_study.get(identity.study_uid, ())
        )
