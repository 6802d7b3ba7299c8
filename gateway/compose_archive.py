"""Turns a Config into the archive of this place: object stores, index, what keeps them in shape, policy and audit.

The wiring, from the bottom: places (the object stores of loose instances and of packs) and an index make the local
archive, which workers keep in shape; the guard puts policy and audit around it, the meter counts and times what is
left. There is no door in it: commands work on it as it is, `gateway.compose` adds the doors.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gateway import log, metrics
from gateway.archive import Archive
from gateway.archive.copy_reads import CopyReads
from gateway.archive.frame_work import FrameWork
from gateway.archive.guarded import GuardedArchive
from gateway.archive.high_water import HighWater
from gateway.archive.identities import KnownStore, WrongStore
from gateway.archive.incoming import Incoming
from gateway.archive.jobs import cache_worker, workers
from gateway.archive.journal import JournalEmptier
from gateway.archive.local import LocalArchive
from gateway.archive.lookout import Lookout
from gateway.archive.metered import MeteredArchive
from gateway.archive.places import ARCHIVE, COPY, SPOOL, Places
from gateway.archive.pool import Pool
from gateway.archive.sealer import Sealing
from gateway.archive.transcoded import TranscodedArchive
from gateway.archive.workers import Job, Workers
from gateway.config import Config
from gateway.security.audit import JsonLinesAudit
from gateway.security.policy import RightsPolicy
from gateway.upkeep.lost_index import has_objects, is_empty
from storage.errors import Exhausted, StorageError
from storage.index import Documents
from storage.index.sql import SqlIndex
from storage.index.sqlite import SqliteIndex
from storage.objects import ObjectStore
from storage.objects.disk import DiskStore
from storage.objects.fallback import FallbackStore
from storage.objects.folders import make_durable
from storage.objects.noted import NotedStore
from storage.objects.s3 import S3Store
from storage.objects.s3_errors import Passing
from storage.objects.s3_settings import parse_s3_url
from storage.objects.s3_tally import Tally
from storage.packs.blocks import BlockReader
from storage.packs.cache import BlockCache
from storage.packs.documents import PackDocuments
from storage.packs.supply import MAX_STREAMS

_STALE_UPLOAD_SECONDS = 2 * 24 * 3600  # longer than any upload takes
_POSTGRES = ("postgresql", "postgres")
_TIDY_SECONDS = 6 * 3600.0
_JOURNAL_SECONDS = 60.0
_LOOK_SECONDS = 5.0  # that the doors stay closed for an archive that does not answer
_MADE_IN_MEMORY = 4 << 20
_MADE_BYTES = 64 << 30
_READ_AHEAD = 8  # instances that the sealer reads from a bucket at once


class Upkeep(Enum):
    """What this process does beside answering."""

    NOTHING = "nothing"  # another process does it, or nobody shall
    CACHE = "cache"  # keeps its own cache in bounds
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Backend:
    """The archive of this place, opened: `archive` is for doors, the other parts are for upkeep."""

    archive: Archive
    local: LocalArchive
    places: Places
    index: SqlIndex
    lookouts: Mapping[str, Lookout]  # on each object store
    audit: JsonLinesAudit
    workers: Workers | None
    pixels: Pool  # which starts no process before it is asked to work
    frame_work: FrameWork

    def start(self) -> None:
        """Check that it works, and let the workers begin. Raises Unavailable."""
        try:
            self.local.check()
        except Exhausted as error:
            # What is stored can be read all the same; stores are refused until there is room.
            log.get(__name__).warning("nothing can be stored now", why=str(error))
        for lookout in self.lookouts.values():
            lookout.start()
        if COPY in self.lookouts:
            self._look_at_the_copy()
        stores = [self.places.spool, self.places.archive] if self._look_at_the_archive() else [self.places.spool]
        self._look_for_a_lost_index(stores)
        if self.workers is not None:
            self.workers.start()

    def _look_at_the_archive(self) -> bool:
        """Whether it answers soon. What is wrong with its configuration must be put right first; what may pass by
        itself is waited for, with the doors open.
        """
        try:
            if self.lookouts[ARCHIVE].first(_LOOK_SECONDS):
                return True
            why = f"the archive has not answered within {_LOOK_SECONDS:g} seconds"
        except (Passing, Exhausted) as error:
            why = str(error)
        log.get(__name__).warning("the archive object store takes no packs now, or does not answer", why=why)
        return False

    def _look_at_the_copy(self) -> None:
        """Whatever is wrong with it may wait, but that it is another's."""
        try:
            self.lookouts[COPY].first(_LOOK_SECONDS)
        except WrongStore:
            raise
        except StorageError as error:
            log.get(__name__).warning("no copies are made now", why=str(error))

    def recognise(self) -> None:
        """Raise WrongStore when an object store is another than the index means. One that cannot be read now is judged
        when it can.
        """
        for store in self.places.stores.values():
            if isinstance(store, KnownStore):
                try:
                    store.recognise()
                except WrongStore:
                    raise
                except StorageError:
                    continue

    def _look_for_a_lost_index(self, stores: Sequence[ObjectStore]) -> None:
        if is_empty(self.index) and has_objects(stores):
            log.get(__name__).error(
                "the index is empty, but the object store holds instances: if the index was lost or moved, stop the "
                "gateway and put it back, or run `gateway reindex`; until then what is stored cannot be found"
            )

    def close(self) -> None:
        """Let go of everything; nobody uses it any more, and its workers have ended."""
        for lookout in self.lookouts.values():
            lookout.stop()
        self.pixels.close()
        self.frame_work.close()
        self.index.close()
        self.places.close()
        self.audit.close()


def open_archive(config: Config, upkeep: Upkeep = Upkeep.NOTHING, *, any_stores: bool = False) -> Backend:
    """What `config` says of the archive, opened; nothing begins before `start`. Raises Unavailable, OSError.

    With `any_stores` it works on other stores too than those that the index means.
    """
    _make(config.data)

    def known(name: str, store: ObjectStore) -> ObjectStore:
        return KnownStore(name, store, lambda: index)  # which is opened after the stores, as it reads from them

    places = open_places(config, _as_it_is if any_stores else known)
    documents = PackDocuments({ARCHIVE: places.blocks})
    index = open_index(config, documents)
    team = None
    if upkeep is Upkeep.EVERYTHING:
        team = workers(
            index,
            places.stores,
            documents,
            places.blocks,
            staging=places.packing,
            sealing=sealing(config) if config.archive.seal else None,
            chores=chores(places, index),
        )
    elif upkeep is Upkeep.CACHE:
        team = cache_worker(index, places.blocks)
    lookouts = {name: Lookout(store.check, name) for name, store in places.stores.items()}
    beside = [lookout for name, lookout in lookouts.items() if name != SPOOL]  # without which instances can be stored
    mark = HighWater(index.backlog, config.spool.max_bytes)
    local = LocalArchive(
        places,
        index,
        ingest=config.ingest,
        check_backlog=mark.check,
        landed=mark.count,
        trouble=lambda: "; ".join(filter(None, (lookout.trouble() for lookout in beside))),
        deleted=team.nudge if team is not None else lambda: None,
    )
    audit = JsonLinesAudit(folder(config, config.audit.folder, "audit"), config.audit.max_bytes_per_file)
    pixels = Pool(config.web.pixel_processes or max(1, (os.cpu_count() or 1) // config.workers))
    work = FrameWork(pixels)
    transcoded = TranscodedArchive(local, work, partial(_room, places))
    archive = MeteredArchive(GuardedArchive(transcoded, RightsPolicy(), audit))
    return Backend(archive, local, places, index, lookouts, audit, team, pixels, work)


def _room(places: Places) -> Incoming:
    """For an instance that is being made into another; it may be larger than what came in."""
    return Incoming(places.staging, memory_bytes=_MADE_IN_MEMORY, max_bytes=_MADE_BYTES, check_room=places.check_room)


def _as_it_is(_: str, store: ObjectStore) -> ObjectStore:
    return store


def open_places(config: Config, known: Callable[[str, ObjectStore], ObjectStore] = _as_it_is) -> Places:
    """The object stores, and the folders for what is on its way. Raises Unavailable, OSError.

    `known` gives for a store by its name what is used of it.
    """
    with ExitStack() as opened:

        def store(name: str, url: str, default: Path) -> DiskStore | S3Store:
            return opened.enter_context(closing(_open_store(config, name, url, default)))

        spool = store(SPOOL, config.spool.url, config.data / "objects")
        archive = store(ARCHIVE, config.archive.url, config.data / "archive")
        copy = store(COPY, config.copies.url, config.data) if config.copies.url else None
        landing = spool if isinstance(spool, DiskStore) else store(SPOOL, "", config.data / "staging")
        assert isinstance(landing, DiskStore)
        own_archive = known(ARCHIVE, archive)
        own_copy = None if copy is None else known(COPY, copy)
        second = None if own_copy is None else NotedStore(own_copy, CopyReads())
        packs = own_archive if second is None else FallbackStore(own_archive, second)
        far = isinstance(archive, S3Store) or isinstance(copy, S3Store)
        return Places(
            known(SPOOL, spool),
            own_archive,
            packs,
            BlockReader(
                packs,
                _open_cache(config) if far else None,
                recent_bytes=config.archive.cache.max_memory_bytes if far else 0,
                second=second,
                max_streams=_max_streams(config),
            ),
            staging=landing.staging,
            packing=archive.staging if isinstance(archive, DiskStore) else landing.staging,
            copy=own_copy,
            remote=frozenset(name for name, remote in ((SPOOL, landing is not spool), (ARCHIVE, far)) if remote),
            check_room=landing.check_room,
            close=opened.pop_all().close,
            hang_up=lambda: _hang_up(spool, archive, copy),
        )


def _hang_up(*stores: DiskStore | S3Store | None) -> None:
    for store in stores:
        if isinstance(store, S3Store):
            store.hang_up()


def _open_store(config: Config, name: str, url: str, default: Path) -> DiskStore | S3Store:
    if urlsplit(url).scheme == "s3":
        tally = Tally(partial(metrics.bucket_asked, name), partial(metrics.bucket_moved, name))
        return S3Store(parse_s3_url(url), tally=tally)
    root = _path_of(url) if url else default
    return DiskStore(root, min_free_bytes=config.spool.min_free_bytes)


def _max_streams(config: Config) -> int:
    """Half of the connections to a bucket: the rest is for those who read little, and for the workers."""
    buckets = [url for url in (config.archive.url, config.copies.url) if url.startswith("s3:")]
    return min((parse_s3_url(url).max_connections // 2 for url in buckets), default=MAX_STREAMS)


def _open_cache(config: Config) -> BlockCache | None:
    settings = config.archive.cache
    if not settings.max_bytes:
        return None
    where = folder(config, settings.folder, "cache")
    room = config.spool.min_free_bytes
    return BlockCache(where, settings.max_bytes, min_free_bytes=room, looked=metrics.cache_looked)


def open_index(config: Config, documents: Documents) -> SqlIndex:
    """The catalogue; made or migrated when it is opened. `documents` gives it the metadata of sealed instances."""
    path = index_file(config)
    if path is None:
        from storage.index.postgres import PostgresIndex  # here: a quarter of a second for who does not use it

        return PostgresIndex(config.index.url, group_max=config.index.group_max, documents=documents)
    _make(path.parent)
    return SqliteIndex(path, group_max=config.index.group_max, documents=documents)


def index_file(config: Config) -> Path | None:
    """Where the index lies; None when it is no file."""
    if urlsplit(config.index.url).scheme in _POSTGRES:
        return None
    return _path_of(config.index.url) if config.index.url else config.data / "index.sqlite"


def sealing(config: Config) -> Sealing:
    """When and how series are sealed."""
    return Sealing(
        after_seconds=config.archive.seal_after_seconds,
        series_bytes=config.archive.seal_bytes,
        max_pack_bytes=config.archive.max_pack_bytes,
        min_free_bytes=config.spool.min_free_bytes,
        threads=_READ_AHEAD if urlsplit(config.spool.url).scheme == "s3" else 0,
    )


def chores(places: Places, index: SqlIndex) -> list[Job]:
    """What the workers do beside their work on series: give up uploads that never came to their end, and leave nothing
    that was deleted in the journal of the index.
    """
    stores = (store.inner if isinstance(store, KnownStore) else store for store in places.stores.values())
    buckets = [store for store in stores if isinstance(store, S3Store)]

    def tidy() -> bool:
        for bucket in buckets:
            bucket.remove_stale_uploads(_STALE_UPLOAD_SECONDS)
        return False

    found = [Job("tidy", tidy, _TIDY_SECONDS)] if buckets else []
    if isinstance(index, SqliteIndex):
        found.append(Job("journal", JournalEmptier(index.empty_journal).run_once, _JOURNAL_SECONDS))
    return found


def folder(config: Config, chosen: str, name: str) -> Path:
    """The configured folder, or `name` below the data folder; made if it is not there."""
    path = Path(chosen) if chosen else config.data / name
    _make(path)
    return path


def _make(folder: Path) -> None:
    try:
        make_durable(folder)
    except OSError as error:
        raise OSError(error.errno, f"the folder {folder} cannot be used: {error.strerror}") from error


def _path_of(url: str) -> Path:
    """`sqlite:///relative` or `sqlite:////absolute`; `file:///absolute`."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    return Path(path.removeprefix("/")) if parts.scheme == "sqlite" else Path(path)
