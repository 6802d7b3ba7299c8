"""Brings files to a destination: in batches, again after a while when that may help, and never silently not."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gateway.cli.files import DicomFile

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0


class Fate(StrEnum):
    """What became of a file."""

    STORED = "stored"
    REFUSED = "refused"
    LATER = "later"  # not now; it may be taken when sent again


@dataclass(frozen=True, slots=True)
class Sent:
    """A file and its fate, with the reason when it was not stored."""

    file: DicomFile
    fate: Fate
    reason: str = ""
    pause_seconds: float = 0.0  # how long the destination asked to be left alone


class Unreachable(Exception):
    """No connection, or it was lost; what was not yet answered may be sent again."""


class Rejected(Exception):
    """The destination takes nothing from us as things are; sending again does not help."""


class Destination(Protocol):
    """Where instances can be stored."""

    max_files: int  # in one batch
    max_bytes: int

    def send(self, files: Sequence[DicomFile]) -> Iterator[Sent]:
        """Send a batch and tell of each file what became of it. Raises Unreachable, Rejected."""

    def close(self) -> None: ...


def batches(files: Iterable[DicomFile], max_files: int, max_bytes: int) -> Iterator[list[DicomFile]]:
    """The files in order, in groups within both limits; a file over `max_bytes` makes a group of its own."""
    batch: list[DicomFile] = []
    size = 0
    for file in files:
        if batch and (len(batch) == max_files or size + file.size > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


class Delivery:
    """Sends batches to one destination, each at most `1 + retries` times, with growing pauses between."""

    def __init__(self, destination: Destination, retries: int, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._destination = destination
        self._retries = retries
        self._sleep = sleep
        self._reached = False

    def deliver(self, batch: Sequence[DicomFile]) -> Iterator[Sent]:
        """The fate of each file of the batch: STORED, REFUSED, or LATER when all retries were of no avail.

        Raises Rejected; and Unreachable when there is no connection at first, or none any more after all retries.
        """
        waiting = list(batch)
        reasons: dict[DicomFile, str] = {}
        for attempt in range(self._retries + 1):
            unanswered = dict.fromkeys(waiting)
            pause = FIRST_PAUSE_SECONDS * 2.0**attempt
            try:
                for sent in self._destination.send(waiting):
                    self._reached = True
                    if sent.fate is Fate.LATER:
                        reasons[sent.file] = sent.reason
                        pause = max(pause, sent.pause_seconds)
                    else:
                        del unanswered[sent.file]
                        yield sent
            except Unreachable:
                if not self._reached or attempt == self._retries:
                    raise
            waiting = list(unanswered)
            if not waiting:
                return
            if attempt < self._retries:
                self._sleep(min(pause, LONGEST_PAUSE_SECONDS))
        for file in waiting:
            yield Sent(file, Fate.LATER, reasons.get(file, "the destination did not say what became of it"))
