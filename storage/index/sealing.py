"""Moves instances from loose objects into a pack, and from one pack into another, inside the writer's transaction."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Table, bindparam, delete, select

from storage.dicom.identity import Scope
from storage.errors import Conflict
from storage.index import Act, Location, doomed, feed, levels, packed, served
from storage.index.packed import Columns, Listings, Packed
from storage.index.schema import contents, instances, versions
from storage.index.served import Series
from storage.index.session import Cursor, Session
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
DELETE_ALL_LOOSE = (_DELETE_ALL_CONTENTS, _DELETE_ALL_SERVED, delete(versions).where(_of_series(versions)))


class LooseVersions(NamedTuple):
    """The rows of what lies loose of a series, by name."""

    served: dict[Name, Any]
    superseded: dict[Name, Any]

    def find(self, name: Name) -> Any:
        """The row of that version: ID, SOP Instance UID, revision, digest, location; None when it is not loose."""
        return self.served.get(name) or self.superseded.get(name)


def seal(session: Session, listings: Listings, pack: Pack, columns: Columns, sealed: Sequence[Location]) -> None:
    """See `PackingIndex.seal`. `columns` are the pack's own (see `packed.columns`)."""
    series = _series(session, pack)
    is_here = _find(session, listings, series, pack) is not None
    if is_here:  # what lies loose is there twice, and the pack, being named, must not be removed
        doomed.forget(session, [pack.location])
    else:
        _call_off_removal(session, pack.location)
        packed.write(session, series.study_id, series.id, columns)
    loose = loose_versions(session, series.study_id, series.id)
    moved = {(each.sop_uid, each.revision): place for each, place in zip(pack.instances, sealed, strict=True)}
    for instance in pack.instances:
        name = instance.sop_uid, instance.revision
        _check_unchanged(loose.find(name), instance, moved[name])
    take_out(session, series.study_id, series.id, loose, moved, packs=int(not is_here))
    if series.loose_count == len(moved):
        feed.forget_series(session, series.id)
    feed.note(session, Act.SEALED, pack.study_uid, pack.series_uid, series_id=series.id)


def loose_versions(session: Session, study: int, series: int) -> LooseVersions:
    """All that lies loose of a series."""
    return LooseVersions(
        _rows(session.run(_SERVED, study=study, one_series=series)),
        _rows(session.run(_SUPERSEDED, study=study, one_series=series)),
    )


def take_out(
    session: Session, study: int, series: int, loose: LooseVersions, gone: Mapping[Name, Location], *, packs: int
) -> None:
    """Delete loose versions that are in a pack now, doom their objects, and count that and the pack."""
    if loose.served.keys() <= gone.keys():
        session.run(_DELETE_ALL_CONTENTS, study=study, one_series=series)
        session.run(_DELETE_ALL_SERVED, study=study, one_series=series)
    else:
        rows = [{"id": row[0]} for name, row in loose.served.items() if name in gone]
        session.run_all(_DELETE_CONTENTS, rows)
        session.run_all(_DELETE_SERVED, rows)
    superseded = [{"id": row[0]} for name, row in loose.superseded.items() if name in gone]
    session.run_all(_DELETE_SUPERSEDED, superseded)
    doomed.doom(session, gone.values(), feed.now())
    length = sum(place.length for place in gone.values())
    levels.count_series(session, study, series, instances=0, loose=-len(gone), bytes=-length, packs=packs)


def repack(
    session: Session, listings: Listings, old: Sequence[Pack], new: Pack | None, columns: Columns | None
) -> None:
    """See `PackingIndex.repack`."""
    series = _series(session, old[0])
    there = [each for each in (_find(session, listings, series, pack) for pack in old) if each is not None]
    if len(there) < len(old):
        raise Conflict("the pack is not there any more")
    left = {_content(each) for one in there for each in one.listing.instances()}
    if new is None or columns is None or left != {_content(each) for each in new.instances}:
        raise Conflict("what is left of the pack is not what was written anew")
    _call_off_removal(session, new.location)
    gone = []
    for one in there:
        gone += [one.location, *doomed.copy_of(session, one.study_id, one.id, one.location)]
        packed.drop(session, one)
    packed.write(session, series.study_id, series.id, columns)
    if len(there) > 1:
        levels.count_series(session, series.study_id, series.id, instances=0, loose=0, bytes=0, packs=1 - len(there))
    doomed.doom(session, gone, feed.now())


def _series(session: Session, pack: Pack) -> Series:
    for series in served.series_of(session, Scope(pack.study_uid, pack.series_uid)):
        return series
    raise Conflict("the series is not there any more")


def _call_off_removal(session: Session, location: Location) -> None:
    due = doomed.due_at(session, location)
    if due is None or due < feed.now() + LEAST_RESPITE:
        raise Conflict("the pack was not announced, or its removal is due: it may be gone any moment")
    doomed.forget(session, [location])


def _rows(cursor: Cursor) -> dict[Name, Any]:
    return {(row[1], row[2]): row for row in cursor.fetchall()}


def _check_unchanged(row: Any, instance: PackedInstance, place: Location) -> None:
    if row is None or bytes(row[3]) != instance.digest or Location(*row[4:]) != place:
        raise Conflict("an instance is not loose any more, or not as it was")


def _find(session: Session, listings: Listings, series: Series, pack: Pack) -> Packed | None:
    if not series.pack_count:
        return None
    packs = packed.of_series(session, listings, series.study_id, series.id)
    return next((each for each in packs if each.pack_id == pack.pack_id and each.location == pack.location), None)


def _content(instance: PackedInstance) -> tuple[str, int, bytes]:
    return instance.sop_uid, instance.revision, instance.digest
