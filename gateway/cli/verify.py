"""`gateway verify`: hold every object against its digest and the index, and say what to do about what is wrong."""

from collections import Counter
from dataclasses import asdict
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.archive.clock import SECOND
from gateway.cli.closed_doors import opened
from gateway.cli.tale import Tale, in_words
from gateway.config import Config, ConfigError, load
from gateway.upkeep.findings import Checked, Kind
from gateway.upkeep.verification import look_for_a_lost_index
from gateway.upkeep.verification import verify as verified
from storage.dicom.identity import Scope, uid
from storage.errors import StorageError

FINDINGS, NOT_RUN = 1, 2


def verify(
    data: Annotated[Path | None, typer.Option(help="Folder for everything that is kept.  [default: data]")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Configuration file (TOML).")] = None,
    scope: Annotated[str, typer.Option(metavar="STUDY_UID", help="Look at one study alone.")] = "",
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be without losing anything.")] = False,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Objects that are read at once.")] = 4,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a line: each finding, then a summary.")
    ] = False,
) -> None:
    """Read every object (packs, loose ones, copies), beside a running gateway or without it.

    An object that nothing names can be judged when it is an hour old; until then it is counted apart, as is what the
    gateway is to delete anyway. Exit status: 0 nothing is wrong (any more); 1 something is, each with a line that says
    what to do; 2 it could not be looked at.
    """
    tale = Tale(as_json)
    try:
        settings = load(config, {"data": data} if data is not None else {})
        study = Scope(uid(scope, "Study Instance UID")) if scope else None
        status = _run(settings, tale, study, repair, threads)
    except (ConfigError, StorageError, OSError) as error:
        tale.end({}, "", NOT_RUN, in_words(error))
        raise typer.Exit(NOT_RUN) from None
    raise typer.Exit(status)


def _run(settings: Config, tale: Tale, study: Scope | None, repair: bool, threads: int) -> int:
    counts: Counter[str] = Counter(objects=0, bytes=0, findings=0, repaired=0, young=0, doomed=0)
    problem, again_at, is_lost = "", 0, False
    with opened(settings) as backend, tale.progress("objects"):
        try:
            lost = look_for_a_lost_index(backend.places, backend.index) if study is None else ()
            verifying = verified(backend.places, backend.index, study, repair=repair, threads=threads)
            for checked in chain(lost, verifying):
                _tell(checked, counts, tale)
                again_at = max(again_at, checked.again_at)
                is_lost = is_lost or any(finding.kind is Kind.LOST for finding in checked.findings)
        except StorageError as error:
            if not counts.total():
                raise
            problem = f"not everything was looked at: {error}"
    status = FINDINGS if problem or counts["findings"] > counts["repaired"] else 0
    line = (
        f"{counts['objects']} objects, {counts['bytes'] / 1e6:,.1f} MB: {counts['findings']} findings, "
        f"{counts['repaired']} put right"
    )
    told: dict[str, Any] = dict(counts)
    if counts["doomed"]:
        line += f"; not looked at: {counts['doomed']} that are to be deleted"
    if again_at and is_lost:
        line += f"; {counts['young']} that nothing names yet: after `gateway reindex` run this again, no wait is needed"
    elif again_at:
        again = datetime.fromtimestamp(again_at // SECOND + 1).astimezone()
        told["again_at"] = again.isoformat()
        line += f"; {counts['young']} too young to judge, look again after {again:%H:%M}"
    tale.end(told, line, status, problem)
    return status


def _tell(checked: Checked, counts: "Counter[str]", tale: Tale) -> None:
    counts[checked.passed or "objects"] += bool(checked.key)
    counts["bytes"] += checked.bytes
    tale.advance(1)
    for finding in checked.findings:
        counts["findings"] += 1
        counts["repaired"] += finding.repaired
        where = f"{finding.store} {finding.key}" if finding.key else finding.store
        line = f"{finding.kind}: {where}: {finding.what}; {finding.advice}"
        tale.tell({"finding": asdict(finding)}, line)
