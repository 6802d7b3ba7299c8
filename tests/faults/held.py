"""A program of the gateway that stops for good at a named point, so that a test can look around and then kill it.

    python -m tests.faults.held POINT FOLDER ARGUMENTS...

POINT is `step:NAME`, a step of the workers, or `MODULE:NAME:before` (`after`), a call of a function or method. Once
there is a file `armed` in FOLDER, the next thread that comes to the point makes the file `reached` there and waits for
ever. ARGUMENTS are those of the `gateway` command, or `delete DATA UID...`, which deletes as a door would.
"""

import sys
import threading
import time
from collections.abc import Callable
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from gateway.archive.compactor import Compactor
from gateway.archive.sealer import Sealer
from gateway.archive.steps import STEPS
from gateway.archive.sweeper import Sweeper
from gateway.archive.unfinished import UnfinishedDeletions
from gateway.cli import app
from gateway.cli.closed_doors import opened
from gateway.config import load
from gateway.security.caller import Caller, Right
from storage.dicom.identity import Scope
from tests.faults.commands import Command
from tests.faults.ledger import PATIENCE_SECONDS


class Point:
    """A point and its folder, as a test sees them: `program` is what Python runs to be held there."""

    def __init__(self, folder: Path, name: str) -> None:
        self._name = name
        self._folder = folder
        folder.mkdir()

    @property
    def program(self) -> tuple[str, ...]:
        return "-m", "tests.faults.held", self._name, str(self._folder)

    def arm(self) -> None:
        """From now on nobody comes past it."""
        (self._folder / "armed").touch()

    def reached(self) -> bool:
        return (self._folder / "reached").exists()


class Held:
    """A command on the data folder; `with` waits until it is at the point, and kills it in the end."""

    def __init__(self, point: Point, *arguments: str) -> None:
        point.arm()
        self._point = point
        self._act = partial(main, *point.program[2:], *arguments)

    def __enter__(self) -> None:
        self._command = Command(self._act, {})
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._point.reached():
            if not self._command.runs() or time.monotonic() > deadline:
                said = self._command.said
                self._command.kill()
                raise AssertionError(f"it did not come to the point: {said}")
            time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._command.kill()


def main(point: str, folder: str, *arguments: str) -> None:
    """See above."""
    _hold(point, _gate(Path(folder)))
    UnfinishedDeletions.__init__.__kwdefaults__["patience_seconds"] = 0.0  # who put the tombstone was killed
    if arguments[0] == "delete":
        delete(Path(arguments[1]), *arguments[2:])
    else:
        app(arguments)


def _gate(folder: Path) -> Callable[[], None]:
    def gate() -> None:
        if (folder / "armed").exists():
            (folder / "reached").touch()
            threading.Event().wait()

    return gate


def _hold(point: str, gate: Callable[[], None]) -> None:
    where, name, *when = point.split(":")
    if where == "step":
        assert name in STEPS
        for worker in (Sealer, Compactor, Sweeper):
            worker.__init__.__kwdefaults__["at"] = lambda step: gate() if step == name else None
        Sweeper.__init__.__kwdefaults__["grace_seconds"] = 0.0  # tests do not wait for readers
        return
    owner: Any = import_module(where)
    *path, name = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, name, _gated(getattr(owner, name), gate, first=when == ["before"]))


def _gated(act: Callable[..., Any], gate: Callable[[], None], *, first: bool) -> Callable[..., Any]:
    @wraps(act)
    def gated(*arguments: Any, **named: Any) -> Any:
        if first:
            gate()
        result = act(*arguments, **named)
        if not first:
            gate()
        return result

    return gated


def delete(data: Path, *uids: str) -> None:
    """Delete a study, series or instance, beside a gateway that runs."""
    operator = Caller("operator", "", "command", frozenset(Right))
    with opened(load(None, {"data": data})) as backend:
        backend.local.delete(Scope(*uids), by=operator)


if __name__ == "__main__":
    main(*sys.argv[1:])
