"""The change feed: what happened, in the order in which it became visible.

Work only notes its changes; they are written as the last thing before the commit, because a database with many writers
has to let them in one at a time from there on.
"""

import time

from sqlalchemy import bindparam, delete, insert, select

from storage.index import Act, Change
from storage.index.schema import changes
from storage.index.session import Session, constant

_COLUMNS = ("at", "act", "study_uid", "series_uid", "sop_uid", "revision", "series_id")
_INSERT = insert(changes).values({name: bindparam(name) for name in _COLUMNS})
_FORGET_SERIES = delete(changes).where(changes.c.series_id == bindparam("one_series"))
_AFTER = (
    select(
        changes.c.seq,
        changes.c.at,
        changes.c.act,
        changes.c.study_uid,
        changes.c.series_uid,
        changes.c.sop_uid,
        changes.c.revision,
    )
    .where(changes.c.seq > bindparam("after"))
    .order_by(changes.c.seq)
    .limit(bindparam("limit"))
    .offset(constant(0))
)


def note(
    session: Session,
    act: Act,
    study_uid: str,
    series_uid: str = "",
    sop_uid: str = "",
    revision: int = 0,
    *,
    series_id: int | None = None,
) -> None:
    """Remember a change until the end of the transaction; `series_id` when a later one may stand for it."""
    uids = {"study_uid": study_uid, "series_uid": series_uid, "sop_uid": sop_uid}
    session.changes.append({"at": now(), "act": act.value, **uids, "revision": revision, "series_id": series_id})


def forget_series(session: Session, series_id: int) -> None:
    """Take out all that was noted with this series: a change that is noted now stands for it.

    That one has the highest number of all, so nobody who follows the feed misses it.
    """
    session.run(_FORGET_SERIES, one_series=series_id)


def append(session: Session) -> None:
    """Write what was noted; the transaction is to end with this."""
    for change in session.changes:
        session.run(_INSERT, **change)
    session.changes.clear()


def after(session: Session, seq: int, limit: int) -> list[Change]:
    """See `MetadataIndex.changes`."""
    rows = session.run(_AFTER, after=seq, limit=limit).fetchall()
    return [Change(row[0], row[1], Act(row[2]), *row[3:]) for row in rows]


def now() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000
