"""How a finished pack gets into the archive's object store: its removal announced first, and read back after."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gateway.archive.clock import SECOND
from gateway.archive.leases import SeriesLease
from gateway.archive.steps import DOOMED, PUT, VERIFIED, Hook
from storage.errors import Exhausted, StorageError
from storage.index import PackingIndex
from storage.objects import Location, ObjectStore
from storage.objects.disk_errors import translated
from storage.packs.verify import verify_object
from storage.packs.write import Written

_UNNAMED_SECONDS = 3600  # how long an object may lie that no index names, and so much longer when it is large:
_LEAST_BYTES_PER_SECOND = 100_000


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A name for a file in `folder`, which is gone in the end."""
    path = folder / f"{os.getpid()}-{secrets.token_hex(8)}.zip"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def check_room(folder: Path, length: int, min_free_bytes: int) -> None:
    """Raise Exhausted when less than the minimum would stay free with `length` more bytes in `folder`."""
    with translated("write"):
        free = shutil.disk_usage(folder).free
    if free - length < min_free_bytes:
        raise Exhausted(f"there is no room for a pack of {length} bytes in the folder where packs are staged")


def publish(
    written: Written,
    index: PackingIndex,
    stores: Mapping[str, ObjectStore],
    lease: SeriesLease,
    *,
    now: int,
    at: Hook,
) -> None:
    """Put the pack where it says that it lies, so that what is there is known to be `written`.

    If nothing comes to name it, the sweeper removes it after an hour or more; sooner when it was put in vain. Raises
    Damaged when it does not come back as it was, Busy when the lease was lost, Unavailable, Exhausted.
    """
    store, location = stores[written.pack.location.store], written.pack.location
    announce_removal(index, location, now)
    at(DOOMED)
    lease.check()
    store.put(location.key, written.path)
    at(PUT)
    with useless_after(StorageError, index, location, now):
        verify_object(store, location.key, location.length, written.sha256)
        at(VERIFIED)
        lease.check()


def announce_removal(index: PackingIndex, location: Location, now: int) -> None:
    """Before an object is put: let it be removed later unless something has come to name it. Under the lease."""
    seconds = _UNNAMED_SECONDS + location.length // _LEAST_BYTES_PER_SECOND
    index.respite(location, now + seconds * SECOND)  # that of an earlier attempt to copy would come too early


@contextmanager
def useless_after(failure: type[StorageError], index: PackingIndex, location: Location, now: int) -> Iterator[None]:
    """Around what is done with a pack that was put: after `failure` its removal does not wait for the announced hour.
    It may hold what was deleted in the meantime, and the next attempt makes another.
    """
    try:
        yield
    except failure:
        index.doom([location], now)
        raise
