"""Reads by scope: where instances lie, what they contain, their metadata. And the one order in which they come."""

from collections import deque
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, select

from storage.dicom.frames import FrameTable
from storage.dicom.identity import Identity, Scope
from storage.errors import NotFound
from storage.index import Contents, Location, Stored, documents
from storage.index.schema import contents, instances, series, studies
from storage.index.session import Session

METADATA_BATCH = 64  # instances whose metadata is in memory at once, unless
METADATA_BATCH_BYTES = 4 << 20  # are reached before, which the last one may pass

ORDER_IN_STUDY: tuple[ColumnElement[Any], ...] = (
    series.c.series_number.asc().nulls_last(),
    series.c.series_uid,
    instances.c.instance_number.asc().nulls_last(),
    instances.c.sop_uid,
)
JOINED = studies.join(series, series.c.study_id == studies.c.id).join(
    instances, (instances.c.study_id == studies.c.id) & (instances.c.series_id == series.c.id)
)
IDENTITY = (studies.c.study_uid, series.c.series_uid, instances.c.sop_uid, instances.c.sop_class)


def _in_study(statement: "Select[Any]") -> "Select[Any]":
    return statement.where(studies.c.study_uid == bindparam("study_uid"))


def _in_series(statement: "Select[Any]") -> "Select[Any]":
    return _in_study(statement).where(series.c.series_uid == bindparam("series_uid"))


def _one_instance(statement: "Select[Any]") -> "Select[Any]":
    return _in_series(statement).where(instances.c.sop_uid == bindparam("sop_uid"))


def by_scope(statement: "Select[Any]") -> "tuple[Select[Any], Select[Any], Select[Any]]":
    """`statement`, which joins all three levels, for a study, a series and an instance; see `chosen`."""
    return _in_study(statement), _in_series(statement), _one_instance(statement)


def chosen(statements: "tuple[Select[Any], Select[Any], Select[Any]]", scope: Scope) -> "Select[Any]":
    """The one of `by_scope` that fits."""
    if scope.sop_uid is not None:
        return statements[2]
    return statements[0] if scope.series_uid is None else statements[1]


def parameters(scope: Scope) -> dict[str, object]:
    """The values that a statement of `chosen` takes."""
    names = {"study_uid": scope.study_uid, "series_uid": scope.series_uid, "sop_uid": scope.sop_uid}
    return {name: value for name, value in names.items() if value is not None}


_STORED = by_scope(
    select(
        *IDENTITY,
        instances.c.transfer_syntax,
        instances.c.store,
        instances.c.key,
        instances.c.offset,
        instances.c.length,
        instances.c.header_length,
        instances.c.digest,
        instances.c.revision,
    )
    .select_from(JOINED)
    .order_by(*ORDER_IN_STUDY)
)
_IDS = by_scope(select(instances.c.id).select_from(JOINED).order_by(*ORDER_IN_STUDY))
_CONTENTS = _one_instance(
    select(contents.c.frames, contents.c.bulk).select_from(
        JOINED.join(contents, contents.c.instance_id == instances.c.id)
    )
)
_DIGEST = _one_instance(select(instances.c.digest).select_from(JOINED))
_METADATA = (
    select(*IDENTITY, contents.c.metadata)
    .select_from(JOINED.join(contents, contents.c.instance_id == instances.c.id))
    .where(instances.c.id == bindparam("instance"))
)


def locate(session: Session, scope: Scope) -> list[Stored]:
    """See `MetadataIndex.locate`."""
    rows = session.run(chosen(_STORED, scope), **parameters(scope)).fetchall()
    if not rows:
        raise nothing(scope)
    return [
        Stored(Identity(*row[:4]), row[4], Location(*row[5:9]), header_length=row[9], digest=row[10], revision=row[11])
        for row in rows
    ]


def contents_of(session: Session, scope: Scope) -> Contents:
    """See `MetadataIndex.contents`."""
    row = session.run(_CONTENTS, **parameters(scope)).fetchone()
    if row is None:
        raise nothing(scope)
    return Contents(FrameTable.from_bytes(row[0]), documents.bulk_from_bytes(row[1]))


def digest_of(session: Session, identity: Identity) -> bytes | None:
    """The digest of the served version of this instance; None when it is not there."""
    row = session.run(
        _DIGEST, **parameters(Scope(identity.study_uid, identity.series_uid, identity.sop_uid))
    ).fetchone()
    return None if row is None else bytes(row[0])


def ids(session: Session, scope: Scope) -> list[int]:
    """The instances in scope, in their order; NotFound when there are none."""
    rows = session.run(chosen(_IDS, scope), **parameters(scope)).fetchall()
    if not rows:
        raise nothing(scope)
    return [row[0] for row in rows]


def next_metadata(session: Session, waiting: deque[int]) -> list[tuple[Identity, bytes]]:
    """The metadata of the first of `waiting`, which are taken off it, until a batch is full.

    `waiting` are from `ids`; those that have been removed since are left out.
    """
    batch: list[tuple[Identity, bytes]] = []
    length = 0
    while waiting and len(batch) < METADATA_BATCH and length < METADATA_BATCH_BYTES:
        row = session.run(_METADATA, instance=waiting.popleft()).fetchone()
        if row is not None:
            batch.append((Identity(*row[:4]), row[4]))
            length += len(row[4])
    return batch


def nothing(scope: Scope) -> NotFound:
    """That a scope names nothing here."""
    level = "study" if scope.series_uid is None else "series" if scope.sop_uid is None else "instance"
    return NotFound(f"there is no such {level} here")
