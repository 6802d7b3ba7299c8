"""`gateway delete`: remove a study, a series or an instance from the archive."""

import getpass
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from gateway.archive.guarded import GuardedArchive
from gateway.cli.closed_doors import opened
from gateway.cli.tale import Tale, in_words
from gateway.compose_archive import Backend
from gateway.config import ConfigError, load
from gateway.security.caller import Caller, Right
from gateway.security.policy import RightsPolicy
from gateway.upkeep.erasure import erase
from storage.dicom.identity import Scope, uid
from storage.errors import StorageError
from storage.index.sqlite import SqliteIndex

NOT_ERASED, NOT_DELETED = 1, 2
_LATER = (
    "found no more from now on; the bytes go a minute later with the gateway that runs, or its next start, from packs "
    "with other instances in them when these are written anew"
)
_NOW = "found no more, and the bytes are gone from spool, archive and copies"
_NOT_YET = "found no more, but not all bytes are gone"


def delete(
    study: Annotated[str, typer.Argument(metavar="STUDY_UID", help="Delete this study.")],
    series: Annotated[str, typer.Argument(metavar="[SERIES_UID", help="Delete this series of it alone.")] = "",
    sop: Annotated[str, typer.Argument(metavar="[SOP_UID]]", help="Delete this instance of that alone.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Return when the bytes are gone too; takes a minute.")] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the audit; name no patient.")] = "",
    data: Annotated[Path | None, typer.Option(help="Folder for everything that is kept.  [default: data]")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Configuration file (TOML).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Delete a study, a series or an instance with all its versions, beside a running gateway or without it.

    It is found no more at once, also by an index that is rebuilt. Exit status: 0 done; 1 with --now: it is found no
    more, but not all bytes are gone yet; 2 nothing was deleted.
    """
    tale = Tale(as_json)
    by = Caller(getpass.getuser(), "", "command", frozenset({Right.DELETE}), purpose=reason)
    try:
        settings = load(config, {"data": data} if data is not None else {})
        scope = _scope(study, series, sop)
        with opened(settings) as backend:
            if not yes:
                _ask(backend, scope, as_json)
            archive = GuardedArchive(backend.local, RightsPolicy(), backend.audit)
            count = archive.delete(scope, by=by).instances
            left, problem = _erase(backend, scope, settings.spool.min_free_bytes) if now else ({}, "")
    except (ConfigError, StorageError, OSError) as error:
        tale.end({}, "", NOT_DELETED, in_words(error))
        raise typer.Exit(NOT_DELETED) from None
    status = NOT_ERASED if problem else 0
    line = f"{count} instances deleted: {_NOT_YET if problem else _NOW if now else _LATER}"
    tale.end({"instances": count, "bytes_gone": now and not problem, "left": left}, line, status, problem)
    raise typer.Exit(status)


def _scope(study: str, series: str, sop: str) -> Scope:
    return Scope(
        uid(study, "Study Instance UID"),
        uid(series, "Series Instance UID") if series else None,
        uid(sop, "SOP Instance UID") if sop else None,
    )


def _ask(backend: Backend, scope: Scope, as_json: bool) -> None:
    """Raises ConfigError unless a person at a terminal agrees, NotFound when there is nothing to agree to."""
    found = backend.index.locate(scope)
    if as_json or not _is_asked():
        raise ConfigError("nobody is there to be asked: write --yes to delete it")
    series = len({one.identity.series_uid for one in found})
    if not typer.confirm(f"Delete {len(found)} instances in {series} series, for good?", err=True):
        raise ConfigError("nothing was deleted")


def _is_asked() -> bool:
    """Whether there is somebody to answer."""
    return sys.stdin.isatty()


def _erase(backend: Backend, scope: Scope, min_free_bytes: int) -> tuple[Mapping[str, str], str]:
    """Where bytes are left, by store, and why; and what to say of it, "" when they are gone."""
    try:
        left = erase(backend.places, backend.index, scope, min_free_bytes=min_free_bytes)
        if left:
            where = ", ".join(f"{store} ({why})" for store, why in left.items())
            return left, f"bytes are left in {where}; the gateway goes on with it"
        if isinstance(backend.index, SqliteIndex) and not backend.index.empty_journal():
            return {}, "somebody is reading the index: its journal keeps what was deleted until the gateway empties it"
    except (StorageError, OSError) as error:
        return {}, f"not all bytes are gone: {in_words(error)}; the gateway goes on with it"
    return {}, ""
