"""Sees to it that the bytes of what was deleted are gone, without waiting for the workers of a gateway."""

import time
from collections.abc import Callable, Iterator, Mapping

from gateway.archive.clock import microseconds
from gateway.archive.compactor import Compactor
from gateway.archive.leases import Busy
from gateway.archive.places import ARCHIVE, Places
from gateway.archive.sweeper import GRACE_SECONDS, Sweeper
from storage.dicom.identity import Scope
from storage.errors import Conflict, StorageError, Unavailable
from storage.index import PackingIndex
from storage.objects import Location
from storage.packs import Pack
from storage.packs.documents import PackDocuments

_ROUNDS, _PAUSE_SECONDS = 900, 1.0


def erase(
    places: Places,
    index: PackingIndex,
    scope: Scope,
    *,
    min_free_bytes: int = 0,
    grace_seconds: float = GRACE_SECONDS,
    clock: Callable[[], int] = microseconds,
    pause: Callable[[float], None] = time.sleep,
) -> Mapping[str, str]:
    """Compact and sweep, as the workers do, until no object of these series holds anything that was deleted. Where that
    cannot be now, by store, and why: empty when the bytes are gone.

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
        gone, troubles = sweeper.sweep()
        if gone:
            continue
        if not any(_wasteful(index, series)):
            waiting = index.doomed_of(series, due_before=clock())
            left = [(one.store, _why(one, places, sweeper, troubles)) for one in waiting]
            if all(why for _, why in left):
                return dict(left)
        pause(_PAUSE_SECONDS)
    raise Unavailable("others are still at these series; a gateway that runs removes the rest")


def _wasteful(index: PackingIndex, series: Scope) -> Iterator[Pack]:
    """Packs from which something was removed that is still in their objects."""
    return (pack for pack in index.packs(series) if pack.positions is not None)


def _why(location: Location, places: Places, sweeper: Sweeper, troubles: Mapping[str, StorageError]) -> str:
    """What keeps an object from being deleted; "" when it need only be waited for."""
    if location.store not in places.stores:
        return "this store is not configured here"
    if location.store in troubles:
        return str(troubles[location.store])
    refused = sweeper.refusals.why(location)
    return f"{location.key}: {refused}" if refused else ""
