"""Open folders below a root, by descriptor: links are never followed, and a folder that is written into is durable."""

import fcntl
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """An open folder; closed when nobody holds it any more.

    Its descriptor is used by its own methods only, so that it cannot be closed under a thread that is using it.
    """

    __slots__ = ("_fd", "durable")

    def __init__(self, path: str | Path, parent: "Folder | None" = None) -> None:
        self.durable = parent is None
        self._fd = -1
        self._fd = os.open(path, _FLAGS, dir_fd=None if parent is None else parent._fd)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # bound now: at exit `os` may be gone first
        if self._fd >= 0:
            close(self._fd)
            self._fd = -1

    @property
    def removed(self) -> bool:
        """Whether the folder has been removed since it was opened; another may have its name by now."""
        return os.fstat(self._fd).st_nlink == 0

    def sync(self) -> None:
        """Return when the names in this folder are on stable storage."""
        os.fsync(self._fd)

    def lock(self) -> bool:
        """Lock the folder as long as it is held; False when another holder, here or in another process, has it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def open(self, name: str) -> int:
        """A descriptor to read the file `name`."""
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)

    def stat(self, name: str) -> os.stat_result:
        """What is known of `name`, which may be a link."""
        return os.stat(name, dir_fd=self._fd, follow_symlinks=False)

    def link(self, file: Path, name: str) -> None:
        """Give `file` the further name `name` here; FileExistsError when that is taken."""
        os.link(file, name, dst_dir_fd=self._fd)

    def take(self, file: Path, name: str) -> None:
        """Move `file` to `name` here in one step, in place of what has that name."""
        os.replace(file, name, dst_dir_fd=self._fd)

    def make(self, name: str) -> None:
        """Make the folder `name` here unless it is there."""
        with suppress(FileExistsError):
            os.mkdir(name, 0o750, dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        """Remove the file `name`."""
        os.unlink(name, dir_fd=self._fd)

    def rmdir(self, name: str) -> None:
        """Remove the empty folder `name`."""
        os.rmdir(name, dir_fd=self._fd)

    def names(self) -> list[str]:
        """Files and, with a slash at the end, folders, in the order of that text; nothing hidden, no links."""
        with os.scandir(self._fd) as entries:
            return sorted(
                entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
                for entry in entries
                if not entry.name.startswith(".") and not entry.is_symlink()
            )


class Folders:
    """The folders below `root`, a few of them kept open. Safe under threads; other processes may make and remove them.

    A folder of another process may not be on stable storage yet, so this one flushes the parent of each folder it
    has not seen before, whoever made it. An open descriptor tells a folder from another that later takes its name.
    """

    def __init__(self, root: Path, *, keep_open: int = 128) -> None:
        self.root = Folder(root)
        self._keep_open = keep_open
        self._open: OrderedDict[str, Folder] = OrderedDict()
        self._lock = threading.Lock()

    def existing(self, path: str) -> Folder:
        """The folder at `path` ("" is the root). Raises FileNotFoundError, NotADirectoryError."""
        if not path:
            return self.root
        found = self._kept(path)
        if found is None or found.removed:
            parent, _, name = path.rpartition("/")
            found = self._keep(path, Folder(name, self.existing(parent)))
        return found

    def durable(self, path: str) -> Folder:
        """The folder at `path`, made when missing, on stable storage by the time this returns."""
        if not path:
            return self.root
        found = self._kept(path)
        if found is None or not found.durable or found.removed:
            parent_path, _, name = path.rpartition("/")
            parent = self.durable(parent_path)
            parent.make(name)
            found = Folder(name, parent)
            parent.sync()
            found.durable = True
            self._keep(path, found)
        return found

    def remove_empty(self, path: str) -> None:
        """Remove the folder at `path` and then its parents, as far up as they are empty."""
        while path:
            parent_path, _, name = path.rpartition("/")
            try:
                parent = self.existing(parent_path)
                parent.rmdir(name)
                parent.sync()
            except OSError:  # not empty, or gone already: whoever is at work there sees to it
                return
            path = parent_path

    def _kept(self, path: str) -> Folder | None:
        with self._lock:
            found = self._open.get(path)
            if found is not None:
                self._open.move_to_end(path)
            return found

    def _keep(self, path: str, folder: Folder) -> Folder:
        with self._lock:
            self._open[path] = folder
            if len(self._open) > self._keep_open:
                self._open.popitem(last=False)
        return folder


def make_root(root: Path) -> Path:
    """`make_durable`; gives the real path of `root`."""
    make_durable(root)
    return root.resolve(strict=True)


def make_durable(path: Path) -> None:
    """Make the folder `path` and its parents where they are missing; on return their names are on stable storage.

    Another process may have made a folder and been killed before it flushed its parent, so parents are flushed whoever
    made what is in them, but for those that we cannot write: nothing in them is of our making. Raises OSError.
    """
    path = path.absolute()
    for folder in reversed((path, *path.parents[:-1])):
        parent = folder.parent.resolve()
        missing = not folder.is_dir()
        if missing:
            folder.mkdir(mode=0o750, exist_ok=True)
        if missing or os.access(parent, os.R_OK | os.W_OK):
            Folder(parent).sync()
