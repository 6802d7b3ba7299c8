"""`gateway export`: take a study out of the archive, into a folder, a ZIP file or a medium with a DICOMDIR."""

import getpass
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.archive.guarded import GuardedArchive
from gateway.cli.closed_doors import opened
from gateway.cli.tale import Tale, in_words
from gateway.config import ConfigError, load
from gateway.security.caller import Caller, Right
from gateway.security.policy import RightsPolicy
from gateway.upkeep.export import Exported, Medium, Zip, rescue, to_folder, to_zip
from gateway.upkeep.export import export as exported
from storage.dicom.identity import Scope, uid
from storage.errors import StorageError
from storage.index import Stored
from storage.packs import Damaged

INCOMPLETE, FAILED = 1, 2
_NO_PROFILE = (
    "no general purpose profile of PS3.11 allows these transfer syntaxes: the medium has a DICOMDIR, but other viewers "
    "need not read it"
)


def export(
    study_uid: Annotated[str, typer.Argument(metavar="STUDY_UID", help="The study that is to be taken out.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="An empty or new folder; with --zip a file, or -.")],
    as_zip: Annotated[bool, typer.Option("--zip", help="Write a ZIP file; `-` writes it to standard output.")] = False,
    dicomdir: Annotated[bool, typer.Option("--dicomdir", help="Write a DICOM medium with a DICOMDIR.")] = False,
    data: Annotated[Path | None, typer.Option(help="Folder for everything that is kept.  [default: data]")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Configuration file (TOML).")] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave out instances that are lost or damaged, and list them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write every instance of a study as it was received, under numbers; the gateway may run or not.

    Exit status 0 when the export is complete; 1 when `--keep-going` has left something out; else 2: then nothing is
    left of it.
    """
    tale = Tale(as_json and target != "-")
    by = Caller(getpass.getuser(), "", "command", frozenset({Right.READ}))
    try:
        if as_zip and dicomdir:
            raise ConfigError("a ZIP file is no DICOM medium: choose one of --zip and --dicomdir")
        if keep_going and dicomdir:
            raise ConfigError("a DICOM medium is complete or not made: choose one of --keep-going and --dicomdir")
        settings = load(config, {"data": data} if data is not None else {})
        study = uid(study_uid, "Study Instance UID")
        with opened(settings) as backend, _medium(target, as_zip) as medium, tale.progress("instances"):
            archive = GuardedArchive(backend.local, RightsPolicy(), backend.audit)
            if keep_going:
                instances = _instances(backend.index.locate(Scope(study)))
                done = rescue(archive, instances, medium, by=by, missing=_missing(tale), tell=_advance(tale))
            else:
                done = exported(archive, study, medium, with_directory=dicomdir, by=by, tell=_advance(tale))
    except (ConfigError, StorageError, OSError) as error:
        tale.end({}, "", FAILED, _with_advice(error))
        raise typer.Exit(FAILED) from None
    status = INCOMPLETE if done.missing else 0
    if target != "-":
        _tell(done, target, dicomdir, tale, status)
    raise typer.Exit(status)


def _instances(found: Iterable[Stored]) -> Iterator[Scope]:
    for stored in found:
        identity = stored.identity
        yield Scope(identity.study_uid, identity.series_uid, identity.sop_uid)


def _advance(tale: Tale) -> Callable[[int], None]:
    return lambda length: tale.advance(1)


def _missing(tale: Tale) -> Callable[[Scope, StorageError], None]:
    def tell(instance: Scope, error: StorageError) -> None:
        told = {"series_uid": instance.series_uid, "sop_uid": instance.sop_uid, "why": _in_words(error)}
        tale.tell({"missing": told}, f"missing: SOP Instance UID {instance.sop_uid}: {_in_words(error)}")

    return tell


def _in_words(error: Exception) -> str:
    """With the key of the object, which a caller of the gateway is not told."""
    return f"{error}: {error.key}" if isinstance(error, Damaged) and error.key else in_words(error)


def _with_advice(error: Exception) -> str:
    advice = "run `gateway verify --repair`, or take out what is left with --keep-going"
    return f"{_in_words(error)}; {advice}" if isinstance(error, Damaged) else in_words(error)


def _medium(target: str, as_zip: bool) -> AbstractContextManager[Medium]:
    if as_zip:
        return _to_standard_output() if target == "-" else to_zip(Path(target))
    return to_folder(Path(target))


@contextmanager
def _to_standard_output() -> Iterator[Medium]:
    medium = Zip(sys.stdout.buffer)
    try:
        yield medium
    finally:
        medium.close()


def _tell(done: Exported, target: str, dicomdir: bool, tale: Tale, status: int) -> None:
    line = f"{target}: {done.instances} instances in {done.series} series, {done.bytes / 1e6:,.1f} MB"
    if dicomdir:
        line += f"; {'profile ' + done.profile if done.profile else _NO_PROFILE}"
    if done.missing:
        line += f"; {done.missing} are missing"
    tale.end({"target": target, **asdict(done)}, line, status)
