"""An archive of two object stores and an index for tests of sealing: fill it, and hold it against what was sent."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gateway.archive.copier import Copier
from gateway.archive.sealer import Sealer, Sealing
from gateway.archive.sweeper import Sweeper
from storage.dicom.identity import Scope
from storage.dicom.parse import parse
from storage.index import InstanceRecord
from storage.objects import Location, ObjectStore, keys
from tests import samples

SECOND = 1_000_000
STUDY, SERIES = f"{samples.ROOT}.1", f"{samples.ROOT}.1.1"
HOUR = 3600


@dataclass
class Clock:
    """The time, which stands until it is moved."""

    now: int = 1_770_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@cache
def file_of(study: int, series: int, number: int, seed: int = 0, size: int = 16, **changes: Any) -> bytes:
    """A Part 10 file; another `seed` is another version of the same instance."""
    return samples.part10(samples.ct(study, series, number, size=size, StudyDescription=f"{seed}", **changes))


@dataclass
class Archive:
    """`sent` is what must be read back: the newest version of each instance."""

    index: Any
    stores: Mapping[str, ObjectStore]
    staging: Path
    clock: Callable[[], int]
    sent: dict[tuple[str, str, str], bytes] = field(default_factory=dict)

    def store(self, study: int = 1, series: int = 1, numbers: Iterable[int] = (1,), seed: int = 0) -> None:
        """Store instances as the archive does: bytes first, then the index."""
        for number in numbers:
            self.store_file(file_of(study, series, number, seed))

    def store_many(self, count: int, size: int = 16) -> None:
        """Store so many slices of STUDY and SERIES, quicker made: they differ in their UIDs alone."""
        made = file_of(1, 1, 10_000, size=size)
        for number in range(10_000, 10_000 + count):
            self.store_file(made.replace(f"{SERIES}.10000".encode(), f"{SERIES}.{number}".encode()))

    def store_file(self, data: bytes) -> None:
        instance = parse(data)
        key = keys.spool(instance.identity, instance.digest)
        self.stores["spool"].put(key, [data])
        location = Location("spool", key, 0, len(data))
        self.index.add(InstanceRecord(instance, location, self.clock(), "test"))
        identity = instance.identity
        self.sent[identity.study_uid, identity.series_uid, identity.sop_uid] = data

    def remove(self, scope: Scope) -> None:
        """Delete as the archive does."""
        self.index.remove(scope)
        uids = [uid for uid in (scope.study_uid, scope.series_uid, scope.sop_uid) if uid is not None]
        self.sent = {name: data for name, data in self.sent.items() if list(name[: len(uids)]) != uids}

    def sealer(self, **changes: Any) -> Sealer:
        """A sealer of its own; `changes` are fields of `Sealing`, or arguments of the sealer."""
        arguments = {name: changes.pop(name) for name in ("at", "stop") if name in changes}
        sealing = Sealing(**({"after_seconds": 600, "min_free_bytes": 0} | changes))
        return Sealer(self.index, self.stores, staging=self.staging, sealing=sealing, clock=self.clock, **arguments)

    def sweeper(self, **arguments: Any) -> Sweeper:
        return Sweeper(self.index, self.stores, clock=self.clock, **arguments)

    def copier(self, **arguments: Any) -> Copier:
        return Copier(self.index, self.stores, staging=self.staging, clock=self.clock, **arguments)

    def read(self, study_uid: str, series_uid: str, sop_uid: str) -> bytes:
        """The served version, from wherever it lies."""
        location = self.index.locate(Scope(study_uid, series_uid, sop_uid))[0].location
        with self.stores[location.store].get(location.key, (location.offset, location.length)) as body:
            return body.read()

    def check_all_is_read_back(self) -> None:
        """Every instance that was sent is there, byte for byte, and nothing else is."""
        for name, data in self.sent.items():
            assert self.read(*name) == data
        found = {name[:2]: {name_[2] for name_ in self.sent if name_[:2] == name[:2]} for name in self.sent}
        for (study, series), expected in found.items():
            assert {one.identity.sop_uid for one in self.index.locate(Scope(study, series))} == expected

    def check_each_lies_once(self) -> None:
        """No instance is in two packs in the same version, and loose ones are in none."""
        packs = list(self.index.packs())
        versions = [(pack.series_uid, one.sop_uid, one.revision) for pack in packs for one in pack.instances]
        assert len(versions) == len(set(versions))
        for series in {(pack.study_uid, pack.series_uid) for pack in packs}:
            for loose in self.index.loose(*series):
                assert (series[1], loose.packed.sop_uid, loose.packed.revision) not in versions

    def check_nothing_is_left_over(self) -> None:
        """Every object is named by the index, and nothing waits to be removed."""
        assert self.index.doomed(self.clock() + 1000 * HOUR * SECOND, 10_000) == []
        packs = {pack.location.key for pack in self.index.packs()}
        assert {meta.key for meta in self.stores["archive"].scan("packs/")} == packs
        series = {name[:2] for name in self.sent}
        loose = {one.location.key for uids in series for one in self.index.loose(*uids)}
        assert {meta.key for meta in self.stores["spool"].scan("spool/")} == loose
        assert list(self.staging.iterdir()) == []


def once(step: str, act: Callable[[], object]) -> Callable[[str], None]:
    """A hook that acts at the first such step."""
    left = [step]

    def at(reached: str) -> None:
        if reached in left:
            left.remove(reached)
            act()

    return at


def at_call(method: str, act: Callable[[], object]) -> Callable[[str], None]:
    """What acts before the first call of this method of an index."""
    return once(method, act)


def take_lease(archive: Archive) -> None:
    """An hour passes, and another worker has taken over STUDY and SERIES."""
    archive.clock.pass_(HOUR)  # type: ignore[attr-defined]
    archive.index.lease(f"seal/{STUDY}/{SERIES}", "another", 60)


class Crash(BaseException):
    """Ends everything at once, as a kill would."""


def crash_at(step: str) -> Callable[[str], None]:
    """A hook that raises Crash at this step."""

    def crash() -> None:
        raise Crash

    return once(step, crash)
