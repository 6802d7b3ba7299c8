"""What lies loose, for the sealer: how much, which series wait, and all versions of one."""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, or_, select

from storage.dicom.frames import FrameTable
from storage.dicom.identity import Scope
from storage.index import Backlog, Location, LooseInstance, LooseSeries, documents, served
from storage.index.engine import Engine
from storage.index.metadata import BATCH, BATCH_BYTES
from storage.index.schema import contents, instances, series, studies, versions
from storage.index.served import Series
from storage.index.session import Session, constant
from storage.packs import PackedInstance

_BACKLOG = select(
    func.count(), func.sum(series.c.loose_count), func.sum(series.c.loose_bytes), func.min(series.c.touched_at)
).where(series.c.loose_count > constant(0))
_UNSEALED = (
    select(studies.c.study_uid, series.c.series_uid, series.c.loose_count, series.c.loose_bytes, series.c.touched_at)
    .join_from(series, studies, studies.c.id == series.c.study_id)
    .where(
        series.c.loose_count > constant(0),
        or_(series.c.touched_at < bindparam("touched_before"), series.c.loose_bytes >= bindparam("bytes_from")),
    )
    .order_by(series.c.touched_at)
    .limit(bindparam("limit"))
    .offset(constant(0))
)
_COLUMNS = (
    "sop_class",
    "instance_number",
    "transfer_syntax",
    "store",
    "key",
    "offset",
    "length",
    "header_length",
    "header_digest",
    "digest",
    "received_at",
    "source",
    "repair",
    "attributes",
)
_WIDE = ("metadata", "frames", "bulk")


def _in_series(table: Any) -> Any:
    return (table.c.study_id == bindparam("study")) & (table.c.series_id == bindparam("one_series"))


def _named(table: Any) -> Any:
    name = (table.c.sop_uid == bindparam("sop_uid")) & (table.c.revision == bindparam("revision"))
    return _in_series(table) & name


_NAMES = [
    select(table.c.instance_number, table.c.sop_uid, table.c.revision).where(_in_series(table))
    for table in (instances, versions)
]
_ONE = [
    select(*(instances.c[name] for name in _COLUMNS), *(contents.c[name] for name in _WIDE))
    .join_from(instances, contents, contents.c.instance_id == instances.c.id)
    .where(_named(instances)),
    select(*(versions.c[name] for name in (*_COLUMNS, *_WIDE))).where(_named(versions)),
]


class _Name(NamedTuple):
    sop_uid: str
    revision: int


def backlog(session: Session) -> Backlog:
    """See `PackingIndex.backlog`."""
    count, loose, length, oldest = session.run(_BACKLOG).fetchone()
    return Backlog(count, int(loose or 0), int(length or 0), oldest)


def unsealed(session: Session, touched_before: int, bytes_from: int, limit: int) -> list[LooseSeries]:
    """See `PackingIndex.unsealed`."""
    rows = session.run(_UNSEALED, touched_before=touched_before, bytes_from=bytes_from, limit=limit).fetchall()
    return [LooseSeries(*row) for row in rows]


def read(engine: Engine, study_uid: str, series_uid: str) -> Iterator[LooseInstance]:
    """See `PackingIndex.loose`. What is removed or sealed meanwhile is left out."""
    with engine.reading() as session:
        found = served.series_of(session, Scope(study_uid, series_uid))
        waiting = deque(_names(session, found[0]) if found else [])
    while waiting:
        with engine.reading() as session:
            batch = _next(session, found[0], waiting)
        yield from batch


def _names(session: Session, one: Series) -> list[_Name]:
    """All versions in the order of `Pack.instances`."""
    rows: list[tuple[int | None, str, int]] = []
    for statement in _NAMES:
        rows += session.run(statement, study=one.study_id, one_series=one.id).fetchall()
    rows.sort(key=lambda row: (row[0] is None, row[0] or 0, row[1], row[2]))
    return [_Name(sop_uid, revision) for _, sop_uid, revision in rows]


def _next(session: Session, one: Series, waiting: deque[_Name]) -> list[LooseInstance]:
    batch: list[LooseInstance] = []
    length = 0
    while waiting and len(batch) < BATCH and length < BATCH_BYTES:
        found = _instance(session, one, waiting.popleft())
        if found is not None:
            batch.append(found)
            length += len(found.metadata)
    return batch


def _instance(session: Session, one: Series, name: _Name) -> LooseInstance | None:
    for statement, is_superseded in zip(_ONE, (False, True), strict=True):  # served when named, superseded by now
        row = session.run(
            statement, study=one.study_id, one_series=one.id, sop_uid=name.sop_uid, revision=name.revision
        ).fetchone()
        if row is not None:
            return _loose_instance(name, row, is_superseded)
    return None


def _loose_instance(name: _Name, row: Any, is_superseded: bool) -> LooseInstance:
    sop_class, number, syntax, store, key, offset, length, header_length, header_digest, digest, *more = row
    received_at, source, repair, attributes, metadata, frames, bulk = more
    packed = PackedInstance(
        sop_uid=name.sop_uid,
        sop_class=sop_class,
        instance_number=number,
        transfer_syntax=syntax,
        offset=offset,
        length=length,
        header_length=header_length,
        digest=bytes(digest),
        revision=name.revision,
        received_at=received_at,
        source=source,
        repair=repair,
        attributes=bytes(attributes),
        frames=FrameTable.from_bytes(frames),
        bulk=documents.bulk_from_bytes(bulk),
    )
    place = Location(store, key, offset, length)
    return LooseInstance(packed, place, bytes(metadata), bytes(header_digest), is_superseded)
