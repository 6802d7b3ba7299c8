"""Which jobs keep an archive in shape, and how often each looks whether there is something to do."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event

from gateway.archive.cached import GoneBlocks
from gateway.archive.compactor import Compactor
from gateway.archive.copier import Copier
from gateway.archive.places import COPY
from gateway.archive.sealer import Sealer, Sealing
from gateway.archive.spent import SpentTombstones
from gateway.archive.sweeper import Sweeper
from gateway.archive.unfinished import UnfinishedDeletions
from gateway.archive.workers import Job, Workers
from storage.index import Documents, PackingIndex
from storage.objects import ObjectStore
from storage.packs.blocks import BlockReader

_SEAL_SECONDS, _COMPACT_SECONDS, _COPY_SECONDS, _SWEEP_SECONDS, _TOMBSTONES_SECONDS = 5.0, 10.0, 10.0, 10.0, 3600.0
_CACHE_SECONDS = 600.0
_UNFINISHED_SECONDS, _MERGE_SECONDS = 300.0, 300.0


def workers(
    index: PackingIndex,
    stores: Mapping[str, ObjectStore],
    documents: Documents,
    blocks: BlockReader,
    *,
    staging: Path,
    sealing: Sealing | None,
    chores: Sequence[Job] = (),
) -> Workers:
    """Workers over the stores "spool", "archive" and, if there is one, "copy"; not yet started.

    `blocks` is what this process reads packs by; `staging` is a folder of its own; `sealing` is None when all is to
    stay loose. `chores` are further jobs.
    """
    stop = Event()
    free = sealing.min_free_bytes if sealing is not None else 0
    jobs = list(chores)
    if sealing is not None:
        sealer = Sealer(index, stores, staging=staging, sealing=sealing, stop=stop)
        jobs.append(Job("seal", lambda: sealer.run_once().done > 0, min(_SEAL_SECONDS, sealing.after_seconds + 0.2)))
    most = (sealing or Sealing()).max_pack_bytes
    compactor = Compactor(
        index, stores, documents, staging=staging, min_free_bytes=free, max_pack_bytes=most, stop=stop
    )
    jobs.append(Job("compact", lambda: compactor.run_once().done > 0, _COMPACT_SECONDS))
    jobs.append(Job("merge", lambda: compactor.merge_once().done > 0, _MERGE_SECONDS))
    if COPY in stores:
        copier = Copier(index, stores, staging=staging, min_free_bytes=free, stop=stop)
        jobs.append(Job("copy", lambda: copier.run_once().done > 0, _COPY_SECONDS))
    sweeper = Sweeper(index, stores, stop=stop, deleted=blocks.forget)
    jobs.append(Job("sweep", lambda: sweeper.run_once() > 0, _SWEEP_SECONDS))
    unfinished = UnfinishedDeletions(index, stores, stop=stop)
    jobs.append(Job("delete", partial(_finish, unfinished), _UNFINISHED_SECONDS))
    spent = SpentTombstones(index, stores, stop=stop)
    jobs.append(Job("tombstones", lambda: spent.run_once() > 0, _TOMBSTONES_SECONDS))
    jobs.append(_cache_job(index, blocks, stop))
    return Workers(jobs, stop=stop)


def _finish(deletions: UnfinishedDeletions) -> bool:
    deletions.run_once()
    return False  # those that are too young are looked at the next time


def cache_worker(index: PackingIndex, blocks: BlockReader) -> Workers:
    """What a gateway needs whose packs others keep in shape; not yet started."""
    stop = Event()
    return Workers([_cache_job(index, blocks, stop)], stop=stop)


def _cache_job(index: PackingIndex, blocks: BlockReader, stop: Event) -> Job:
    return Job("cache", GoneBlocks(index, blocks, every_seconds=_CACHE_SECONDS, stop=stop).run_once, _CACHE_SECONDS)
