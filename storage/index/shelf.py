"""The packs that are there: all of them in order, those that are to be written anew, those that are to be copied."""

from collections.abc import Iterable, Iterator, Set
from itertools import islice
from typing import Any

from sqlalchemy import Select, bindparam, select, update

from storage.dicom.identity import Scope
from storage.index import packed
from storage.index.engine import Engine
from storage.index.schema import packs, series, studies
from storage.index.session import Session, constant
from storage.packs import Pack

STUDIES_AT_ONCE = 256  # whose UIDs are in memory

_STUDIES = (
    select(studies.c.id, studies.c.study_uid)
    .where(studies.c.study_uid > bindparam("after"))
    .order_by(studies.c.study_uid)
    .limit(bindparam("limit"))
    .offset(constant(0))
)
_STUDY = select(studies.c.id, studies.c.study_uid).where(studies.c.study_uid == bindparam("study_uid"))
_OF_STUDY = (
    select(series.c.series_uid, packs.c.id)
    .join_from(packs, series, (series.c.study_id == packs.c.study_id) & (series.c.id == packs.c.series_id))
    .where(packs.c.study_id == bindparam("study"))
    .order_by(series.c.series_uid, packs.c.pack_id)
)


def _named(*conditions: Any) -> "Select[Any]":
    """The study and series of packs, for `_read`."""
    return (
        select(studies.c.study_uid, series.c.series_uid, packs.c.study_id, packs.c.id, packs.c.key)
        .join_from(packs, series, (series.c.study_id == packs.c.study_id) & (series.c.id == packs.c.series_id))
        .join(studies, studies.c.id == packs.c.study_id)
        .where(*conditions)
        .limit(bindparam("limit"))
        .offset(constant(0))
    )


_WASTEFUL = _named(packs.c.removed_count > constant(0)).order_by(packs.c.removed_count.desc())
# Those that have no copy come first, by age; an index knows both sides of "another store" as ranges.
_UNCOPIED = [
    _named(condition).order_by(packs.c.copied_to, packs.c.id)
    for condition in (packs.c.copied_to < bindparam("copy"), packs.c.copied_to > bindparam("copy"))
]
_NAMES = select(packs.c.id).where(packs.c.key == bindparam("key")).limit(constant(1)).offset(constant(0))
_IS_COPIED = select(packs.c.id).where(packs.c.key == bindparam("key"), packs.c.copied_to == bindparam("copy"))
_COPIED = (
    update(packs)
    .values(copied_to=bindparam("copy"))
    .where(
        packs.c.study_id == select(studies.c.id).where(studies.c.study_uid == bindparam("study_uid")).scalar_subquery(),
        packs.c.pack_id == bindparam("pack_id"),
        packs.c.key == bindparam("key"),
    )
)


def every(engine: Engine, scope: Scope | None) -> Iterator[Pack]:
    """See `PackingIndex.packs`."""
    after = ""
    while True:
        with engine.reading() as session:
            found = _studies(session, scope, after)
        for study, study_uid in found:
            yield from _of_study(engine, study, study_uid, scope)
        if scope is not None or not found:
            return
        after = found[-1][1]


def wasteful(engine: Engine, limit: int, besides: Set[str]) -> Iterator[Pack]:
    """See `PackingIndex.wasteful`."""
    with engine.reading() as session:
        rows = session.run(_WASTEFUL, limit=limit + len(besides)).fetchall()
    yield from islice(_read(engine, rows, besides), limit)


def uncopied(engine: Engine, store: str, limit: int, besides: Set[str]) -> Iterator[Pack]:
    """See `PackingIndex.uncopied`."""
    most = limit + len(besides)
    rows: list[Any] = []
    with engine.reading() as session:
        for statement in _UNCOPIED:
            rows += session.run(statement, copy=store, limit=most - len(rows)).fetchall()
    yield from islice(_read(engine, rows, besides), limit)


def names(session: Session, key: str) -> bool:
    """See `PackingIndex.names`."""
    return session.run(_NAMES, key=key).fetchone() is not None


def is_copied(session: Session, pack: Pack, store: str) -> bool:
    """See `PackingIndex.is_copied`."""
    return session.run(_IS_COPIED, key=pack.location.key, copy=store).fetchone() is not None


def copied(session: Session, pack: Pack, store: str) -> None:
    """See `PackingIndex.copied`."""
    session.run(_COPIED, copy=store, study_uid=pack.study_uid, pack_id=pack.pack_id, key=pack.location.key)


def _studies(session: Session, scope: Scope | None, after: str) -> list[Any]:
    if scope is not None:
        return session.run(_STUDY, study_uid=scope.study_uid).fetchall()
    return session.run(_STUDIES, after=after, limit=STUDIES_AT_ONCE).fetchall()


def _of_study(engine: Engine, study: int, study_uid: str, scope: Scope | None) -> Iterator[Pack]:
    with engine.reading() as session:
        rows = session.run(_OF_STUDY, study=study).fetchall()
    for series_uid, pack in rows:
        if scope is not None and scope.series_uid not in (None, series_uid):
            continue
        with engine.reading() as session:
            found = packed.read(session, study, pack)
        if found is not None:
            yield found.pack(study_uid, series_uid)


def _read(engine: Engine, rows: Iterable[Any], besides: Set[str]) -> Iterator[Pack]:
    """Each pack when it is asked for; those that are gone by then are left out."""
    for study_uid, series_uid, study, pack, key in rows:
        if key in besides:
            continue
        with engine.reading() as session:
            one = packed.read(session, study, pack)
        if one is not None:
            yield one.pack(study_uid, series_uid)
