"""An archive in memory, with pydicom behind it, and switches to make it fail where a test wants it to."""

import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pydicom
from pydicom.encaps import generate_frames

from gateway.archive import AS_STORED, BY_DEFAULT, Expected, Found, Receipt
from gateway.archive.incoming import Incoming
from gateway.security.caller import Caller
from storage.dicom.identity import Identity, Scope
from storage.dicom.query import Level, Query, Single, UidList, Universal
from storage.errors import Fault, Invalid, NotAcceptable, NotFound, Unavailable
from storage.index import Outcome, Removed


@dataclass
class MemoryPart:
    """A part whose bytes are here already; counts how many are open."""

    identity: Identity
    transfer_syntax: str
    place: str
    data: bytes
    archive: "FakeArchive"
    chunk_bytes: int = 1 << 20
    is_open: bool = True

    def __post_init__(self) -> None:
        self.archive.opened += 1

    @property
    def length(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[bytes]:
        try:
            for offset in range(0, len(self.data), self.chunk_bytes):
                if self.archive.break_after is not None and offset >= self.archive.break_after:
                    raise self.archive.break_by
                self.archive.sent += self.chunk_bytes
                yield self.data[offset : offset + self.chunk_bytes]
        finally:
            self.close()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.archive.closed += 1


@dataclass
class Stored:
    identity: Identity
    file: bytes
    syntax: str
    json: dict[str, Any]
    metadata: bytes
    dataset: pydicom.Dataset


@dataclass
class FakeArchive:
    """What the web door is tested against; `fail` names methods and the errors they raise."""

    folder: Path
    instances: dict[str, Stored] = field(default_factory=dict)
    fail: dict[str, Exception] = field(default_factory=dict)
    break_after: int | None = None
    break_by: Exception = field(default_factory=lambda: Unavailable("the object store went away"))
    opened: int = 0
    closed: int = 0
    sent: int = 0
    extra_remaining: int = 0
    unanswered: tuple[str, ...] = ()
    trouble: str = ""
    max_bytes: int = 1 << 31
    gate: threading.Event | None = None
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    queries: list[Query] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    storing: int = 0
    most_storing: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def search(self, query: Query, *, by: Caller) -> Found:
        self._begin("search", by)
        self.queries.append(query)
        rows: dict[str, dict[str, Any]] = {}
        for each in self._in(query.study_uid, query.series_uid, None):
            if all(_matches(each.json, key) for key in query.keys):
                rows.setdefault(_uid_at(each.identity, query.level), _row(each, query))
        found = list(rows.values())[query.offset :]
        taken = found[: query.limit]
        return Found(taken, len(found) - len(taken) + self.extra_remaining, self.extra_remaining == 0, self.unanswered)

    def metadata(self, scope: Scope, *, by: Caller) -> Iterator[tuple[Identity, bytes]]:
        self._begin("metadata", by)
        found = self._found(scope)
        return ((each.identity, each.metadata) for each in found)

    def retrieve(self, scope: Scope, *, accept: Sequence[str], by: Caller) -> Iterator[MemoryPart]:
        self._begin("retrieve", by)
        found = self._found(scope)
        _check(found, accept)
        return (MemoryPart(each.identity, each.syntax, "", each.file, self) for each in found)

    def frames(
        self, scope: Scope, numbers: Sequence[int], *, accept: Sequence[str], by: Caller
    ) -> Iterator[MemoryPart]:
        self._begin("frames", by)
        (each,) = self._found(scope)
        frames = _frames(each.dataset)
        if max(numbers) > len(frames):
            raise NotFound(f"the instance has {len(frames)} frames")
        _check([each], accept)
        return (
            MemoryPart(each.identity, each.syntax, f"frames/{number}", frames[number - 1], self) for number in numbers
        )

    def bulk(
        self, scope: Scope, path: str, *, accept: Sequence[str] = (AS_STORED,), by: Caller
    ) -> Iterator[MemoryPart]:
        self._begin("bulk", by)
        (each,) = self._found(scope)
        if int(path[:8], 16) not in each.dataset:
            raise NotFound("no such bulk value")
        if path == "7FE00010":
            compressed = each.dataset.file_meta.TransferSyntaxUID.is_compressed
            values = _frames(each.dataset) if compressed else [each.dataset.PixelData]
        else:
            values = [each.dataset[int(path[:8], 16)].value]
        syntax = each.syntax if path == "7FE00010" else "1.2.840.10008.1.2.1"
        if path == "7FE00010":
            _check([each], accept)
        return (MemoryPart(each.identity, syntax, f"bulkdata/{path}", value, self) for value in values)

    def incoming(self) -> Incoming:
        self._begin("incoming", None)
        return Incoming(self.folder, memory_bytes=1 << 16, max_bytes=self.max_bytes)

    def store(self, incoming: Incoming, expected: Expected, *, by: Caller) -> Receipt:
        with self.lock:
            self.storing += 1
            self.most_storing = max(self.most_storing, self.storing)
        try:
            self._begin("store", by)
            with incoming.view() as view:
                return self._store(bytes(view), expected)
        finally:
            with self.lock:
                self.storing -= 1

    def _store(self, file: bytes, expected: Expected) -> Receipt:
        stored = read(file)
        if expected.study_uid not in (None, stored.identity.study_uid):
            raise Invalid(Fault.MISMATCH, "the instance belongs to another study")
        with self.lock:
            before = self.instances.get(stored.identity.sop_uid)
            self.instances[stored.identity.sop_uid] = stored
        if before is None:
            return Receipt(stored.identity, Outcome.NEW, 1, ())
        if before.file == file:
            return Receipt(stored.identity, Outcome.SAME, 1, ())
        return Receipt(stored.identity, Outcome.VERSION, 2, ("stored as version 2",))

    def delete(self, scope: Scope, *, by: Caller) -> Removed:
        raise NotImplementedError

    def check(self) -> str:
        self._begin("check", None)
        return self.trouble

    def _begin(self, act: str, by: Caller | None) -> None:
        if by is not None:
            self.callers.append(by)
        self.entered.release()
        if self.gate is not None and act != "incoming":
            assert self.gate.wait(20)
        if act in self.fail:
            raise self.fail[act]

    def _found(self, scope: Scope) -> list[Stored]:
        found = self._in(scope.study_uid, scope.series_uid, scope.sop_uid)
        if not found:
            raise NotFound("there is no such study, series or instance")
        return found

    def _in(self, *uids: str | None) -> list[Stored]:
        return [each for each in self.instances.values() if _within(each.identity, uids)]


def read(file: bytes) -> Stored:
    """A Part 10 file as the archive keeps it; Invalid when pydicom cannot read it or a UID is missing."""
    try:
        ds = pydicom.dcmread(io.BytesIO(file))
    except Exception as error:
        raise Invalid(Fault.NOT_DICOM, "this is not DICOM") from error
    uids = [
        str(ds.get(keyword, ""))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    ]
    if not all(uids):
        raise Invalid(Fault.MISSING_UID, "a UID is missing or empty")
    json = ds.to_json_dict(bulk_data_threshold=1024, bulk_data_element_handler=lambda e: f"bulkdata/{e.tag:08X}")
    if "PixelData" in ds:
        json["7FE00010"] = {"vr": "OW", "BulkDataURI": "bulkdata/7FE00010"}
    syntax = str(ds.file_meta.TransferSyntaxUID)
    return Stored(Identity(*uids), file, syntax, json, orjson.dumps(json), ds)


def _frames(ds: pydicom.Dataset) -> list[bytes]:
    count = int(ds.get("NumberOfFrames", 1) or 1)
    if ds.file_meta.TransferSyntaxUID.is_compressed:
        return list(generate_frames(ds.PixelData, number_of_frames=count))
    length = ds.Rows * ds.Columns * ds.SamplesPerPixel * ds.BitsAllocated // 8
    return [ds.PixelData[number * length : (number + 1) * length] for number in range(count)]


def _check(found: list[Stored], accept: Sequence[str]) -> None:
    for each in found:
        if not {AS_STORED, BY_DEFAULT, each.syntax} & {*accept}:
            raise NotAcceptable(f"stored as {each.syntax}")


def _within(identity: Identity, uids: tuple[str | None, ...]) -> bool:
    have = (identity.study_uid, identity.series_uid, identity.sop_uid)
    return all(asked in (None, own) for asked, own in zip(uids, have, strict=True))


def _uid_at(identity: Identity, level: Level) -> str:
    return (identity.study_uid, identity.series_uid, identity.sop_uid)[level - 1]


def _matches(json: dict[str, Any], key: Any) -> bool:
    values = [str(value) for value in json.get(key.path[-1], {}).get("Value", [])]
    match key.matching:
        case Universal():
            return True
        case UidList(wanted):
            return any(value in wanted for value in values)
        case Single(wanted):
            if key.vr == "PN":
                values = [group for each in json[key.path[-1]]["Value"] for group in each.values()]
            return wanted.casefold() in (value.casefold() for value in values)
    return True


def _row(each: Stored, query: Query) -> dict[str, Any]:
    tags = ["0020000D", "00100010", "00100020", *("0020000E", "00080018")[: query.level - 1], *query.include]
    return {tag: each.json[tag] for tag in reversed(tags) if tag in each.json}
