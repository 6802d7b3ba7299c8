"""The rows of studies and series: made with their first instance, kept true as instances come and go.

The attributes of a study or series are those of its speaker, the instance with the smallest SOP Instance UID.
"""

from collections.abc import Iterable
from typing import NamedTuple

import orjson
from sqlalchemy import Table, bindparam, delete, insert, select, update

from storage.dicom.identity import Identity
from storage.dicom.instance import JsonDataset
from storage.dicom.level import Level
from storage.dicom.matching import first
from storage.index import documents
from storage.index.schema import instances, series, series_values, studies, study_names, study_values
from storage.index.session import Session, constant

OTHER_MODALITY = "OT"  # PS3.3 C.7.3.1.1.1
MODALITY, MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY = "00080060", "00080061", "00080062"


class StudyRow(NamedTuple):
    """What adding an instance needs to know of its study."""

    id: int
    speaker: tuple[str, str]  # SOP Instance UID, Series Instance UID
    sop_classes: str


class SeriesRow(NamedTuple):
    """What adding an instance needs to know of its series."""

    id: int
    speaker_sop_uid: str
    pack_count: int = 0


class InstanceRow(NamedTuple):
    """What adding an instance needs to know of its served version, when that lies loose."""

    id: int
    digest: bytes
    revision: int
    sop_class: str


class Found(NamedTuple):
    """Where an instance belongs, as far as it is there."""

    study: StudyRow | None = None
    series: SeriesRow | None = None
    instance: InstanceRow | None = None


_FIND = (
    select(
        studies.c.id,
        studies.c.speaker_sop_uid,
        studies.c.speaker_series_uid,
        studies.c.sop_classes,
        series.c.id,
        series.c.speaker_sop_uid,
        series.c.pack_count,
        instances.c.id,
        instances.c.digest,
        instances.c.revision,
        instances.c.sop_class,
    )
    .select_from(
        studies.outerjoin(
            series, (series.c.study_id == studies.c.id) & (series.c.series_uid == bindparam("series_uid"))
        ).outerjoin(
            instances,
            (instances.c.study_id == studies.c.id)
            & (instances.c.series_id == series.c.id)
            & (instances.c.sop_uid == bindparam("sop_uid")),
        )
    )
    .where(studies.c.study_uid == bindparam("study_uid"))
)
_STUDY_COLUMNS = ("study_date", "study_time", "speaker_sop_uid", "speaker_series_uid", "attributes")
_SERIES_COLUMNS = ("series_number", "step_date", "step_time", "speaker_sop_uid", "attributes")


def _parameters(*names: str) -> "dict[str, object]":
    return {name: bindparam(name) for name in names}


_INSERT_STUDY = (
    insert(studies)
    .values(**_parameters("study_uid", *_STUDY_COLUMNS), series_count=constant(0), instance_count=constant(0))
    .returning(studies.c.id)
)
_INSERT_SERIES = (
    insert(series)
    .values(**_parameters("study_id", "series_uid", *_SERIES_COLUMNS), instance_count=constant(0))
    .returning(series.c.id)
)
_UPDATE_STUDY = update(studies).values(**_parameters(*_STUDY_COLUMNS)).where(studies.c.id == bindparam("study"))
_ONE_SERIES = (series.c.study_id == bindparam("study")) & (series.c.id == bindparam("one_series"))
_UPDATE_SERIES = update(series).values(**_parameters(*_SERIES_COLUMNS)).where(_ONE_SERIES)
_COUNT_STUDY = (
    update(studies)
    .values(
        instance_count=studies.c.instance_count + bindparam("more_instances"),
        series_count=studies.c.series_count + bindparam("more_series"),
    )
    .where(studies.c.id == bindparam("study"))
)
_COUNT_SERIES = (
    update(series)
    .values(
        instance_count=series.c.instance_count + bindparam("more_instances"),
        loose_count=series.c.loose_count + bindparam("more_loose"),
        loose_bytes=series.c.loose_bytes + bindparam("more_bytes"),
        pack_count=series.c.pack_count + bindparam("more_packs"),
    )
    .where(_ONE_SERIES)
)
_TOUCH_SERIES = _COUNT_SERIES.values(touched_at=bindparam("moment"))
_SET_MODALITIES = update(studies).values(modalities=bindparam("text")).where(studies.c.id == bindparam("study"))
_SET_SOP_CLASSES = update(studies).values(sop_classes=bindparam("text")).where(studies.c.id == bindparam("study"))
_MODALITIES = (
    select(series_values.c.value)
    .distinct()
    .where(series_values.c.study_id == bindparam("study"), series_values.c.path == constant(MODALITY))
    .order_by(series_values.c.value)
)


class _ValuesTable:
    """The statements for the values of one level."""

    def __init__(self, table: Table, *owners: str) -> None:
        self.insert = insert(table).values(_parameters(*owners, "path", "item", "part", "value"))
        self.clear = delete(table).where(*(table.c[owner] == bindparam(owner) for owner in owners))
        self.clear_path = self.clear.where(table.c.path == bindparam("path"))


_STUDY_VALUES = _ValuesTable(study_values, "study_id")
_SERIES_VALUES = _ValuesTable(series_values, "study_id", "series_id")
_COMPUTED = [constant(MODALITIES_IN_STUDY), constant(SOP_CLASSES_IN_STUDY)]
_DROP_SERIES = delete(series).where(_ONE_SERIES)
_DROP_STUDY = delete(studies).where(studies.c.id == bindparam("study"))
_DROP_NAMES = delete(study_names).where(study_names.c.study_id == bindparam("study"))
_NAMES = select(study_names.c.token).where(study_names.c.study_id == bindparam("study"))
_INSERT_NAME = insert(study_names).values(_parameters("study_id", "token"))
_CLEAR_STUDY_VALUES = _STUDY_VALUES.clear.where(study_values.c.path.not_in(_COMPUTED))


def find(session: Session, identity: Identity) -> Found:
    """The study, the series and the instance so named, as far as they are there."""
    study, one_series, sop = identity.study_uid, identity.series_uid, identity.sop_uid
    row = session.run(_FIND, study_uid=study, series_uid=one_series, sop_uid=sop).fetchone()
    if row is None:
        return Found()
    return Found(
        StudyRow(row[0], (row[1], row[2]), row[3]),
        None if row[4] is None else SeriesRow(row[4], row[5], row[6]),
        None if row[7] is None else InstanceRow(*row[7:]),
    )


def make_study(session: Session, identity: Identity, dataset: JsonDataset) -> StudyRow:
    """A study of which this is the first instance; nothing is counted yet."""
    columns = _study_columns(identity, dataset)
    study = int(session.run(_INSERT_STUDY, study_uid=identity.study_uid, **columns).fetchone()[0])
    _insert_values(session, _STUDY_VALUES, documents.values(dataset, Level.STUDY), study_id=study)
    _insert_names(session, study, documents.name_tokens(dataset))
    return StudyRow(study, (identity.sop_uid, identity.series_uid), "")


def make_series(session: Session, study: int, identity: Identity, dataset: JsonDataset) -> SeriesRow:
    """A series of which this is the first instance; neither it nor its instances are counted yet."""
    columns = _series_columns(identity, dataset)
    made = session.run(_INSERT_SERIES, study_id=study, series_uid=identity.series_uid, **columns).fetchone()[0]
    _insert_values(session, _SERIES_VALUES, documents.values(dataset, Level.SERIES), study_id=study, series_id=made)
    refresh_modalities(session, study)
    return SeriesRow(made, identity.sop_uid)


def rewrite_study(session: Session, study: int, identity: Identity, dataset: JsonDataset) -> None:
    """Let this instance speak for the study."""
    session.run(_UPDATE_STUDY, study=study, **_study_columns(identity, dataset))
    session.run(_CLEAR_STUDY_VALUES, study_id=study)
    _insert_values(session, _STUDY_VALUES, documents.values(dataset, Level.STUDY), study_id=study)
    names = documents.name_tokens(dataset)
    if names != {row[0] for row in session.run(_NAMES, study=study).fetchall()}:
        session.run(_DROP_NAMES, study=study)
        _insert_names(session, study, names)


def rewrite_series(session: Session, study: int, one_series: int, identity: Identity, dataset: JsonDataset) -> None:
    """Let this instance speak for the series."""
    session.run(_UPDATE_SERIES, study=study, one_series=one_series, **_series_columns(identity, dataset))
    session.run(_SERIES_VALUES.clear, study_id=study, series_id=one_series)
    values = documents.values(dataset, Level.SERIES)
    _insert_values(session, _SERIES_VALUES, values, study_id=study, series_id=one_series)
    refresh_modalities(session, study)


def count_study(session: Session, study: int, *, instances: int, series: int) -> None:
    """Add to the numbers of a study."""
    session.run(_COUNT_STUDY, study=study, more_instances=instances, more_series=series)


def count_series(
    session: Session,
    study: int,
    one_series: int,
    *,
    instances: int,
    loose: int,
    bytes: int,
    packs: int = 0,
    touched_at: int | None = None,
) -> None:
    """Add to the numbers of a series: served instances, versions that lie loose, their bytes, packs."""
    more = {"more_instances": instances, "more_loose": loose, "more_bytes": bytes, "more_packs": packs}
    if touched_at is None:
        session.run(_COUNT_SERIES, study=study, one_series=one_series, **more)
    else:
        session.run(_TOUCH_SERIES, study=study, one_series=one_series, moment=touched_at, **more)


def drop_series(session: Session, study: int, one_series: int) -> None:
    """Take out the row of a series of which nothing is left, and what belongs to it."""
    session.run(_SERIES_VALUES.clear, study_id=study, series_id=one_series)
    session.run(_DROP_SERIES, study=study, one_series=one_series)


def drop_study(session: Session, study: int) -> None:
    """Take out the row of a study that has no series left, and what belongs to it."""
    session.run(_STUDY_VALUES.clear, study_id=study)
    session.run(_DROP_NAMES, study=study)
    session.run(_DROP_STUDY, study=study)


def refresh_modalities(session: Session, study: int) -> None:
    """ModalitiesInStudy, anew from the series.

    A study none of whose series states its Modality (which it must, PS3.3 C.7.3.1) is one of "other" modality: viewers
    rely on a value here, and one such study would keep OHIF from listing any.
    """
    found = [row[0] for row in session.run(_MODALITIES, study=study).fetchall()] or [OTHER_MODALITY]
    session.run(_SET_MODALITIES, study=study, text="\\".join(found))
    _replace_values(session, study, MODALITIES_IN_STUDY, found)


def set_sop_classes(session: Session, study: int, sop_classes: Iterable[str]) -> None:
    """SOPClassesInStudy: those of all served instances."""
    found = sorted(set(sop_classes))
    session.run(_SET_SOP_CLASSES, study=study, text="\\".join(found))
    _replace_values(session, study, SOP_CLASSES_IN_STUDY, found)


def _replace_values(session: Session, study: int, path: str, found: list[str]) -> None:
    session.run(_STUDY_VALUES.clear_path, study_id=study, path=path)
    _insert_values(
        session,
        _STUDY_VALUES,
        [documents.Value(path, item, 0, value) for item, value in enumerate(found)],
        study_id=study,
    )


def _study_columns(identity: Identity, dataset: JsonDataset) -> dict[str, object]:
    return {
        "study_date": first(dataset, "00080020", "DA"),
        "study_time": first(dataset, "00080030", "TM"),
        "speaker_sop_uid": identity.sop_uid,
        "speaker_series_uid": identity.series_uid,
        "attributes": orjson.dumps(documents.study_attributes(dataset)),
    }


def _series_columns(identity: Identity, dataset: JsonDataset) -> dict[str, object]:
    return {
        "series_number": documents.number(dataset, "00200011"),
        "step_date": first(dataset, "00400244", "DA"),
        "step_time": first(dataset, "00400245", "TM"),
        "speaker_sop_uid": identity.sop_uid,
        "attributes": orjson.dumps(documents.series_attributes(dataset)),
    }


def _insert_values(session: Session, table: _ValuesTable, values: Iterable[documents.Value], **owner: int) -> None:
    for path, item, part, value in values:
        session.run(table.insert, path=path, item=item, part=part, value=value, **owner)


def _insert_names(session: Session, study: int, tokens: Iterable[str]) -> None:
    for token in sorted(tokens):
        session.run(_INSERT_NAME, study_id=study, token=token)
