"""Makes a pack that was found in an object store findable, as if its instances had been stored and sealed here."""

from collections.abc import Sequence, Set

import orjson
from sqlalchemy import bindparam, delete, select, update

from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import JsonDataset
from storage.errors import Conflict
from storage.index import Act, Location, doomed, feed, ingest, levels, packed, restoring, sealing, served
from storage.index.packed import Columns, Listings
from storage.index.schema import contents, instances, packs
from storage.index.served import Series, Served
from storage.index.session import Session
from storage.packs import Pack

_IS_HERE = select(packs.c.id).where(
    packs.c.study_id == bindparam("study"),
    packs.c.series_id == bindparam("one_series"),
    packs.c.pack_id == bindparam("pack_id"),
)
_RECEIVED_AT = select(instances.c.received_at).where(instances.c.id == bindparam("instance"))
_RENUMBER = update(instances).values(revision=bindparam("number")).where(instances.c.id == bindparam("instance"))
_DELETE_INSTANCE = delete(instances).where(instances.c.id == bindparam("instance"))
_DELETE_CONTENTS = delete(contents).where(contents.c.instance_id == bindparam("instance"))


class Adopted:
    """A pack with all that can be made of it before the transaction, in the caller's own thread.

    `rows` are the highest revisions in it by SOP Instance UID, `first` is the one that may come to speak, `instead_of`
    are the keys of packs that have lost what it has too.
    """

    def __init__(self, pack: Pack, documents: Sequence[bytes], instead_of: Set[str] = frozenset()) -> None:
        if len(documents) != len(pack.instances):
            raise ValueError("a pack needs as many documents as it has instances")
        self.pack = pack
        self.instead_of = instead_of
        self.columns: Columns = packed.columns(pack)
        self.rows: dict[str, int] = {}
        for row, instance in enumerate(pack.instances):
            known = self.rows.get(instance.sop_uid)
            if known is None or pack.instances[known].revision < instance.revision:
                self.rows[instance.sop_uid] = row
        first = self.rows[min(self.rows)]
        self.first = pack.instances[first]
        self.identity = Identity(pack.study_uid, pack.series_uid, self.first.sop_uid, self.first.sop_class)
        self.dataset: JsonDataset = orjson.loads(documents[first])


def adopt(session: Session, listings: Listings, adopted: Adopted) -> None:
    """See `PackingIndex.adopt`."""
    study, series, _ = levels.find(session, adopted.identity)
    known = _known(session, listings, adopted.pack) if series is not None else {}
    if study is not None and series is not None and _is_here(session, study.id, series.id, adopted.pack):
        return
    _keep(session, adopted.pack.location)
    is_new_series = series is None
    if study is None:
        study = levels.make_study(session, adopted.identity, adopted.dataset)
    if series is None:
        series = levels.make_series(session, study.id, adopted.identity, adopted.dataset)
    else:
        _take_over(session, listings, adopted, study.id, series.id)
    packed.write(session, study.id, series.id, adopted.columns)
    _step_back(session, listings, adopted, study.id, series.id)
    new = len(adopted.rows.keys() - known.keys())
    levels.count_series(session, study.id, series.id, instances=new, loose=0, bytes=0)
    levels.count_study(session, study.id, instances=new, series=int(is_new_series))
    _let_speak(session, listings, adopted, known, study, series)
    _refresh_sop_classes(session, listings, adopted, study, anew=bool(known))
    feed.note(session, Act.SEALED, adopted.pack.study_uid, adopted.pack.series_uid, series_id=series.id)


def _is_here(session: Session, study: int, series: int, pack: Pack) -> bool:
    return session.run(_IS_HERE, study=study, one_series=series, pack_id=pack.pack_id).fetchone() is not None


def _keep(session: Session, location: Location) -> None:
    """Call off the removal of the object, if it was announced. Raises Conflict when a sweeper may be at it."""
    due = doomed.due_at(session, location)
    if due is not None and due < feed.now() + sealing.LEAST_RESPITE:
        raise Conflict("the pack is about to be removed")
    if due is not None:
        doomed.forget(session, [location])


def _take_over(session: Session, listings: Listings, adopted: Adopted, study: int, series: int) -> None:
    """Let packs that were lost keep in their listings only what this one does not have."""
    own = {(one.sop_uid, one.revision, one.digest) for one in adopted.pack.instances}
    dropped = 0
    for lost in packed.of_series(session, listings, study, series):
        if lost.location.key not in adopted.instead_of:
            continue
        rows = enumerate(lost.listing.instances())
        kept = [row for row, one in rows if (one.sop_uid, one.revision, one.digest) not in own]
        if not kept:
            packed.drop(session, lost)
            dropped += 1
        elif len(kept) < len(lost.listing):
            packed.keep_only(session, lost, kept)
    if dropped:
        levels.count_series(session, study, series, instances=0, loose=0, bytes=0, packs=-dropped)


def _known(session: Session, listings: Listings, pack: Pack) -> dict[str, Served]:
    """What is served of the series until now."""
    found: list[tuple[Series, list[Served]]] = list(
        served.in_scope(session, listings, Scope(pack.study_uid, pack.series_uid))
    )
    return {each.sop_uid: each for _, instances in found for each in instances}


def _step_back(session: Session, listings: Listings, adopted: Adopted, study: int, series: int) -> None:
    """Let what lies loose make way for the pack: the same versions go, those that came before it are superseded."""
    loose = sealing.loose_versions(session, study, series)
    same = {}
    for instance in adopted.pack.instances:
        name = instance.sop_uid, instance.revision
        row = loose.find(name)
        if row is not None and bytes(row[3]) == instance.digest:
            same[name] = Location(*row[4:])
    served_still = dict(loose.served)
    for name, row in loose.served.items():
        top = adopted.rows.get(name[0])
        if top is None or name in same or name[1] > adopted.pack.instances[top].revision:
            continue
        # The index did not know the pack when it numbered this one: what counts is which came later.
        if session.run(_RECEIVED_AT, instance=row[0]).fetchone()[0] > adopted.pack.instances[top].received_at:
            session.run(_RENUMBER, instance=row[0], number=adopted.pack.instances[top].revision + 1)
            continue
        below = restoring.number_below(session, listings, study, series, name[0])
        session.run(_RENUMBER, instance=row[0], number=below)
        session.run(ingest.KEEP_VERSION, instance=row[0])
        session.run(_DELETE_CONTENTS, instance=row[0])
        session.run(_DELETE_INSTANCE, instance=row[0])
        del served_still[name]
    sealing.take_out(session, study, series, loose._replace(served=served_still), same, packs=1)


def _is_served(session: Session, listings: Listings, adopted: Adopted) -> bool:
    """Whether the first of the pack is served now, and not a version that lies elsewhere."""
    scope = Scope(adopted.pack.study_uid, adopted.pack.series_uid, adopted.first.sop_uid)
    for _, [one] in served.in_scope(session, listings, scope):
        return (one.revision, bytes(one.digest)) == (adopted.first.revision, adopted.first.digest)
    return False


def _let_speak(
    session: Session,
    listings: Listings,
    adopted: Adopted,
    known: dict[str, Served],
    study: levels.StudyRow,
    series: levels.SeriesRow,
) -> None:
    """Take the attributes of study and series from the pack's first instance, if it is first, or newer, in them."""
    sop_uid = adopted.first.sop_uid
    now_served = sop_uid not in known or _is_served(session, listings, adopted)
    if now_served and known and sop_uid <= series.speaker_sop_uid:
        levels.rewrite_series(session, study.id, series.id, adopted.identity, adopted.dataset)
    name = (sop_uid, adopted.pack.series_uid)
    if now_served and (name < study.speaker or (known and name == study.speaker)):
        levels.rewrite_study(session, study.id, adopted.identity, adopted.dataset)


def _refresh_sop_classes(
    session: Session, listings: Listings, adopted: Adopted, study: levels.StudyRow, *, anew: bool
) -> None:
    if anew:
        levels.set_sop_classes(session, study.id, served.sop_classes(session, listings, adopted.pack.study_uid))
        return
    before = set(study.sop_classes.split("\\")) if study.sop_classes else set()
    own = {adopted.pack.instances[row].sop_class for row in adopted.rows.values()}
    if not own <= before:
        levels.set_sop_classes(session, study.id, before | own)
