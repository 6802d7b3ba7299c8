"""Takes a study, a series or an instance out of the catalogue, inside the writer's transaction."""

import orjson
from sqlalchemy import bindparam, delete, exists, select

from storage.dicom.identity import Identity, Scope
from storage.index import Act, Location, Removed, levels, scopes
from storage.index.ingest import record_change
from storage.index.schema import contents, instances, series, studies, versions
from storage.index.session import Session, constant

_ALL = studies.join(series, series.c.study_id == studies.c.id).join(instances, instances.c.series_id == series.c.id)
_PLACES = scopes.by_scope(
    select(
        studies.c.id,
        series.c.id,
        instances.c.id,
        instances.c.store,
        instances.c.key,
        instances.c.offset,
        instances.c.length,
    ).select_from(_ALL)
)
_OLD_PLACES = scopes.by_scope(
    select(versions.c.store, versions.c.key, versions.c.offset, versions.c.length).select_from(
        _ALL.join(versions, versions.c.instance_id == instances.c.id)
    )
)
_DELETE_INSTANCE = delete(instances).where(instances.c.id == bindparam("instance"))
_DELETE_EMPTY_SERIES = delete(series).where(
    series.c.id == bindparam("one_series"), ~exists().where(instances.c.series_id == series.c.id)
)
_DELETE_EMPTY_STUDY = delete(studies).where(
    studies.c.id == bindparam("study"), ~exists().where(series.c.study_id == studies.c.id)
)


_WITH_METADATA = select(*scopes.IDENTITY, contents.c.metadata).select_from(
    _ALL.join(contents, contents.c.instance_id == instances.c.id)
)
_FIRST_OF_SERIES = (
    _WITH_METADATA.where(series.c.id == bindparam("one_series"))
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
_SERIES_SPEAKER = select(series.c.speaker_sop_uid).where(series.c.id == bindparam("one_series"))


def remove(session: Session, scope: Scope) -> Removed:
    """See `MetadataIndex.remove`."""
    values = scopes.parameters(scope)
    rows = session.run(scopes.chosen(_PLACES, scope), **values).fetchall()
    if not rows:
        raise scopes.nothing(scope)
    old = session.run(scopes.chosen(_OLD_PLACES, scope), **values).fetchall()
    locations = dict.fromkeys([Location(*row[3:]) for row in rows] + [Location(*row) for row in old])
    study = rows[0][0]
    by_series: dict[int, list[int]] = {}
    for _, one_series, instance, *_place in rows:
        by_series.setdefault(one_series, []).append(instance)
    for one_series, gone in by_series.items():
        _remove_from_series(session, study, one_series, gone)
    _mend_study(session, study)
    record_change(session, Act.DELETED, scope.study_uid, scope.series_uid or "", scope.sop_uid or "", 0)
    return Removed(len(rows), tuple(locations))


def _remove_from_series(session: Session, study: int, one_series: int, gone: list[int]) -> None:
    for instance in gone:
        session.run(_DELETE_INSTANCE, instance=instance)
    emptied = session.run(_DELETE_EMPTY_SERIES, one_series=one_series).rowcount
    levels.count(session, study, one_series, instances=-len(gone), series=-emptied)
    if not emptied:
        _mend_series(session, study, one_series)


def _mend_series(session: Session, study: int, one_series: int) -> None:
    """Let the first of the instances that are left speak, if the speaker has gone."""
    *uids, metadata = session.run(_FIRST_OF_SERIES, one_series=one_series).fetchone()
    identity = Identity(*uids)
    if session.run(_SERIES_SPEAKER, one_series=one_series).fetchone()[0] != identity.sop_uid:
        levels.rewrite_series(session, study, one_series, identity, orjson.loads(metadata))


def _mend_study(session: Session, study: int) -> None:
    if session.run(_DELETE_EMPTY_STUDY, study=study).rowcount:
        return
    levels.refresh_modalities(session, study)
    levels.refresh_sop_classes(session, study)
    *uids, metadata = session.run(_FIRST_OF_STUDY, study=study).fetchone()
    identity = Identity(*uids)
    speaker = tuple(session.run(_STUDY_SPEAKER, study=study).fetchone())
    if speaker != (identity.sop_uid, identity.series_uid):
        levels.rewrite_study(session, study, identity, orjson.loads(metadata))
