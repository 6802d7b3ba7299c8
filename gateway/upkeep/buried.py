"""What was deleted, as the tombstones beside the packs say: to be asked before anything is found again."""

from gateway.archive import tombstones
from gateway.archive.clock import SECOND
from gateway.archive.tombstones import Tombstone
from storage.dicom.identity import Identity
from storage.objects import ObjectStore

# The time of an object is that of its store, in whole seconds perhaps; all others are our own clock's. Within so much
# of each other they tell nothing, and what may be wanted is kept.
CLOCKS_DIFFER = 60 * SECOND


class Buried:
    """All deletions of an archive (of one study). Raises Unavailable when a tombstone cannot be read: to go on without
    it could bring back what was deleted.
    """

    def __init__(self, archive: ObjectStore, study_uid: str | None = None) -> None:
        self._of_study: dict[str, list[Tombstone]] = {}
        for _, tombstone in tombstones.scan(archive, study_uid):
            self._of_study.setdefault(tombstone.scope.study_uid, []).append(tombstone)

    def holds(self, identity: Identity, received_at: int) -> bool:
        """Whether this version of an instance was deleted."""
        return any(stone.covers(identity, received_at) for stone in self._of_study.get(identity.study_uid, ()))

    def holds_object(self, identity: Identity, written_at: int) -> bool:
        """The same of a loose object, of which its store alone knows the time: certainly deleted."""
        return self.holds(identity, written_at + CLOCKS_DIFFER)
