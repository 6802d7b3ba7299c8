"""What a rebuild of the index tells of each object."""

from dataclasses import dataclass
from enum import StrEnum

from storage.errors import Invalid, NotFound, StorageError
from storage.objects import ObjectStore


class Fate(StrEnum):
    """What became of an object."""

    ADOPTED = "adopted"  # its instances can be found
    KNOWN = "known"  # they could be found already
    DOOMED = "doomed"  # nothing needs it: the gateway will delete it
    LEFT = "left"  # it cannot be read, or is not whole: it stays, and what lies elsewhere too is not taken from it
    BURIED = "buried"  # it is a tombstone: what the index had of what it names is removed
    MISSING = "missing"  # it is not where it should lie: the index names it, or the copy alone has it


@dataclass(frozen=True, slots=True)
class Done:
    """An object, and how many instances it brought into the index; `why` it was left or doomed, or is missing."""

    key: str
    fate: Fate
    instances: int = 0
    why: str = ""


def left(store: ObjectStore, key: str, error: StorageError) -> Done:
    """What cannot be read is passed over, unless it is the store that does not answer (Unavailable)."""
    if isinstance(error, NotFound):
        return Done(key, Fate.LEFT, why="it vanished meanwhile")
    if not isinstance(error, Invalid):
        store.check()
    return Done(key, Fate.LEFT, why=str(error))


def is_gone(store: ObjectStore, key: str) -> bool:
    """Whether there is no such object. Raises Unavailable."""
    try:
        store.head(key)
    except NotFound:
        return True
    return False
