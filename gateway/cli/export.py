"""`gateway export`: take a study out of the archive, into a folder, a ZIP file or a medium with a DICOMDIR."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.archive import ArchiveReader
from gateway.archive.guarded import GuardedArchive
from gateway.cli.closed_doors import opened
from gateway.cli.tale import Tale, in_words
from gateway.config import ConfigError, load
from gateway.security.caller import Caller, Right
from gateway.security.policy import RightsPolicy
from gateway.upkeep.export import Exported, Medium, Zip, to_folder, to_zip
from gateway.upkeep.export import export as exported
from storage.dicom.identity import uid
from storage.errors import StorageError

FAILED = 2
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write every instance of a study as it was received, under numbers; the gateway may run or not.

    Exit status 0 when the export is complete, else 2: then nothing is left of it.
    """
    tale = Tale(as_json)
    by = Caller(getpass.getuser(), "", "command", frozenset({Right.READ}))
    try:
        if as_zip and dicomdir:
            raise ConfigError("a ZIP file is no DICOM medium: choose one of --zip and --dicomdir")
        settings = load(config, {"data": data} if data is not None else {})
        study = uid(study_uid, "Study Instance UID")
        with opened(settings) as backend, _medium(target, as_zip) as medium, tale.progress("instances"):
            archive = GuardedArchive(backend.local, RightsPolicy(), backend.audit)
            done = _export(archive, study, medium, dicomdir, by, tale)
    except (ConfigError, StorageError, OSError) as error:
        tale.end({}, "", FAILED, in_words(error))
        raise typer.Exit(FAILED) from None
    if target != "-":
        _tell(done, target, dicomdir, tale)


def _export(archive: ArchiveReader, study_uid: str, medium: Medium, dicomdir: bool, by: Caller, tale: Tale) -> Exported:
    return exported(archive, study_uid, medium, with_directory=dicomdir, by=by, tell=lambda length: tale.advance(1))


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


def _tell(done: Exported, target: str, dicomdir: bool, tale: Tale) -> None:
    line = f"{target}: {done.instances} instances in {done.series} series, {done.bytes / 1e6:,.1f} MB"
    if dicomdir:
        line += f"; {'profile ' + done.profile if done.profile else _NO_PROFILE}"
    tale.end({"target": target, **asdict(done)}, line, 0)
