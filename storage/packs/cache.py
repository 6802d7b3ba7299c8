"""A bounded folder of blocks of remote packs. It is never trusted and never in the way: what fails is not cached."""

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from storage.packs import BLOCK_BYTES, Blocks
from storage.packs.stream import is_right

_KEPT_EIGHTHS = 7  # of the bound, after blocks were given up
_STEPS = 32  # of the bound: so much is written by a process before it looks what all have written


class _Kept(NamedTuple):
    used_at: int
    length: int
    path: str


class BlockCache:
    """Blocks as files `{quoted key}/{number}`, those unused for longest given up first.

    Several processes may share the folder, which outlives them; each may overstep `max_bytes` by a thirty-second. What
    is read is held against its digest. Safe under threads. `hits`, `misses` and `failures` (of writing) only grow;
    `looked` is told of each look whether it was a hit.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        *,
        min_free_bytes: int = 0,
        looked: Callable[[bool], None] = lambda hit: None,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._looked = looked
        self._step = max(max_bytes // _STEPS, BLOCK_BYTES)
        self._written = self._step  # so that the first block looks what others have left
        self._lock = threading.Lock()
        self._trimming = threading.Lock()
        self.hits = self.misses = self.failures = 0

    def get(self, key: str, number: int, blocks: Blocks) -> bytes | None:
        """Block `number` (from 0) of an object, if it is here."""
        path = self._path(key, number)
        block = None
        with suppress(OSError), path.open("rb") as file:
            block = file.read(BLOCK_BYTES + 1)  # who knows what lies there
            if is_right(block, number, blocks):
                os.utime(path)
            else:
                block = None
                path.unlink()
        with self._lock:
            if block is None:
                self.misses += 1
            else:
                self.hits += 1
        self._looked(block is not None)
        return block

    def has(self, key: str, number: int) -> bool:
        """Whether the block seems to be here."""
        return self._path(key, number).exists()

    def put(self, key: str, number: int, block: bytes) -> bool:
        """Keep a block that was found right, if there is room; whether it was kept."""
        path = self._path(key, number)
        beside = path.with_name(f".{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            space = os.statvfs(path.parent)
            if space.f_bavail * space.f_frsize - len(block) < self._min_free_bytes:
                return False
            try:
                beside.write_bytes(block)
                beside.replace(path)
            except OSError:
                beside.unlink(missing_ok=True)
                raise
        except OSError:  # also when another process has just removed the folder
            with self._lock:
                self.failures += 1
            return False
        with self._lock:
            self._written += len(block)
            is_due = self._written >= self._step
        if is_due:
            self._trim()
        return True

    def forget(self, key: str) -> None:
        """Remove all blocks of an object."""
        folder = self._path(key, 0).parent
        with suppress(OSError):
            for entry in list(os.scandir(folder)):
                os.unlink(entry.path)
            folder.rmdir()

    def keys(self) -> list[str]:
        """The objects of which blocks seem to be here."""
        try:
            return [unquote(name) for name in os.listdir(self._folder)]
        except OSError:
            return []

    def _path(self, key: str, number: int) -> Path:
        return self._folder / quote(key, safe="") / str(number)

    def _trim(self) -> None:
        if not self._trimming.acquire(blocking=False):
            return
        try:
            with self._lock:
                self._written = 0
            kept = self._kept()
            total = sum(one.length for one in kept)
            if total <= self._max_bytes:
                return
            for one in sorted(kept):
                if total <= self._max_bytes * _KEPT_EIGHTHS // 8:
                    return
                total -= one.length
                with suppress(OSError):
                    os.unlink(one.path)
                    os.rmdir(os.path.dirname(one.path))
        finally:
            self._trimming.release()

    def _kept(self) -> list[_Kept]:
        """Every file in the folder; what comes and goes meanwhile may be missing."""
        kept = []
        with suppress(OSError):
            for folder in list(os.scandir(self._folder)):
                with suppress(OSError):
                    for entry in list(os.scandir(folder.path)):
                        found = entry.stat()
                        kept.append(_Kept(found.st_mtime_ns, found.st_size, entry.path))
        return kept
