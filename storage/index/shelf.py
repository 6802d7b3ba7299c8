"""The packs that are there: all of them in order, those that are to be written anew, merged, or copied."""

from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from itertools import islice
from typing import Any

from sqlalchemy import Select, bindparam, case, func, select, update

from storage.dicom.identity import Scope
from storage.index import doomed, packed
from storage.index.engine import Engine
from storage.index.schema import packs, series, studies
from storage.index.session import Session, constant
from storage.packs import Pack, merging

STUDIES_AT_ONCE = 256  # whose UIDs are in memory

_STUDIES = (
    select(studies.c.study_uid)
    .where(studies.c.study_uid > bindparam("after"))
    .order_by(studies.c.study_uid)
    .limit(bindparam("limit"))
    .offset(constant(0))
)
_PACKS = (packs.join(series, (series.c.study_id == packs.c.study_id) & (series.c.id == packs.c.series_id))).join(
    studies, studies.c.id == packs.c.study_id
)
_OF_STUDY = (
    select(series.c.series_uid, packs.c.pack_id)
    .select_from(_PACKS)
    .where(studies.c.study_uid == bindparam("study_uid"))
    .order_by(series.c.series_uid, packs.c.pack_id)
)
_BY_NAME = (
    select(packs.c.study_id, packs.c.id)
    .select_from(_PACKS)
    .where(
        studies.c.study_uid == bindparam("study_uid"),
        series.c.series_uid == bindparam("series_uid"),
        packs.c.pack_id == bindparam("pack_id"),
    )
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
_SIZE = case(*((packs.c.length < constant(bound), constant(size)) for size, bound in enumerate(merging.SIZES)))
CROWDED = (
    select(studies.c.study_uid, series.c.series_uid)
    .join_from(series, packs, (series.c.study_id == packs.c.study_id) & (series.c.id == packs.c.series_id))
    .join(studies, studies.c.id == series.c.study_id)
    .where(
        series.c.pack_count >= constant(merging.AT_LEAST),
        packs.c.length < constant(merging.SIZES[-1]),
        packs.c.instance_count <= constant(merging.MAX_INSTANCES),
        packs.c.metadata_length <= constant(merging.MAX_METADATA_BYTES),
    )
    .group_by(studies.c.study_uid, series.c.series_uid, _SIZE)
    .having(func.count() >= constant(merging.AT_LEAST))
    .limit(bindparam("limit"))
    .offset(constant(0))
)
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
    if scope is not None:
        yield from _of_study(engine, scope.study_uid, scope.series_uid)
        return
    after = ""
    while True:
        with engine.reading() as session:
            found = [row[0] for row in session.run(_STUDIES, after=after, limit=STUDIES_AT_ONCE).fetchall()]
        for study_uid in found:
            yield from _of_study(engine, study_uid)
        if not found:
            return
        after = found[-1]


def wasteful(engine: Engine, limit: int, besides: Set[str]) -> Iterator[Pack]:
    """See `PackingIndex.wasteful`."""
    with engine.reading() as session:
        rows = session.run(_WASTEFUL, limit=limit + len(besides)).fetchall()
    yield from islice(_read(engine, rows, besides), limit)


def crowded(session: Session, limit: int) -> list[Scope]:
    """See `PackingIndex.crowded`. A series that has enough packs of two sizes counts twice, and is named once."""
    rows = session.run(CROWDED, limit=limit).fetchall()
    return list(dict.fromkeys(Scope(*row) for row in rows))


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
    names = {"study_uid": pack.study_uid, "pack_id": pack.pack_id, "key": pack.location.key}
    if session.run(_COPIED, copy=store, **names).rowcount:
        doomed.forget(session, [replace(pack.location, store=store)])


def _of_study(engine: Engine, study_uid: str, only_series: str | None = None) -> Iterator[Pack]:
    """Each is looked up by name when it is read: numbers of rows are used again after a removal."""
    with engine.reading() as session:
        names = session.run(_OF_STUDY, study_uid=study_uid).fetchall()
    for series_uid, pack_id in names:
        if only_series not in (None, series_uid):
            continue
        with engine.reading() as session:
            row = session.run(_BY_NAME, study_uid=study_uid, series_uid=series_uid, pack_id=pack_id).fetchone()
            found = None if row is None else packed.read(session, *row)
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
