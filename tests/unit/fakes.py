"""Stand-ins for the parts below the archive: an index in memory, and an object store that can be made to fail."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.archive.places import Places
from gateway.security.audit import Event
from storage.dicom.identity import Identity, Scope
from storage.dicom.query import Query
from storage.errors import Conflict, NotFound
from storage.index import (
    Added,
    Change,
    Contents,
    InstanceRecord,
    Location,
    LooseInstance,
    Outcome,
    Page,
    Removed,
    Stored,
)
from storage.objects import Body, ObjectMeta, ObjectStore, Source
from storage.objects.memory import MemoryStore
from storage.packs import Pack, PackedInstance
from storage.packs.blocks import BlockReader

Name = tuple[str, str, str]


class MemoryIndex:
    """A MetadataIndex of dictionaries; it searches nothing."""

    def __init__(self) -> None:
        self.records: dict[Name, list[InstanceRecord]] = {}
        self.removals: list[Location] = []
        self._lock = threading.Lock()

    def add(self, record: InstanceRecord) -> Added:
        with self._lock:
            if record.location in self.removals:
                raise Conflict("the object is about to be removed")
            versions = self.records.setdefault(name_of(record.instance.identity), [])
            if versions and versions[-1].instance.digest == record.instance.digest:
                return Added(Outcome.SAME, len(versions))
            versions.append(record)
            return Added(Outcome.NEW if len(versions) == 1 else Outcome.VERSION, len(versions))

    def holds(self, identity: Identity, digest: bytes) -> bool:
        versions = self.records.get(name_of(identity))
        return bool(versions) and versions[-1].instance.digest == digest

    def search(self, query: Query) -> Page:
        return Page([record[-1].instance.dataset for record in self.records.values()][: query.limit], 0)

    def locate(self, scope: Scope) -> Sequence[Stored]:
        return [
            Stored(
                versions[-1].instance.identity,
                versions[-1].instance.transfer_syntax,
                versions[-1].location,
                versions[-1].instance.header_length,
                versions[-1].instance.digest,
                len(versions),
                versions[-1].instance.header_digest,
            )
            for versions in self._in(scope)
        ]

    def contents(self, scope: Scope) -> Contents:
        instance = self._in(scope)[0][-1].instance
        return Contents(instance.frames, dict(instance.bulk))

    def metadata(self, scope: Scope) -> Iterator[tuple[Identity, bytes]]:
        found = self._in(scope)
        return ((versions[-1].instance.identity, versions[-1].instance.metadata) for versions in found)

    def remove(self, scope: Scope) -> Removed:
        found = self._in(scope)
        for versions in found:
            del self.records[name_of(versions[0].instance.identity)]
        locations = tuple(record.location for versions in found for record in versions)
        self.removals += locations
        return Removed(len(found), locations)

    def doom(self, locations: Sequence[Location], due_at: int) -> None:
        with self._lock:
            named = {record.location for versions in self.records.values() for record in versions}
            self.removals += [location for location in locations if location not in named]

    def doomed(self, due_before: int, limit: int) -> Sequence[Location]:
        return self.removals[:limit]

    def doomed_of(self, scope: Scope) -> Iterator[Location]:
        return iter([location for location in self.removals if f"/{scope.study_uid}/" in location.key])

    def forget(self, locations: Sequence[Location]) -> None:
        self.removals = [location for location in self.removals if location not in locations]

    def loose(self, study_uid: str, series_uid: str) -> Iterator[LooseInstance]:
        for versions in self._in(Scope(study_uid, series_uid)):
            for record in versions:
                packed = PackedInstance.__new__(PackedInstance)
                for name, value in (
                    ("sop_uid", record.instance.identity.sop_uid),
                    ("digest", record.instance.digest),
                    ("received_at", record.received_at),
                ):
                    object.__setattr__(packed, name, value)
                yield LooseInstance(packed, record.location, record.instance.metadata, record.instance.header_digest)

    def packs(self, scope: Scope | None = None) -> Iterator[Pack]:
        return iter(())

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        return []

    def check(self) -> None: ...

    def close(self) -> None: ...

    def _in(self, scope: Scope) -> list[list[InstanceRecord]]:
        wanted = tuple(uid for uid in (scope.study_uid, scope.series_uid, scope.sop_uid) if uid is not None)
        found = [versions for name, versions in sorted(self.records.items()) if name[: len(wanted)] == wanted]
        if not found:
            raise NotFound("there is no such study, series or instance")
        return found


def places(
    staging: Path,
    spool: ObjectStore,
    archive: ObjectStore | None = None,
    *,
    remote: Iterable[str] = (),
    check_room: Callable[[], None] = lambda: None,
) -> Places:
    """Places over these stores."""
    archive = MemoryStore() if archive is None else archive
    blocks = BlockReader(archive)
    return Places(spool, archive, archive, blocks, staging, staging, remote=frozenset(remote), check_room=check_room)


def name_of(identity: Identity) -> Name:
    return identity.study_uid, identity.series_uid, identity.sop_uid


@dataclass
class WatchedStore:
    """An ObjectStore that notes what is read, and calls `before` with the name of each method first."""

    inner: ObjectStore
    before: Callable[[str, str], None] = lambda method, key: None
    spans: list[tuple[int, int] | None] = field(default_factory=list)

    def put(self, key: str, source: Source, *, if_absent: bool = True) -> ObjectMeta:
        self.before("put", key)
        return self.inner.put(key, source, if_absent=if_absent)

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        self.before("get", key)
        self.spans.append(span)
        return self.inner.get(key, span)

    def head(self, key: str) -> ObjectMeta:
        self.before("head", key)
        return self.inner.head(key)

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self.before("delete", keys[0] if keys else "")
        self.inner.delete(keys)

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectMeta]:
        return self.inner.scan(prefix, after=after)

    def check(self) -> None:
        self.before("check", "")
        self.inner.check()


@dataclass
class KeptAudit:
    """An AuditLog in memory."""

    events: list[Event] = field(default_factory=list)

    def record(self, event: Event) -> None:
        self.events.append(event)
