"""`gateway reindex`: make the index anew from the object stores, when it was lost or is to move to another database."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.archive.identities import take_over
from gateway.cli.closed_doors import opened
from gateway.cli.tale import Tale, in_words
from gateway.compose_archive import index_file
from gateway.config import Config, ConfigError, load
from gateway.upkeep.fates import Done, Fate
from gateway.upkeep.lost_index import is_empty
from gateway.upkeep.rebuild import rebuild
from storage.errors import NotFound, StorageError

NOT_ALL, NOTHING_DONE = 1, 2


def reindex(
    data: Annotated[Path | None, typer.Option(help="Folder for everything that is kept.  [default: data]")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Configuration file (TOML).")] = None,
    into: Annotated[
        str, typer.Option(metavar="URL|FILE", help="Make the index there, and leave the configured one alone.")
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an index that is not empty.")] = False,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Objects that are read at once.")] = 8,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a line: what was doomed or left, then a summary.")
    ] = False,
) -> None:
    """Rebuild the index from packs and loose objects alone. Stop the gateway first, or rebuild `--into` another place.

    May be killed and run again with `--resume`. Exit status: 0 everything can be found; 1 some objects are missing or
    could not be read, or the run ended early; 2 nothing was done.
    """
    tale = Tale(as_json)
    try:
        settings = load(config, _flags(data, into))
        with _no_empty_file(settings):
            status = _run(settings, tale, resume, threads)
    except (ConfigError, StorageError, OSError) as error:
        tale.end({}, "", NOTHING_DONE, in_words(error))
        raise typer.Exit(NOTHING_DONE) from None
    raise typer.Exit(status)


def _flags(data: Path | None, into: str) -> dict[str, Any]:
    flags: dict[str, Any] = {"data": data} if data is not None else {}
    if into:
        flags["index"] = {"url": into if "://" in into else f"sqlite:///{Path(into).absolute()}"}
    return flags


@contextmanager
def _no_empty_file(settings: Config) -> Iterator[None]:
    """When nothing is done, the file of an index that was made for it goes."""
    path = index_file(settings)
    made = path is not None and not path.exists()
    try:
        yield
    except (ConfigError, StorageError, OSError):
        if made and path is not None:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        raise


def _run(settings: Config, tale: Tale, resume: bool, threads: int) -> int:
    with opened(settings, any_stores=True) as backend:
        if not resume and not is_empty(backend.index):
            raise ConfigError(
                "the index is not empty. To go on with a rebuild that was interrupted, run it again with --resume; to "
                "rebuild beside the index in use, name another place with --into, and then set [index] url to it"
            )
        counts: Counter[str] = Counter()
        started, problem = time.monotonic(), ""
        with tale.progress("instances"):
            try:
                for done in rebuild(backend.places, backend.index, threads=threads):
                    _tell(done, counts, tale)
                if counts:
                    for name, store in backend.places.stores.items():
                        take_over(name, store, backend.index)
            except StorageError as error:
                if not counts:
                    raise
                problem = f"{error}; when that is put right, run it again with --resume"
        if not counts:
            raise NotFound(
                "there is no pack and no loose instance in the stores of this configuration: are --data and --config "
                "the right ones?"
            )
    status = NOT_ALL if problem or counts[Fate.LEFT] or counts[Fate.MISSING] else 0
    seconds = time.monotonic() - started
    summary = {fate.value: counts[fate] for fate in Fate} | {"instances": counts["instances"]}
    summary["seconds"] = round(seconds, 1)  # type: ignore[assignment]
    line = (
        f"{counts['instances']} instances from {counts[Fate.ADOPTED]} objects in {seconds:.1f} s "
        f"({counts['instances'] / max(seconds, 0.001):,.0f}/s); {counts[Fate.KNOWN]} objects known already, "
        f"{counts[Fate.DOOMED]} no longer needed, {counts[Fate.LEFT]} could not be read, "
        f"{counts[Fate.MISSING]} missing"
    )
    tale.end(summary, line, status, problem)
    return status


def _tell(done: Done, counts: "Counter[str]", tale: Tale) -> None:
    counts[done.fate] += 1
    counts["instances"] += done.instances
    tale.advance(done.instances)
    if done.why:
        tale.tell({"key": done.key, "fate": done.fate, "why": done.why}, f"{done.fate}: {done.key}: {done.why}")
