"""Adds an instance that was found in an object store, without letting it take the place of what came after it."""

from collections.abc import Set

from sqlalchemy import bindparam, insert, select

from storage.dicom.identity import Scope
from storage.index import Added, Outcome, feed, ingest, levels, packed, served
from storage.index.ingest import Prepared
from storage.index.packed import Listings
from storage.index.schema import instances, versions
from storage.index.served import Loose, Series, Served
from storage.index.session import Session

_INSERT_VERSION = insert(versions).values(
    {name: bindparam(name) for name in (*ingest.NAMES, *ingest.OWN, *ingest.CONTENTS)}
)
_REVISIONS = [
    select(table.c.revision).where(
        table.c.study_id == bindparam("study"),
        table.c.series_id == bindparam("one_series"),
        table.c.sop_uid == bindparam("sop_uid"),
    )
    for table in (instances, versions)
]


def bring_back(
    session: Session, listings: Listings, prepared: Prepared, slack: int, instead_of: Set[str] = frozenset()
) -> Added:
    """See `PackingIndex.bring_back`."""
    record = prepared.record
    identity = record.instance.identity
    scope = Scope(identity.study_uid, identity.series_uid, identity.sop_uid)
    for series, [known] in served.in_scope(session, listings, scope):
        if bytes(known.digest) == record.instance.digest and _key(known) in instead_of:
            return _take_over(session, prepared, series, known)
        is_older = record.received_at + slack < known.received_at
        if is_older and bytes(known.digest) != record.instance.digest:
            return _keep_superseded(session, listings, prepared, series)
    return ingest.add(session, listings, prepared)


def _key(known: Served) -> str:
    return known.key if isinstance(known, Loose) else known.pack.location.key


def _take_over(session: Session, prepared: Prepared, series: Series, known: Served) -> Added:
    """The same bytes lie here now: in the row of what was lost; above it, when that was in a pack."""
    ingest.refuse_doomed(session, prepared.record.location)
    if isinstance(known, Loose):
        ingest.replace(session, prepared, known.id, known.revision)
        more = prepared.record.location.length - known.length
        levels.count_series(session, series.study_id, series.id, instances=0, loose=0, bytes=more)
        return Added(Outcome.VERSION, known.revision)
    ingest.insert_version(session, prepared, series.study_id, series.id, known.revision + 1)
    return Added(Outcome.VERSION, known.revision + 1)


def number_below(session: Session, listings: Listings, study: int, series: int, sop_uid: str) -> int:
    """A revision below all that there are of an instance: 0 or less when the first of them is 1."""
    found = {
        row[0]
        for statement in _REVISIONS
        for row in session.run(statement, study=study, one_series=series, sop_uid=sop_uid).fetchall()
    }
    for pack in packed.of_series(session, listings, study, series):
        rows = zip(pack.listing.sop_uids, pack.listing.revisions, strict=True)
        found |= {revision for uid, revision in rows if uid == sop_uid}
    return min(found, default=1) - 1


def _keep_superseded(session: Session, listings: Listings, prepared: Prepared, series: Series) -> Added:
    record = prepared.record
    ingest.refuse_doomed(session, record.location)
    sop_uid = record.instance.identity.sop_uid
    revision = number_below(session, listings, series.study_id, series.id, sop_uid)
    names = {"study_id": series.study_id, "series_id": series.id, "sop_uid": sop_uid}
    session.run(_INSERT_VERSION, revision=revision, **names, **prepared.columns, **prepared.contents)
    length = record.location.length
    levels.count_series(session, series.study_id, series.id, instances=0, loose=1, bytes=length, touched_at=feed.now())
    return Added(Outcome.OLDER, revision)
