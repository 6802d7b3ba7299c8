"""Remembers which files a destination has acknowledged, so that an interrupted `gateway store` sends only the rest.

It serves to finish a run, not to know what an archive holds: it is forgotten when a run has come to its end and left
nothing that may be taken later, and when it is a day old. The archive behind an address may be another one by then,
and to send an instance again costs little.

One line a file, a digest of destination, path, size and time of change: paths can hold names of patients, the journal
does not. A file that was changed since is another file.
"""

import hashlib
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.cli.files import Found

MAX_ENTRIES = 2_000_000  # of 33 bytes on disk; the oldest are forgotten first, and would only be sent again
MAX_AGE_SECONDS = 24 * 3600  # since the last acknowledgement
_DIGEST_BYTES = 16


def default_path(destination: str) -> Path:
    """Where the journal of a destination is kept when nobody says otherwise (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state, "gateway", f"store-{_digest(destination)[:12]}.journal")


class Journal:
    """The acknowledged files of one destination. A context manager; raises OSError when it cannot be kept."""

    def __init__(self, path: Path, destination: str) -> None:
        self.path = path
        self.is_wanted = False  # whether something was left that may be taken later
        self._destination = destination
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and time.time() - path.stat().st_mtime > MAX_AGE_SECONDS:
            path.unlink()
        path.touch(mode=0o600)
        text = path.read_text("ascii", "replace")
        lines = text.splitlines()
        # A line that was cut short by a crash is shorter than a digest, and matches nothing.
        self._done = set(lines[-MAX_ENTRIES:])
        if len(lines) > 2 * MAX_ENTRIES:
            self._shorten(lines[-MAX_ENTRIES:])
        self._file = path.open("a", encoding="ascii", buffering=1)
        if text and not text.endswith("\n"):
            self._file.write("\n")

    def _shorten(self, lines: list[str]) -> None:
        shorter = self.path.with_suffix(".new")
        shorter.write_text("".join(f"{line}\n" for line in lines), "ascii")
        shorter.replace(self.path)

    def holds(self, found: Found) -> bool:
        """Whether this very file was acknowledged before."""
        return self._entry(found) in self._done

    def add(self, found: Found) -> None:
        """The file has been acknowledged."""
        entry = self._entry(found)
        self._done.add(entry)
        self._file.write(f"{entry}\n")

    def forget(self) -> None:
        """Nothing is left to be sent: the next run begins anew."""
        self.path.unlink(missing_ok=True)

    def _entry(self, found: Found) -> str:
        path = os.fsencode(os.path.abspath(found.path)).decode("latin-1")
        return _digest(f"{self._destination}\n{path}\n{found.size}\n{found.modified_ns}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
