"""Takes a study, a series or an instance out of the catalogue, inside the writer's transaction."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, select

from storage.dicom.identity import Scope
from storage.index import Act, Location, Removed, doomed, feed, levels, packed, scopes, sealing, served, speakers
from storage.index.packed import Listings
from storage.index.schema import contents, instances, versions
from storage.index.served import Loose, Series, Served
from storage.index.session import Session
from storage.index.speakers import Speeches

_VERSIONS = select(
    versions.c.id, versions.c.sop_uid, versions.c.store, versions.c.key, versions.c.offset, versions.c.length
).where(versions.c.study_id == bindparam("study"), versions.c.series_id == bindparam("one_series"))
_DELETE_INSTANCE = delete(instances).where(instances.c.id == bindparam("instance"))
_DELETE_CONTENTS = delete(contents).where(contents.c.instance_id == bindparam("instance"))
_DELETE_VERSION = delete(versions).where(versions.c.id == bindparam("version"))


class _Gone(NamedTuple):
    """What one series lost."""

    instances: int
    locations: list[Location]


def remove(session: Session, listings: Listings, scope: Scope, speeches: Speeches) -> Removed:
    """See `MetadataIndex.remove`.

    Raises `speakers.Wanted` when it has to be called again with one more of the `speeches`.
    """
    found = list(served.in_scope(session, listings, scope))
    if not found:
        raise scopes.nothing(scope)
    whole = scope.sop_uid is None
    gone = [_remove_from(session, listings, speeches, *each, whole=whole) for each in found]
    first = found[0][0]
    locations = tuple(dict.fromkeys(location for each in gone for location in each.locations))
    doomed.doom(session, locations, feed.now())
    _mend_study(session, listings, speeches, first.study_id, first.study_uid)
    feed.note(session, Act.DELETED, scope.study_uid, scope.series_uid or "", scope.sop_uid or "")
    return Removed(sum(each.instances for each in gone), locations)


def _remove_from(
    session: Session, listings: Listings, speeches: Speeches, series: Series, gone: Sequence[Served], *, whole: bool
) -> _Gone:
    """`whole` says that `gone` is all that is served of the series: then it need not be read once more."""
    sop_uids = {each.sop_uid for each in gone}
    there = [] if whole else served.of_series(session, listings, series)
    left = [each for each in there if each.sop_uid not in sop_uids]
    loose = _delete_loose(session, series, gone, None if not left else sop_uids)
    emptied = _delete_packed(session, listings, series, sop_uids)
    levels.count_series(
        session,
        series.study_id,
        series.id,
        instances=-len(gone),
        loose=-len(loose),
        bytes=-sum(each.length for each in loose),
        packs=-len(emptied),
    )
    levels.count_study(session, series.study_id, instances=-len(gone), series=-int(not left))
    if left:
        now_there = series._replace(pack_count=series.pack_count - len(emptied))
        speakers.mend_series(session, speeches, now_there, left)
    else:
        levels.drop_series(session, series.study_id, series.id)
    return _Gone(len(gone), [*loose, *emptied])


def _delete_loose(
    session: Session, series: Series, gone: Sequence[Served], sop_uids: set[str] | None
) -> list[Location]:
    """Delete the loose versions of these instances, or of all (None); where each lay."""
    if not series.loose_count:
        return []
    served_ones = [each for each in gone if isinstance(each, Loose)]
    rows: list[Any] = session.run(_VERSIONS, study=series.study_id, one_series=series.id).fetchall()
    superseded = [row for row in rows if sop_uids is None or row[1] in sop_uids]
    if sop_uids is None:
        for statement in sealing.DELETE_ALL_LOOSE:
            session.run(statement, study=series.study_id, one_series=series.id)
    else:
        session.run_all(_DELETE_CONTENTS, [{"instance": each.id} for each in served_ones])
        session.run_all(_DELETE_INSTANCE, [{"instance": each.id} for each in served_ones])
        session.run_all(_DELETE_VERSION, [{"version": row[0]} for row in superseded])
    places = [Location(each.store, each.key, each.offset, each.length) for each in served_ones]
    return places + [Location(*row[2:]) for row in superseded]


def _delete_packed(session: Session, listings: Listings, series: Series, sop_uids: set[str]) -> list[Location]:
    """Take these instances out of the listings; the objects of the packs of which nothing is left."""
    if not series.pack_count:
        return []
    emptied = []
    touched: set[str] = set()
    for pack in packed.of_series(session, listings, series.study_id, series.id):
        kept = [row for row, sop_uid in enumerate(pack.listing.sop_uids) if sop_uid not in sop_uids]
        touched |= sop_uids & pack.listing.served().keys()
        if not kept:
            copies = doomed.copy_of(session, pack.study_id, pack.id, pack.location)
            doomed.doom(session, copies, feed.now())
            packed.drop(session, pack)
            emptied.append(pack.location)
        elif len(kept) < len(pack.listing):
            packed.keep_only(session, pack, kept)
    packed.drop_uids(session, series.study_id, series.id, touched)
    return emptied


def _mend_study(session: Session, listings: Listings, speeches: Speeches, study: int, study_uid: str) -> None:
    left: list[tuple[Series, list[Served]]] = list(served.in_scope(session, listings, Scope(study_uid)))
    if not left:
        levels.drop_study(session, study)
        return
    levels.refresh_modalities(session, study)
    levels.set_sop_classes(session, study, {each.sop_class for _, instances in left for each in instances})
    speakers.mend_study(session, listings, speeches, study, study_uid)
