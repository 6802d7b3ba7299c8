"""Adds one instance to the catalogue, inside the writer's transaction."""

from typing import NamedTuple

import orjson
from sqlalchemy import bindparam, insert, select, update

from storage.errors import Conflict
from storage.index import (
    Act,
    Added,
    InstanceRecord,
    Location,
    Outcome,
    documents,
    doomed,
    feed,
    levels,
    packed,
    served,
)
from storage.index.packed import Listings
from storage.index.schema import contents, instances, versions
from storage.index.served import InPack
from storage.index.session import Session

OWN = (
    "sop_class",
    "instance_number",
    "digest",
    "transfer_syntax",
    "store",
    "key",
    "offset",
    "length",
    "header_length",
    "header_digest",
    "revision",
    "received_at",
    "source",
    "repair",
    "attributes",
)
CONTENTS = ("metadata", "frames", "bulk")
NAMES = ("study_id", "series_id", "sop_uid")

_INSERT_INSTANCE = (
    insert(instances).values({name: bindparam(name) for name in (*NAMES, *OWN)}).returning(instances.c.id)
)
_INSERT_CONTENTS = insert(contents).values({name: bindparam(name) for name in ("instance_id", *CONTENTS)})
KEEP_VERSION = insert(versions).from_select(
    [*NAMES, *OWN, *CONTENTS],
    select(*(instances.c[name] for name in (*NAMES, *OWN)), *(contents.c[name] for name in CONTENTS))
    .join_from(instances, contents, contents.c.instance_id == instances.c.id)
    .where(instances.c.id == bindparam("instance")),
)
_UPDATE_INSTANCE = (
    update(instances).values({name: bindparam(name) for name in OWN}).where(instances.c.id == bindparam("instance"))
)
_UPDATE_CONTENTS = (
    update(contents)
    .values({name: bindparam(name) for name in CONTENTS})
    .where(contents.c.instance_id == bindparam("instance"))
)


class Prepared(NamedTuple):
    """A record with all that can be made of it before the transaction, in the caller's own thread."""

    record: InstanceRecord
    columns: dict[str, object]
    contents: dict[str, object]


def prepare(record: InstanceRecord) -> Prepared:
    """Encode what the rows of an instance hold."""
    instance, location = record.instance, record.location
    columns: dict[str, object] = {
        "sop_class": instance.identity.sop_class,
        "instance_number": documents.number(instance.dataset, "00200013"),
        "digest": instance.digest,
        "transfer_syntax": instance.transfer_syntax,
        "store": location.store,
        "key": location.key,
        "offset": location.offset,
        "length": location.length,
        "header_length": instance.header_length,
        "header_digest": instance.header_digest,
        "received_at": record.received_at,
        "source": record.source,
        "repair": instance.repair,
        "attributes": orjson.dumps(documents.instance_attributes(instance.dataset)),
    }
    wide: dict[str, object] = {
        "metadata": instance.metadata,
        "frames": instance.frames.to_bytes(),
        "bulk": documents.bulk_to_bytes(instance.bulk),
    }
    return Prepared(record, columns, wide)


def add(session: Session, listings: Listings, prepared: Prepared) -> Added:
    """Make one instance findable; see `MetadataIndex.add`."""
    identity, dataset = prepared.record.instance.identity, prepared.record.instance.dataset
    study, series, loose = levels.find(session, identity)
    if study is not None and series is not None:
        known = loose or _in_pack(session, listings, study, series, identity.sop_uid)
        if known is not None:
            return _add_again(session, listings, prepared, study, series, known)
    refuse_doomed(session, prepared.record.location)
    if study is None:
        study = levels.make_study(session, identity, dataset)
    is_new_series = series is None
    if series is None:
        series = levels.make_series(session, study.id, identity, dataset)
    _insert(session, prepared, study.id, series.id, 1)
    levels.count_study(session, study.id, instances=1, series=int(is_new_series))
    _count(session, prepared, study.id, series.id, instances=1)
    sop_classes = study.sop_classes.split("\\") if study.sop_classes else []
    if identity.sop_class not in sop_classes:
        levels.set_sop_classes(session, study.id, [*sop_classes, identity.sop_class])
    _let_speak(session, prepared, study, series, again=False)
    _note(session, Act.STORED, prepared, series.id, 1)
    return Added(Outcome.NEW, 1)


def _in_pack(
    session: Session, listings: Listings, study: levels.StudyRow, series: levels.SeriesRow, sop_uid: str
) -> InPack | None:
    """The served version, which is in a pack if it is anywhere, because it does not lie loose."""
    if not series.pack_count:
        return None
    packs = packed.of_series(session, listings, study.id, series.id)
    for found in served.chosen([], packs, sop_uid):
        assert isinstance(found, InPack)
        return found
    return None


def refuse_doomed(session: Session, location: Location) -> None:
    """Raise Conflict when the object there may vanish any moment."""
    if doomed.due_at(session, location) is not None:
        raise Conflict("the object is about to be removed: put the bytes elsewhere")


def _insert(session: Session, prepared: Prepared, study_id: int, series_id: int, revision: int) -> None:
    ids = {"study_id": study_id, "series_id": series_id, "sop_uid": prepared.record.instance.identity.sop_uid}
    row = session.run(_INSERT_INSTANCE, revision=revision, **ids, **prepared.columns)
    session.run(_INSERT_CONTENTS, instance_id=row.fetchone()[0], **prepared.contents)


def insert_version(session: Session, prepared: Prepared, study_id: int, series_id: int, revision: int) -> None:
    """A row for another version of an instance that is served from a pack until now."""
    _insert(session, prepared, study_id, series_id, revision)
    _count(session, prepared, study_id, series_id, instances=0)


def replace(session: Session, prepared: Prepared, instance: int, revision: int) -> None:
    """Write the row of a loose instance anew."""
    session.run(_UPDATE_INSTANCE, instance=instance, revision=revision, **prepared.columns)
    session.run(_UPDATE_CONTENTS, instance=instance, **prepared.contents)


def _count(session: Session, prepared: Prepared, study_id: int, series_id: int, *, instances: int) -> None:
    length = prepared.record.location.length
    levels.count_series(session, study_id, series_id, instances=instances, loose=1, bytes=length, touched_at=feed.now())


def _note(session: Session, act: Act, prepared: Prepared, series_id: int, revision: int) -> None:
    identity = prepared.record.instance.identity
    uids = identity.study_uid, identity.series_uid, identity.sop_uid
    feed.note(session, act, *uids, revision, series_id=series_id)


def _add_again(
    session: Session,
    listings: Listings,
    prepared: Prepared,
    study: levels.StudyRow,
    series: levels.SeriesRow,
    known: levels.InstanceRow | InPack,
) -> Added:
    """The UID is there: nothing to do for the same bytes; others become the version that is served."""
    identity = prepared.record.instance.identity
    if known.digest == prepared.record.instance.digest:
        return Added(Outcome.SAME, known.revision)
    refuse_doomed(session, prepared.record.location)
    revision = known.revision + 1
    if isinstance(known, InPack):
        insert_version(session, prepared, study.id, series.id, revision)
    else:
        session.run(KEEP_VERSION, instance=known.id)
        replace(session, prepared, known.id, revision)
        _count(session, prepared, study.id, series.id, instances=0)
    if known.sop_class != identity.sop_class:
        levels.set_sop_classes(session, study.id, served.sop_classes(session, listings, identity.study_uid))
    _let_speak(session, prepared, study, series, again=True)
    _note(session, Act.VERSION, prepared, series.id, revision)
    return Added(Outcome.VERSION, revision)


def _let_speak(
    session: Session, prepared: Prepared, study: levels.StudyRow, series: levels.SeriesRow, *, again: bool
) -> None:
    """Take the attributes of study and series from this instance, if it speaks for them.

    An instance that is new speaks from now on when it comes before the speaker; one that is here `again` with other
    bytes, when it is the speaker itself.
    """
    instance = prepared.record.instance
    identity = instance.identity
    if identity.sop_uid < series.speaker_sop_uid or (again and identity.sop_uid == series.speaker_sop_uid):
        levels.rewrite_series(session, study.id, series.id, identity, instance.dataset)
    name = (identity.sop_uid, identity.series_uid)
    if name < study.speaker or (again and name == study.speaker):
        levels.rewrite_study(session, study.id, identity, instance.dataset)
