"""Tells how long work on an archive goes: its pace on a terminal, a line for what is worth one, a sum at the end."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


@dataclass(slots=True)
class Tale:
    """`as_json`: JSON lines on standard output; else people are told, what goes wrong on standard error."""

    as_json: bool
    _console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False, soft_wrap=True))
    _bar: Progress | None = None
    _task: TaskID | None = None

    @contextmanager
    def progress(self, unit: str, total: int | None = None) -> Iterator[None]:
        """Show meanwhile how many of `unit` are done, if there is a terminal to show it on."""
        if self.as_json or not self._console.is_terminal:
            yield
            return
        pace = TextColumn(f"{{task.fields[unit]}}, {{task.fields[pace]:,.0f}} {unit}/s")
        with Progress(SpinnerColumn(), MofNCompleteColumn(), pace, TimeElapsedColumn(), console=self._console) as bar:
            self._bar, self._task = bar, bar.add_task("", total=total, unit=unit, pace=0.0)
            try:
                yield
            finally:
                self._bar = None

    def advance(self, count: int) -> None:
        """So many more are done."""
        if self._bar is not None and self._task is not None:
            speed = self._bar.tasks[self._task].speed or 0.0
            self._bar.update(self._task, advance=count, pace=speed)

    def tell(self, told: dict[str, Any], line: str) -> None:
        """Something worth a line: `told` for machines, `line` for people, never read as markup."""
        if self.as_json:
            _print_json(told)
        else:
            self._console.print(line, markup=False)

    def end(self, summary: dict[str, Any], line: str, status: int, problem: str = "") -> None:
        """The sum of it all; `problem` is what made it end early, if anything did."""
        if self.as_json:
            told = {**summary, "exit_status": status}
            _print_json({"summary": told | ({"problem": problem} if problem else {})})
            return
        if problem:
            self._console.print(f"gateway: {problem}", markup=False)
        if line:
            print(line)


def in_words(error: Exception) -> str:
    """What to tell a person of an error: of one of the operating system no number, but what it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()
