"""Moves instances from loose objects into a pack, and from one pack into another, inside the writer's transaction."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table, bindparam, delete, select

from storage.dicom.identity import Scope
from storage.errors import Conflict
from storage.index import Act, Location, doomed, feed, levels, packed, served
from storage.index.packed import Columns, Listings, Packed
from storage.index.schema import contents, instances, versions
from storage.index.served import Series
from storage.index.session import Session
from storage.packs import Pack, PackedInstance

# A pack that is to be removed sooner than this may be gone before the transaction that names it is committed.
LEAST_RESPITE = 60 * 1_000_000

Name = tuple[str, int]  # SOP Instance UID, revision


def _loose_versions(table: Table) -> Any:
    columns = ("id", "sop_uid", "revision", "digest", "store", "key", "offset", "length")
    return select(*(table.c[name] for name in columns)).where(_of_series(table))


def _of_series(table: Table) -> Any:
    return (table.c.study_id == bindparam("study")) & (table.c.series_id == bindparam("one_series"))


_SERVED, _SUPERSEDED = _loose_versions(instances), _loose_versions(versions)
_DELETE_SERVED = delete(instances).where(instances.c.id == bindparam("id"))
_DELETE_CONTENTS = delete(contents).where(contents.c.instance_id == bindparam("id"))
_DELETE_SUPERSEDED = delete(versions).where(versions.c.id == bindparam("id"))
_DELETE_ALL_SERVED = delete(instances).where(_of_series(instances))
_DELETE_ALL_CONTENTS = delete(contents).where(
    contents.c.instance_id.in_(select(instances.c.id).where(_of_series(instances)))
)


def seal(session: Session, pack: Pack, columns: Columns, sealed: Sequence[Location]) -> None:
    """See `PackingIndex.seal`. `columns` are the pack's own (see `packed.columns`)."""
    _call_off_removal(session, pack.location)
    series = _series(session, pack)
    served_rows = _rows(session, _SERVED, series)
    superseded_rows = _rows(session, _SUPERSEDED, series)
    moved = {(each.sop_uid, each.revision): place for each, place in zip(pack.instances, sealed, strict=True)}
    for instance in pack.instances:
        name = instance.sop_uid, instance.revision
        _check_unchanged(served_rows.get(name) or superseded_rows.get(name), instance, moved[name])
    _delete_served(session, series, served_rows, moved)
    session.run_all(_DELETE_SUPERSEDED, [{"id": row[0]} for name, row in superseded_rows.items() if name in moved])
    doomed.doom(session, sealed, feed.now())
    packed.write(session, series.study_id, series.id, columns)
    length = sum(place.length for place in sealed)
    levels.count_series(session, series.study_id, series.id, instances=0, loose=-len(sealed), bytes=-length, packs=1)
    if series.loose_count == len(sealed):
        feed.forget_series(session, series.id)
    feed.note(session, Act.SEALED, pack.study_uid, pack.series_uid, series_id=series.id)


def repack(session: Session, listings: Listings, old: Pack, new: Pack | None, columns: Columns | None) -> None:
    """See `PackingIndex.repack`."""
    series = _series(session, old)
    there = _same_pack(session, listings, series, old)
    left = {_content(each) for each in there.listing.instances()}
    if new is None or columns is None or left != {_content(each) for each in new.instances}:
        raise Conflict("what is left of the pack is not what was written anew")
    _call_off_removal(session, new.location)
    packed.drop(session, there)
    packed.write(session, series.study_id, series.id, columns)
    doomed.doom(session, [old.location], feed.now())


def _series(session: Session, pack: Pack) -> Series:
    for series in served.series_of(session, Scope(pack.study_uid, pack.series_uid)):
        return series
    raise Conflict("the series is not there any more")


def _call_off_removal(session: Session, location: Location) -> None:
    due = doomed.due_at(session, location)
    if due is None or due < feed.now() + LEAST_RESPITE:
        raise Conflict("the pack was not announced, or its removal is due: it may be gone any moment")
    doomed.forget(session, [location])


def _rows(session: Session, statement: Any, series: Series) -> dict[Name, Any]:
    rows = session.run(statement, study=series.study_id, one_series=series.id).fetchall()
    return {(row[1], row[2]): row for row in rows}


def _check_unchanged(row: Any, instance: PackedInstance, place: Location) -> None:
    if row is None or bytes(row[3]) != instance.digest or Location(*row[4:]) != place:
        raise Conflict("an instance is not loose any more, or not as it was")


def _delete_served(session: Session, series: Series, rows: dict[Name, Any], moved: dict[Name, Location]) -> None:
    if rows.keys() <= moved.keys():
        session.run(_DELETE_ALL_CONTENTS, study=series.study_id, one_series=series.id)
        session.run(_DELETE_ALL_SERVED, study=series.study_id, one_series=series.id)
        return
    gone = [{"id": row[0]} for name, row in rows.items() if name in moved]
    session.run_all(_DELETE_CONTENTS, gone)
    session.run_all(_DELETE_SERVED, gone)


def _same_pack(session: Session, listings: Listings, series: Series, pack: Pack) -> Packed:
    for there in packed.of_series(session, listings, series.study_id, series.id):
        if there.pack_id == pack.pack_id and there.location == pack.location:
            return there
    raise Conflict("the pack is not there any more")


def _content(instance: PackedInstance) -> tuple[str, int, bytes]:
    return instance.sop_uid, instance.revision, instance.digest
