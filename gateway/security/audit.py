"""The record of who did what, and what came of it: one JSON line an event, never a patient's name or a search value.

See docs/decisions/0011-audit.md.
"""

import fcntl
import os
import threading
import time
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import orjson

from gateway import log, metrics
from gateway.security.caller import Caller
from storage.dicom.identity import Scope, is_uid

_log = log.get(__name__)


class Outcome(StrEnum):
    """What came of an act (the outcome indicator of PS3.15 A.5.1)."""

    SUCCESS = "success"
    MINOR = "minor"  # the caller's mistake: nothing there, not valid, not acceptable
    DENIED = "denied"  # who asked is unknown, or may not
    FAILURE = "failure"  # ours: a store or index that does not answer, a limit, a defect


@dataclass(frozen=True, slots=True)
class Event:
    """One act. `act` is a `Verb`, or "authenticate" or "associate" for somebody who did not get in.

    UIDs are checked to be UIDs, or None. `count` is how many instances, rows or frames it concerned, when known;
    `reason` is the class of the error, never its message; `purpose` is what the caller gave as one.
    """

    act: str
    outcome: Outcome
    identity: str
    address: str
    door: str
    study_uid: str | None = None
    series_uid: str | None = None
    sop_uid: str | None = None
    count: int | None = None
    reason: str | None = None
    purpose: str | None = None

    @classmethod
    def of(
        cls,
        act: str,
        outcome: Outcome,
        by: Caller,
        scope: Scope | None = None,
        *,
        count: int | None = None,
        reason: str | None = None,
    ) -> "Event":
        """The event that `by` did `act` to `scope`."""
        named = (scope.study_uid, scope.series_uid, scope.sop_uid) if scope else (None, None, None)
        study, series, sop = (uid if uid is not None and is_uid(uid) else None for uid in named)
        purpose = by.purpose or None
        return cls(act, outcome, by.identity, by.address, by.door, study, series, sop, count, reason, purpose)


class AuditLog(Protocol):
    """Takes events for good."""

    def record(self, event: Event) -> None:
        """Keep `event`. Never raises: an audit that cannot be written is logged and counted, not a patient refused."""


class NullAudit:
    """Keeps nothing; for commands that only look at the archive's own state."""

    def record(self, event: Event) -> None:
        """Nothing."""


class JsonLinesAudit:
    """Events as JSON lines in `folder`, one file a process, UTC day and `max_bytes_per_file`.

    Each event is one `write` in append mode, so a killed process loses no event that it recorded; a line that a full
    disk cut short is closed by the next one. Files are flushed to stable storage when they are rotated or closed.
    When an event cannot be written the act goes on all the same: who is refused an image for want of an audit line
    may come to harm. It is logged as an error and counted in `gateway_audit_failures`.
    """

    def __init__(self, folder: Path, max_bytes_per_file: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes_per_file
        self._lock = threading.Lock()
        self._file: int | None = None
        self._owner = 0
        self._day = ""
        self._length = 0
        self._torn = False

    def record(self, event: Event) -> None:
        """Append `event` with the time of now."""
        now = time.time()
        line = _line(now, event)
        try:
            with self._lock:
                self._write(line, time.strftime("%Y%m%d", time.gmtime(now)))
        except OSError as error:
            metrics.audit_failed()
            _log.error("audit event not written", folder=str(self._folder), reason=error.strerror, act=event.act)

    def close(self) -> None:
        """Flush what was written; another event opens the file again."""
        with self._lock:
            self._close()

    def _write(self, line: bytes, day: str) -> None:
        if self._file is None or self._owner != os.getpid() or self._day != day or self._length >= self._max_bytes:
            self._open(day)
        assert self._file is not None
        if self._torn:
            line = b"\n" + line
        self._torn = True
        written = os.write(self._file, line)
        self._length += written
        if written != len(line):
            raise OSError(0, "the disk took only a part of the line")
        self._torn = False

    def _open(self, day: str) -> None:
        if self._owner == os.getpid():
            self._close()
        self._file = None
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        number = 0
        while True:
            path = self._folder / f"audit-{day}-{os.getpid()}-{number}.jsonl"
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            length = os.fstat(file).st_size
            if length < self._max_bytes and _taken(file):
                break
            os.close(file)
            number += 1
        self._file, self._owner, self._day, self._length = file, os.getpid(), day, length
        self._torn = length > 0 and os.pread(file, 1, length - 1) != b"\n"

    def _close(self) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            os.fdatasync(file)
        finally:
            os.close(file)


def _taken(file: int) -> bool:
    """Whether the file is now this writer's alone (containers that share a folder may all be process 1)."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_FIELDS = tuple(field.name for field in fields(Event))


def _line(now: float, event: Event) -> bytes:
    given = {name: value for name in _FIELDS if (value := getattr(event, name)) is not None}
    return orjson.dumps({"at": _iso(now), **given}, option=orjson.OPT_APPEND_NEWLINE)


def _iso(now: float) -> str:
    microseconds = round(now * 1_000_000)
    return (
        f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(microseconds // 1_000_000))}.{microseconds % 1_000_000:06}Z"
    )
