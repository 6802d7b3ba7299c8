"""Takes a study, a series or an instance out of the catalogue, inside the writer's transaction."""

from typing import Any

import orjson
from sqlalchemy import bindparam, delete, select

from storage.dicom.identity import Identity, Scope
from storage.index import Act, Location, Removed, doomed, feed, levels, scopes
from storage.index.schema import contents, instances, series, studies, versions
from storage.index.session import Session, constant

_PLACES = scopes.by_scope(
    select(
        studies.c.id,
        series.c.id,
        instances.c.id,
        instances.c.store,
        instances.c.key,
        instances.c.offset,
        instances.c.length,
    ).select_from(scopes.JOINED)
)
_OLD_PLACES = scopes.by_scope(
    select(
        versions.c.id, series.c.id, versions.c.store, versions.c.key, versions.c.offset, versions.c.length
    ).select_from(
        scopes.JOINED.join(
            versions,
            (versions.c.study_id == studies.c.id)
            & (versions.c.series_id == series.c.id)
            & (versions.c.sop_uid == instances.c.sop_uid),
        )
    )
)
_DELETE_INSTANCE = delete(instances).where(instances.c.id == bindparam("instance"))
_DELETE_CONTENTS = delete(contents).where(contents.c.instance_id == bindparam("instance"))
_DELETE_VERSION = delete(versions).where(versions.c.id == bindparam("version"))
_LEFT_IN_SERIES = select(series.c.instance_count).where(
    series.c.study_id == bindparam("study"), series.c.id == bindparam("one_series")
)
_LEFT_IN_STUDY = select(studies.c.series_count).where(studies.c.id == bindparam("study"))


_WITH_METADATA = select(*scopes.IDENTITY, contents.c.metadata).select_from(
    scopes.JOINED.join(contents, contents.c.instance_id == instances.c.id)
)
_FIRST_OF_SERIES = (
    _WITH_METADATA.where(studies.c.id == bindparam("study"), series.c.id == bindparam("one_series"))
    .order_by(instances.c.sop_uid)
    .limit(constant(1))
    .offset(constant(0))
)
# The first of those who speak for the series of the study, so that no more than one of each series is looked at.
_FIRST_OF_STUDY = (
    _WITH_METADATA.where(studies.c.id == bindparam("study"), instances.c.sop_uid == series.c.speaker_sop_uid)
    .order_by(instances.c.sop_uid, series.c.series_uid)
    .limit(constant(1))
    .offset(constant(0))
)
_STUDY_SPEAKER = select(studies.c.speaker_sop_uid, studies.c.speaker_series_uid).where(
    studies.c.id == bindparam("study")
)
_SERIES_SPEAKER = select(series.c.speaker_sop_uid).where(
    series.c.study_id == bindparam("study"), series.c.id == bindparam("one_series")
)


def remove(session: Session, scope: Scope) -> Removed:
    """See `MetadataIndex.remove`."""
    values = scopes.parameters(scope)
    rows = session.run(scopes.chosen(_PLACES, scope), **values).fetchall()
    if not rows:
        raise scopes.nothing(scope)
    old = session.run(scopes.chosen(_OLD_PLACES, scope), **values).fetchall()
    locations = tuple(dict.fromkeys([Location(*row[3:]) for row in rows] + [Location(*row[2:]) for row in old]))
    study = rows[0][0]
    for one_series in dict.fromkeys(row[1] for row in rows):
        _remove_from_series(session, study, one_series, rows, old)
    _mend_study(session, study)
    doomed.doom(session, locations, feed.now())
    feed.note(session, Act.DELETED, scope.study_uid, scope.series_uid or "", scope.sop_uid or "")
    return Removed(len(rows), locations)


def _remove_from_series(session: Session, study: int, one_series: int, rows: list[Any], old: list[Any]) -> None:
    served = [row for row in rows if row[1] == one_series]
    superseded = [row for row in old if row[1] == one_series]
    for row in served:
        session.run(_DELETE_CONTENTS, instance=row[2])
        session.run(_DELETE_INSTANCE, instance=row[2])
    for row in superseded:
        session.run(_DELETE_VERSION, version=row[0])
    bytes = sum(row[-1] for row in (*served, *superseded))
    loose = -len(served) - len(superseded)
    levels.count_series(session, study, one_series, instances=-len(served), loose=loose, bytes=-bytes)
    is_empty = session.run(_LEFT_IN_SERIES, study=study, one_series=one_series).fetchone()[0] == 0
    levels.count_study(session, study, instances=-len(served), series=-int(is_empty))
    if is_empty:
        levels.drop_series(session, study, one_series)
    else:
        _mend_series(session, study, one_series)


def _mend_series(session: Session, study: int, one_series: int) -> None:
    """Let the first of the instances that are left speak, if the speaker has gone."""
    *uids, metadata = session.run(_FIRST_OF_SERIES, study=study, one_series=one_series).fetchone()
    identity = Identity(*uids)
    if session.run(_SERIES_SPEAKER, study=study, one_series=one_series).fetchone()[0] != identity.sop_uid:
        levels.rewrite_series(session, study, one_series, identity, orjson.loads(metadata))


def _mend_study(session: Session, study: int) -> None:
    if session.run(_LEFT_IN_STUDY, study=study).fetchone()[0] == 0:
        levels.drop_study(session, study)
        return
    levels.refresh_modalities(session, study)
    levels.refresh_sop_classes(session, study)
    *uids, metadata = session.run(_FIRST_OF_STUDY, study=study).fetchone()
    identity = Identity(*uids)
    speaker = tuple(session.run(_STUDY_SPEAKER, study=study).fetchone())
    if speaker != (identity.sop_uid, identity.series_uid):
        levels.rewrite_study(session, study, identity, orjson.loads(metadata))
