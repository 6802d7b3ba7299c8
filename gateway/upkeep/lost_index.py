"""Whether an index was lost or moved away: it is empty, but there are objects that it should know."""

from collections.abc import Iterable

from storage.index import PackingIndex
from storage.objects import ObjectStore

PACKS, LOOSE = "packs/", "spool/"


def is_empty(index: PackingIndex) -> bool:
    """Whether nothing was ever stored in this index."""
    return not index.changes(0, 1) and next(index.packs(), None) is None


def has_objects(stores: Iterable[ObjectStore]) -> bool:
    """Whether packs or loose instances lie in one of the stores. Raises Unavailable."""
    return any(next(store.scan(prefix), None) is not None for store in stores for prefix in (PACKS, LOOSE))
