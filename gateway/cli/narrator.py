"""Tells what a `store` does: a progress bar on a terminal, JSON lines for machines, plain lines for everybody else."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from gateway.cli.files import Found

STORED, ALREADY, SKIPPED, FAILED = "stored", "already stored", "skipped", "failed"


@dataclass(slots=True)
class Narrator:
    """Counts the outcomes of the files and tells them as they come."""

    as_json: bool
    counts: "Counter[str]" = field(default_factory=Counter)
    bytes_stored: int = 0
    _console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False, soft_wrap=True))
    _advance: Callable[[int], None] = lambda size: None

    @contextmanager
    def progress(self, found: Callable[[], Iterable[Found]]) -> Iterator[None]:
        """Show a bar meanwhile, if there is a terminal to show it on; then all is found once more to know the total."""
        if self.as_json or not self._console.is_terminal:
            yield
            return
        sizes = [file.size for file in found()]
        columns = (TextColumn("{task.fields[files]} files"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self._console) as bar:
            task = bar.add_task("store", total=sum(sizes), files=len(sizes))
            self._advance = lambda size: bar.advance(task, size)
            yield

    def tell(self, found: Found, outcome: str, reason: str = "") -> None:
        """One file's outcome. Paths and reasons are shown as they are, without being read as markup."""
        self.counts[outcome] += 1
        if outcome == STORED:
            self.bytes_stored += found.size
        self._advance(found.size)
        if self.as_json:
            told = {"path": str(found.path), "outcome": outcome}
            _print_json(told | {"reason": reason} if reason else told)
        elif reason:
            self._console.print(f"{outcome}: {found.path}: {reason}", markup=False)

    def summarise(self, journal: Path | None, problem: str, status: int) -> None:
        """The last line; `problem` is what made the run end early, if anything did."""
        if self.as_json:
            counts = {outcome: self.counts[outcome] for outcome in (STORED, ALREADY, SKIPPED, FAILED)}
            summary = {"counts": counts, "bytes_stored": self.bytes_stored, "exit_status": status}
            _print_json({"summary": summary | ({"problem": problem} if problem else {})})
            return
        if problem:
            self._console.print(f"gateway: {problem}", markup=False)
        told = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items()) or "no files"
        print(told)
        if self.counts[ALREADY] and journal is not None:
            print(f"An earlier run that was not complete has stored those, says {journal}; --resend sends them again.")


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()
