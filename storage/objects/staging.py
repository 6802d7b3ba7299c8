"""A folder of one process's own for what is being written, and the removal of what killed processes left there.

Each process locks its folder as long as it lives. Whoever can lock another's folder knows that its owner is gone.
"""

import itertools
import os
import secrets
import shutil
from pathlib import Path

from storage.objects.folders import Folder

NAME = ".incoming"
_ATTEMPTS = 16


class Staging:
    """A fresh folder below `root/.incoming`, locked by this process; it is on the file system of the objects."""

    def __init__(self, root: Path) -> None:
        base = root / NAME
        base.mkdir(mode=0o750, exist_ok=True)
        _remove_abandoned(base)
        self.path, self._lock = _own_folder(base)
        self._numbers = itertools.count()

    def name(self) -> Path:
        """A path in the folder that nothing has used."""
        return self.path / f"{os.getpid()}-{next(self._numbers)}.put"

    def close(self) -> None:
        """Remove the folder and what is left in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def _own_folder(base: Path) -> tuple[Path, Folder]:
    """A new folder and its lock. Between making and locking it, another start may have taken it for abandoned."""
    for _ in range(_ATTEMPTS):
        path = base / f"{os.getpid()}-{secrets.token_hex(4)}"
        path.mkdir(mode=0o700)
        try:
            folder = Folder(path)
        except FileNotFoundError:
            continue
        if folder.lock() and not folder.removed:
            return path, folder
    raise BlockingIOError(f"cannot lock a folder of our own below {base}")


def _remove_abandoned(base: Path) -> None:
    for path in base.iterdir():
        try:
            folder = Folder(path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # another start was quicker; or a stray file that is not ours to judge
        if folder.lock():
            shutil.rmtree(path, ignore_errors=True)
