"""Sees to it that the bytes of what was deleted are gone, without waiting for the workers of a gateway."""

import time
from collections.abc import Callable, Iterator

from gateway.archive.clock import microseconds
from gateway.archive.compactor import Compactor
from gateway.archive.leases import Busy
from gateway.archive.places import ARCHIVE, Places
from gateway.archive.sweeper import GRACE_SECONDS, Sweeper
from storage.dicom.identity import Scope
from storage.errors import Conflict, Unavailable
from storage.index import PackingIndex
from storage.objects import keys
from storage.packs import Pack
from storage.packs.documents import PackDocuments

_ROUNDS, _PAUSE_SECONDS = 900, 1.0
_MAX_DOOMED = 1 << 20


def erase(
    places: Places,
    index: PackingIndex,
    scope: Scope,
    *,
    min_free_bytes: int = 0,
    grace_seconds: float = GRACE_SECONDS,
    clock: Callable[[], int] = microseconds,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Compact and sweep, as the workers do, until no object of these series holds anything that was deleted.

    Who is reading keeps the `grace_seconds`. A gateway may run beside it. Raises Exhausted, Unavailable, also when
    others were at it for a quarter of an hour: then its workers go on.
    """
    series = Scope(scope.study_uid, scope.series_uid)
    documents = PackDocuments({ARCHIVE: places.blocks})
    compactor = Compactor(index, places.stores, documents, staging=places.packing, min_free_bytes=min_free_bytes)
    sweeper = Sweeper(index, places.stores, grace_seconds=grace_seconds, clock=clock, deleted=places.blocks.forget)
    for _ in range(_ROUNDS):
        for pack in list(_wasteful(index, series)):
            try:
                compactor.compact(pack)
            except (Busy, Conflict):
                continue  # another is at it: look again
        if not sweeper.run_once():
            if not any(_wasteful(index, series)) and not _is_doomed(index, series, clock()):
                return
            pause(_PAUSE_SECONDS)
    raise Unavailable("others are still at these series; a gateway that runs removes the rest")


def _wasteful(index: PackingIndex, series: Scope) -> Iterator[Pack]:
    """Packs from which something was removed that is still in their objects."""
    return (pack for pack in index.packs(series) if pack.positions is not None)


def _is_doomed(index: PackingIndex, series: Scope, now: int) -> bool:
    """Whether something of the series is to be deleted by now."""
    return any(_is_of(location.key, series) for location in index.doomed(now, _MAX_DOOMED))


def _is_of(key: str, series: Scope) -> bool:
    loose = keys.instance_of_spool(key)
    found = keys.series_of_pack(key) or (loose[:2] if loose else None)
    return found is not None and found[0] == series.study_uid and series.series_uid in (None, found[1])
