"""Writes series that have been quiet for a while as packs, and moves the index to them.

An instance is in the spool until a pack that holds it was read back and the index names that; killed at any step, the
next run begins anew and finds either the old or the new. See docs/decisions/0020-sealing.md.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from gateway import log, metrics
from gateway.archive.attempts import Attempts, Tally
from gateway.archive.clock import SECOND, microseconds
from gateway.archive.leases import SeriesLease
from gateway.archive.places import ARCHIVE
from gateway.archive.publishing import check_room, publish, staged, useless_after
from gateway.archive.read_ahead import Opened, opened
from gateway.archive.steps import SEALED, STAGED, Hook, Stopped, unwatched
from storage.dicom.identity import Scope
from storage.errors import Conflict, Invalid, NotFound
from storage.index import LooseSeries, PackingIndex
from storage.objects import Location, ObjectStore
from storage.packs import Damaged, Pack
from storage.packs.write import PackWriter, Written

_MAX_INSTANCES = 20_000  # in a pack: their listing is in memory when it is used
_SERIES_AT_ONCE = 32  # asked of the index
_MOST_NAMED = 10  # damaged instances in one message
_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Sealing:
    """When a series is sealed, and how. `threads` read ahead from the spool when it is a bucket."""

    after_seconds: float = 600
    series_bytes: int = 4 << 30  # a series with so much that is loose is sealed at once
    max_pack_bytes: int = 8 << 30
    min_free_bytes: int = 1 << 30  # that stay free where packs are staged
    threads: int = 0
    custodian: str = "local"


@dataclass(frozen=True, slots=True)
class DamagedInstance:
    """A loose instance whose object is not what was stored; `why` says in which way."""

    sop_uid: str
    key: str
    why: str


class PartlySealed(Damaged):
    """Loose instances of a series are `damaged` and stay loose; all others lie in `packs` now.

    `summary` says so without naming them.
    """

    def __init__(self, damaged: Sequence[DamagedInstance], packs: Sequence[Pack]) -> None:
        named = ", ".join(f"{one.sop_uid} in {one.key}" for one in damaged[:_MOST_NAMED])
        more = f" and {len(damaged) - _MOST_NAMED} more" if len(damaged) > _MOST_NAMED else ""
        others = "the others are sealed" if packs else "there are no others to be sealed"
        self.summary = f"{len(damaged)} damaged or lost instances stay loose, {others}"
        super().__init__(f"{self.summary}: {named}{more}", key=damaged[0].key)
        self.damaged = tuple(damaged)
        self.packs = tuple(packs)


class Sealer:
    """Seals into `stores["archive"]`. `staging` is a folder of this process's own, best on the file system of the
    archive. Several may run, in one process or many: a lease gives each series to one.
    """

    def __init__(
        self,
        index: PackingIndex,
        stores: Mapping[str, ObjectStore],
        *,
        staging: Path,
        sealing: Sealing,
        stop: Event | None = None,
        clock: Callable[[], int] = microseconds,
        at: Hook = unwatched,
    ) -> None:
        self._index = index
        self._stores = stores
        self._staging = staging
        self._sealing = sealing
        self._stop = stop or Event()
        self._clock = clock
        self._at = at
        self._attempts = Attempts("seal", clock=clock, failed=lambda: metrics.upkeep_failed("seal"))
        self._damaged: dict[Scope, int] = {}  # how many instances of a series

    def run_once(self) -> Tally:
        """Seal what has been quiet long enough, up to 32 series.

        Raises Exhausted when there is no room for packs, Unavailable when an object store or the index is away.
        """
        series = self._index.unsealed(
            touched_before=self._clock() - int(self._sealing.after_seconds * SECOND),
            bytes_from=self._sealing.series_bytes,
            limit=_SERIES_AT_ONCE + self._attempts.waiting,
        )
        try:
            return self._attempts.run(series, key=_name, do=self._seal_found)
        finally:
            listed = {Scope(one.study_uid, one.series_uid) for one in series}
            self._damaged = {one: count for one, count in self._damaged.items() if one in listed}
            self._tell_what_waits()

    def _seal_found(self, series: LooseSeries) -> None:
        self._check_room(min(series.bytes, self._sealing.max_pack_bytes))
        self.seal_series(series.study_uid, series.series_uid)

    def _tell_what_waits(self) -> None:
        backlog = self._index.backlog()
        seconds = 0.0 if backlog.oldest_at is None else (self._clock() - backlog.oldest_at) / SECOND
        metrics.waiting(backlog.series, backlog.instances, backlog.bytes, max(seconds, 0))
        metrics.damaged_loose(sum(self._damaged.values()))

    def seal_series(self, study_uid: str, series_uid: str) -> list[Pack]:
        """Seal all that lies loose of this series now, however new; the packs made, none when there was nothing.

        Raises PartlySealed when loose objects are not what was stored, after the others were sealed; Busy when another
        worker is at it, Conflict when something changed meanwhile, Exhausted, Unavailable, and Stopped.
        """
        series = Scope(study_uid, series_uid)
        packs: list[Pack] = []
        damaged: list[DamagedInstance] = []
        with SeriesLease(self._index, study_uid, series_uid) as lease:
            loose = self._index.loose(study_uid, series_uid)
            with closing(opened(loose, self._stores, threads=self._sealing.threads)) as following:
                first = next(following, None)
                while first is not None:
                    with staged(self._staging) as path:
                        written, sealed, first = self._write(path, series, first, following, damaged)
                        if written is None:
                            break
                        self._at(STAGED)
                        publish(written, self._index, self._stores, lease, now=self._clock(), at=self._at)
                        with useless_after(Conflict, self._index, written.pack.location, self._clock()):
                            self._index.seal(written.pack, sealed)
                        self._at(SEALED)
                    packs.append(written.pack)
                    _tell(written.pack)
        self._damaged.pop(series, None)
        if damaged:
            self._damaged[series] = len(damaged)
            raise PartlySealed(damaged, packs)
        return packs

    def _write(
        self, path: Path, series: Scope, first: Opened, following: Iterator[Opened], damaged: list[DamagedInstance]
    ) -> tuple[Written | None, list[Location], Opened | None]:
        """A pack of as many as fit into one (None: all are damaged), where they lay, and the first that is left.

        What is not what was stored is added to `damaged`.
        """
        assert series.series_uid is not None
        sealed: list[Location] = []
        one: Opened | None = first
        with PackWriter(
            path,
            study_uid=series.study_uid,
            series_uid=series.series_uid,
            store=ARCHIVE,
            custodian=self._sealing.custodian,
        ) as writer:
            while one is not None and self._fits(one, writer, len(sealed)):
                if self._stop.is_set():
                    raise Stopped
                self._check_room(one.loose.location.length)
                location = one.loose.location
                try:
                    self._add(writer, series, one)
                    sealed.append(location)
                except (Damaged, Invalid) as error:  # Invalid: it is shorter than it was
                    damaged.append(DamagedInstance(one.loose.packed.sop_uid, location.key, str(error)))
                one = next(following, None)
            return writer.finish() if sealed else None, sealed, one

    def _fits(self, one: Opened, writer: PackWriter, count: int) -> bool:
        """An instance that is larger than a pack should be has one of its own."""
        if not count:
            return True
        within = writer.length + one.loose.location.length <= self._sealing.max_pack_bytes
        return within and count < _MAX_INSTANCES and not writer.full

    def _add(self, writer: PackWriter, series: Scope, one: Opened) -> None:
        location = one.loose.location
        try:
            writer.add(
                one.loose.packed,
                one.loose.metadata,
                one.chunks(),
                header_digest=one.loose.header_digest,
                superseded=one.loose.superseded,
            )
        except NotFound:
            assert series.series_uid is not None
            still = self._index.loose(series.study_uid, series.series_uid)
            if any(other.location == location for other in still):
                raise Damaged("the stored object of an instance is lost", key=location.key) from None
            raise  # it was deleted meanwhile

    def _check_room(self, length: int) -> None:
        check_room(self._staging, length, self._sealing.min_free_bytes)


def _name(series: LooseSeries) -> str:
    """With the time: when something has come since it failed, it does not wait until its turn comes again."""
    return f"{series.study_uid}/{series.series_uid}/{series.touched_at}"


def _tell(pack: Pack) -> None:
    metrics.packed("sealed", len(pack.instances), pack.location.length)
    _log.info("series sealed", key=pack.location.key, instances=len(pack.instances), bytes=pack.location.length)
