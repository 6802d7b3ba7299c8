"""How a finished pack gets into the archive's object store: its removal announced first, and read back after."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gateway import log
from gateway.archive.clock import SECOND
from gateway.archive.leases import SeriesLease
from gateway.archive.steps import DOOMED, PUT, VERIFIED, Hook
from storage.errors import Conflict, Exhausted
from storage.index import PackingIndex
from storage.objects import Location, ObjectStore
from storage.objects.disk_errors import translated
from storage.packs import Damaged
from storage.packs.verify import verify_object
from storage.packs.write import Written

_UNNAMED_SECONDS = 3600  # how long an object may lie that no index names, and so much longer when it is large:
_LEAST_BYTES_PER_SECOND = 100_000

_log = log.get(__name__)


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

    If nothing comes to name it, the sweeper removes it after an hour or more. Raises Damaged when it does not come back
    as it was, Busy when the lease was lost, Conflict when a pack there is named already, Unavailable, Exhausted.
    """
    pack = written.pack
    store, key = stores[pack.location.store], pack.location.key
    if index.names(key):
        raise Conflict("these instances lie in this pack already")
    announce_removal(index, pack.location, now)
    at(DOOMED)
    lease.check()
    try:
        store.put(key, written.path)
    except Conflict:  # an earlier run, or another, came so far
        _use(store, key, written)
    else:
        at(PUT)
        verify_object(store, key, pack.blocks.length, written.sha256)
    at(VERIFIED)
    lease.check()


def _use(store: ObjectStore, key: str, written: Written) -> None:
    """Make sure of what is there already; nothing names it. The same instances may have come at another time, or the
    attempt may have been cut short: then it is replaced.
    """
    try:
        verify_object(store, key, written.pack.blocks.length, written.sha256)
    except Damaged:
        _log.warning("the pack that an earlier attempt left is another, and is replaced", key=key)
        store.put(key, written.path, if_absent=False)
        verify_object(store, key, written.pack.blocks.length, written.sha256)


def announce_removal(index: PackingIndex, location: Location, now: int) -> None:
    """Before an object is put: let it be removed later unless something has come to name it. Under the lease."""
    seconds = _UNNAMED_SECONDS + location.length // _LEAST_BYTES_PER_SECOND
    index.respite(location, now + seconds * SECOND)  # what was announced for an earlier attempt would come too early


@contextmanager
def naming(index: PackingIndex, location: Location, now: int) -> Iterator[None]:
    """Around what names a pack that was published: after a Conflict its removal does not wait for the announced hour,
    for it may hold what was deleted in the meantime.
    """
    try:
        yield
    except Conflict:
        index.doom([location], now)
        raise
