"""`gateway seal`: write what lies loose as packs now, without waiting until it has been quiet."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from gateway.archive.leases import Busy
from gateway.archive.sealer import PartlySealed, Sealer
from gateway.cli.closed_doors import opened
from gateway.cli.tale import Tale, in_words
from gateway.compose_archive import Backend, sealing
from gateway.config import Config, ConfigError, load
from storage.dicom.identity import Scope, uid
from storage.errors import Exhausted, NotFound, StorageError, Unavailable
from storage.index import PackingIndex
from storage.packs import Damaged, Pack

NOT_ALL, NOT_RUN = 1, 2
_AT_ONCE = 100
_ROUNDS, _PAUSE_SECONDS = 90, 1.0  # for series that another worker is at, or was when it was killed
_EVER = 1 << 62

Series = tuple[str, str]


def seal(
    study: Annotated[str, typer.Argument(metavar="[STUDY_UID", help="Seal this study.")] = "",
    series: Annotated[str, typer.Argument(metavar="[SERIES_UID]]", help="Seal this series of it alone.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Seal all that lies loose.")] = False,
    data: Annotated[Path | None, typer.Option(help="Folder for everything that is kept.  [default: data]")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Configuration file (TOML).")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a line: each pack, then a summary.")
    ] = False,
) -> None:
    """Seal series now, beside a running gateway or without it.

    Exit status: 0 nothing of what was named lies loose any more; 1 some of it does; 2 nothing could be sealed.
    """
    tale = Tale(as_json)
    try:
        if everything == bool(study):
            raise ConfigError("name a study (and a series of it), or write --all")
        settings = load(config, {"data": data} if data is not None else {})
        scope = _scope(study, series) if study else None
        with opened(settings) as backend:
            status = _run(backend, settings, scope, tale)
    except (ConfigError, StorageError, OSError) as error:
        tale.end({}, "", NOT_RUN, in_words(error))
        raise typer.Exit(NOT_RUN) from None
    raise typer.Exit(status)


def _scope(study: str, series: str) -> Scope:
    return Scope(uid(study, "Study Instance UID"), uid(series, "Series Instance UID") if series else None)


def _run(backend: Backend, settings: Config, scope: Scope | None, tale: Tale) -> int:
    index = backend.index
    sealer = Sealer(index, backend.places.stores, staging=backend.places.packing, sealing=sealing(settings))
    if scope is None:
        found: Iterable[Series] = everything_loose(index)
        total = index.backlog().series
    else:
        found = sorted({(one.identity.study_uid, one.identity.series_uid) for one in index.locate(scope)})
        total = len(found)
    with tale.progress("series", total):
        return Run(sealer, tale).seal(found, total)


def everything_loose(index: PackingIndex) -> Iterator[Series]:
    """Each series with loose instances once, also of those that come meanwhile."""
    seen: set[Series] = set()
    stuck = 0  # that are asked for in vain: they could not be sealed, or another is at them
    while True:
        found = index.unsealed(touched_before=_EVER, bytes_from=_EVER, limit=_AT_ONCE + stuck)
        names = [(one.study_uid, one.series_uid) for one in found]
        new = [name for name in names if name not in seen]
        if not new and len(names) < _AT_ONCE + stuck:
            return
        stuck = len(names) - len(new)
        seen = set(names)  # those that were sealed since are not given again
        yield from new


@dataclass
class Run:
    """One sealing of many series, and what came of it."""

    sealer: Sealer
    tale: Tale
    pause: Callable[[float], None] = time.sleep
    counts: "Counter[str]" = field(default_factory=Counter)

    def seal(self, found: Iterable[Series], total: int) -> int:
        """Seal all of them; the exit status. Those that another worker is at are tried again after the others.

        `total` is how many there are: when the archive is away it ends at once, and the others are left.
        """
        problem = ""
        busy: list[Series] = []
        try:
            self._each(found, busy)
            for _ in range(_ROUNDS):
                if not busy:
                    break
                self.pause(_PAUSE_SECONDS)
                again, busy[:] = list(busy), []
                self._each(again, busy)
        except (Exhausted, Unavailable) as error:
            problem = str(error)
            busy.clear()
            self.counts["failed"] = max(total - self.counts["done"], 1)
        for study_uid, series_uid in busy:
            self._fail(study_uid, series_uid, "another worker is at it")
        return self._end(problem)

    def _each(self, found: Iterable[Series], busy: list[Series]) -> None:
        for name in found:
            try:
                self._one(*name)
            except Busy:
                busy.append(name)
                continue
            except NotFound:
                self._fail(*name, "it was changed meanwhile")
            except PartlySealed as error:
                self._fail(*name, error.summary)
            except StorageError as error:
                if isinstance(error, Exhausted) or (isinstance(error, Unavailable) and not isinstance(error, Damaged)):
                    raise
                self._fail(*name, str(error))
            else:
                self.counts["done"] += 1
            self.tale.advance(1)

    def _one(self, study_uid: str, series_uid: str) -> None:
        try:
            self._sealed(self.sealer.seal_series(study_uid, series_uid))
        except PartlySealed as error:
            self._sealed(error.packs)
            for one in error.damaged:
                about = {"study_uid": study_uid, "series_uid": series_uid, "sop_uid": one.sop_uid, "key": one.key}
                self.tale.tell({**about, "damaged": one.why}, f"damaged: {one.sop_uid}: {one.key}: {one.why}")
            raise

    def _sealed(self, packs: Sequence[Pack]) -> None:
        self.counts["series"] += bool(packs)
        for pack in packs:
            self.counts["packs"] += 1
            self.counts["instances"] += len(pack.instances)
            self.counts["bytes"] += pack.location.length
            told = {"pack": pack.location.key, "instances": len(pack.instances), "bytes": pack.location.length}
            self.tale.tell(told, f"sealed: {pack.location.key}: {len(pack.instances)} instances")

    def _fail(self, study_uid: str, series_uid: str, why: str) -> None:
        self.counts["failed"] += 1
        told = {"study_uid": study_uid, "series_uid": series_uid, "failed": why}
        self.tale.tell(told, f"not sealed: {study_uid} {series_uid}: {why}")

    def _end(self, problem: str) -> int:
        counts = {name: self.counts[name] for name in ("series", "packs", "instances", "bytes", "failed")}
        status = 0
        if problem or counts["failed"]:
            status = NOT_ALL if counts["packs"] else NOT_RUN
        line = (
            f"{counts['series']} series sealed in {counts['packs']} packs: {counts['instances']} instances, "
            f"{counts['bytes'] / 1e6:,.1f} MB; {counts['failed']} not sealed"
        )
        self.tale.end(counts, line, status, problem)
        return status
