"""Objects as files below a folder: written beside, flushed, then given their name in one step.

Killed at any instant, a key names a whole object or none. See docs/decisions/0012-objects-on-disk.md.
"""

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from storage.errors import Conflict, Exhausted, NotFound, Unavailable
from storage.objects import Body, Buffer, ObjectMeta, Source, keys
from storage.objects.disk_errors import NO_LINK, translated
from storage.objects.file_body import FileBody
from storage.objects.folders import Folder, Folders, make_root
from storage.objects.staging import Staging

_T = TypeVar("_T")

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_MODE = 0o640
_COPY_BYTES = 1 << 20
_MAX_BUFFERS = 1024  # IOV_MAX
_ATTEMPTS = 16  # to put into a folder that others remove at the same time
_DELETE_BATCH = 1024
_ROOM_SECONDS = 0.25  # how long a look at the free space holds


class DiskStore:
    """An ObjectStore in the folder `root`, which several processes may share. Safe under threads.

    Raises Unavailable when the folder cannot be made or written.
    """

    def __init__(self, root: Path, *, min_free_bytes: int = 0) -> None:
        with translated("open"):
            self._root = make_root(root)
            self._folders = Folders(self._root)
            self._staging = Staging(self._root)
        self._room = _Room(self._root, min_free_bytes)

    @property
    def staging(self) -> Path:
        """A folder of this store's own on the same file system: a file from there is linked by `put`, not copied."""
        return self._staging.path

    def check_room(self) -> None:
        """Raise Exhausted when less than the minimum of space is free; cheap enough to be asked before every write."""
        with translated("write"):
            self._room.check()

    def close(self) -> None:
        """Remove the staging folder; the store is of no use after."""
        self._staging.close()

    def put(self, key: str, source: Source, *, if_absent: bool = True) -> ObjectMeta:
        """See `ObjectStore`. A Conflict is raised only when what is there is itself on stable storage."""
        keys.checked(key)
        with translated("write"):
            self._room.check()
            if isinstance(source, Path):
                length = self._put_file(key, source, if_absent)
            else:
                length = self._put_buffers(key, source, if_absent)
        self._room.took(length)
        return ObjectMeta(key, length)

    def _put_buffers(self, key: str, buffers: Sequence[Buffer], if_absent: bool) -> int:
        path = self._staging.name()
        file = os.open(path, _CREATE, _MODE)
        try:
            try:
                length = _write(file, buffers)
                os.fsync(file)
            finally:
                os.close(file)
            self._name(path, key, if_absent)
        finally:
            path.unlink(missing_ok=True)  # after a replacement it is gone already
        return length

    def _put_file(self, key: str, source: Path, if_absent: bool) -> int:
        """Link the file under another name of ours first, so that a replacement cannot take it from the caller."""
        path = self._staging.name()
        try:
            with open(source, "rb", buffering=0) as file:
                os.fsync(file.fileno())
                length = os.fstat(file.fileno()).st_size
            try:
                os.link(os.path.realpath(source), path)
            except OSError as error:
                if error.errno not in NO_LINK:
                    raise
                _copy(source, path)
            self._name(path, key, if_absent)
        finally:
            path.unlink(missing_ok=True)
        return length

    def _name(self, path: Path, key: str, if_absent: bool) -> None:
        """Give the flushed file at `path` its name `key`, durably."""
        parent, _, name = key.rpartition("/")
        for _ in range(_ATTEMPTS):
            try:
                folder = self._folders.durable(parent)
                if if_absent:
                    folder.link(path, name)
                else:
                    folder.take(path, name)
            except FileNotFoundError:  # a delete has just removed the folder
                continue
            except FileExistsError:
                folder.sync()  # by whoever put it there this may not have been done yet
                raise Conflict("an object with this key is there already") from None
            except (NotADirectoryError, IsADirectoryError):
                raise Conflict("another object's key is a part of this key") from None
            folder.sync()
            return
        raise Unavailable("the object store cannot be written: its folders vanish while they are used")

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        """See `ObjectStore`."""
        file = self._in_folder(key, Folder.open)
        return FileBody(file, span)

    def head(self, key: str) -> ObjectMeta:
        """See `ObjectStore`."""
        found = self._in_folder(key, Folder.stat)
        if not stat.S_ISREG(found.st_mode):
            raise NotFound("there is no such object")
        return ObjectMeta(key, found.st_size, found.st_mtime_ns // 1000)

    def _in_folder(self, key: str, act: Callable[[Folder, str], _T]) -> _T:
        """What `act` gives for the folder and name of `key`."""
        keys.checked(key)
        parent, _, name = key.rpartition("/")
        with translated("read"):
            return act(self._folders.existing(parent), name)

    def delete(self, names: Iterable[str]) -> None:
        """See `ObjectStore`. Folders that become empty are removed."""
        pending = iter(names)
        while batch := [keys.checked(key) for key in islice(pending, _DELETE_BATCH)]:
            with translated("write"):
                for key in batch:
                    with suppress(NotFound):
                        self._in_folder(key, Folder.unlink)
                for parent in sorted({key.rpartition("/")[0] for key in batch}, reverse=True):
                    self._after_delete(parent)

    def _after_delete(self, parent: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            self._folders.existing(parent).sync()
            self._folders.remove_empty(parent)

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectMeta]:
        """See `ObjectStore`. Holds the names of one folder a level; what comes and goes meanwhile may be seen."""
        start = prefix.rpartition("/")[0]
        if start and not keys.is_safe(start):
            return iter(())
        return self._scan(f"{start}/" if start else "", prefix, after)

    def _scan(self, folder: str, prefix: str, after: str) -> Iterator[ObjectMeta]:
        for name in self._names(folder):
            key = folder + name
            if name.endswith("/"):
                begins = key.startswith(prefix) or prefix.startswith(key)
                if begins and (key > after or after.startswith(key)):
                    yield from self._scan(key, prefix, after)
            elif key.startswith(prefix) and key > after:
                with suppress(NotFound):
                    yield self.head(key)

    def _names(self, folder: str) -> list[str]:
        """Sorted so that keys come in order: a folder's name counts with its slash, and `.` and `-` sort before it."""
        try:
            with translated("read"):
                return self._folders.existing(folder.rstrip("/")).names()
        except NotFound:
            return []

    def check(self) -> None:
        """Write, name, read and remove a file as `put` does. Raises Unavailable, or Exhausted when room is short."""
        probe, named = self._staging.name(), self._staging.name()
        try:
            self._room.check()
            file = os.open(probe, _CREATE, _MODE)
            try:
                _write(file, [b"probe"])
                os.fsync(file)
            finally:
                os.close(file)
            os.link(probe, named)
            self._folders.root.sync()
            if named.read_bytes() != b"probe":
                raise Unavailable(f"the object store {self._root} does not give back what was written")
        except OSError as error:
            raise Unavailable(
                f"the object store {self._root} cannot be used: {error.strerror}; make it a writable folder on a file "
                "system with hard links (ext4, XFS, Btrfs, ZFS, NFS) and room"
            ) from error
        finally:
            for path in (probe, named):
                with suppress(OSError):  # the folder may be read-only or gone, which is said above
                    path.unlink(missing_ok=True)


class _Room:
    """How much room is left, asked at most a few times a second and counted down in between."""

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        self._root = root
        self._min_free_bytes = min_free_bytes
        self._lock = threading.Lock()
        self._until = 0.0
        self._free = 0

    def check(self) -> None:
        """Raise Exhausted when less than the minimum is free."""
        if not self._min_free_bytes:
            return
        with self._lock:
            now = time.monotonic()
            if now >= self._until:
                found = os.statvfs(self._root)
                self._free = found.f_bavail * found.f_frsize
                self._until = now + _ROOM_SECONDS
            if self._free < self._min_free_bytes:
                raise Exhausted(
                    f"the object store is full: {max(self._free, 0)} bytes are free where {self._min_free_bytes} must "
                    "stay free (min_free_bytes); make room on its disk"
                )

    def took(self, length: int) -> None:
        """Count `length` bytes as used until the next look."""
        with self._lock:
            self._free -= length


def _write(file: int, buffers: Sequence[Buffer]) -> int:
    """Write all of `buffers`; the number of bytes."""
    views = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    total, first = 0, 0
    while first < len(views):
        written = os.writev(file, views[first : first + _MAX_BUFFERS])
        total += written
        while first < len(views) and written >= len(views[first]):
            written -= len(views[first])
            first += 1
        if written:
            views[first] = views[first][written:]
    return total


def _copy(source: Path, target: Path) -> None:
    """A flushed copy, for a source on another file system."""
    file = os.open(target, _CREATE, _MODE)
    try:
        with open(source, "rb", buffering=0) as reading:
            while data := reading.read(_COPY_BYTES):
                _write(file, [data])
        os.fsync(file)
    finally:
        os.close(file)
