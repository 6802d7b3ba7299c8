"""Objects that are doomed: named by nothing, and removed from their store when it is due."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sqlalchemy import bindparam, delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert  # SQLite took over these words of its own accord

from storage.dicom.identity import Scope
from storage.index import Location, Overdue
from storage.index.engine import Engine
from storage.index.schema import instances, packs, removals, series, studies, versions
from storage.index.session import Session, constant
from storage.objects import keys

_PAGE = 1000
_MOST_COUNTED = 100_000

_NEW = insert(removals).values({name: bindparam(name) for name in ("store", "key", "due_at")})
# What was to go earlier goes earlier.
_DOOM = _NEW.on_conflict_do_update(
    index_elements=["store", "key"],
    set_={"due_at": _NEW.excluded.due_at},
    where=removals.c.due_at > _NEW.excluded.due_at,
)
_RESPITE = _NEW.on_conflict_do_update(index_elements=["store", "key"], set_={"due_at": _NEW.excluded.due_at})
_ONE = (removals.c.store == bindparam("store")) & (removals.c.key == bindparam("key"))
_DUE_AT = select(removals.c.due_at).where(_ONE)
# One that was announced before a kill may have been adopted since: a pack that is here is never to be removed.
_NAMED = exists().where(packs.c.key == removals.c.key, packs.c.store == removals.c.store)
_DUE = (
    select(removals.c.store, removals.c.key)
    .where(removals.c.due_at < bindparam("due_before"), ~_NAMED)
    .order_by(removals.c.due_at)
    .limit(bindparam("limit"))
    .offset(constant(0))
)
_DUE_IN_STORE = _DUE.where(removals.c.store == bindparam("store"))
_OLDEST = _DUE.with_only_columns(removals.c.store, removals.c.due_at).subquery()
_OVERDUE = (
    select(_OLDEST.c.store, func.count(), func.min(_OLDEST.c.due_at))
    .group_by(_OLDEST.c.store)
    .order_by(_OLDEST.c.store)
)
_STORE = (
    select(removals.c.store)
    .where(removals.c.store > bindparam("after"))
    .order_by(removals.c.store)
    .limit(constant(1))
    .offset(constant(0))
)
_BEHIND = (removals.c.store == bindparam("store")) & (removals.c.key > bindparam("after"))
_KEY = select(removals.c.key).where(_BEHIND).order_by(removals.c.key).limit(constant(1)).offset(constant(0))
_BELOW = (
    select(removals.c.key)
    .where(_BEHIND, removals.c.key < bindparam("end"), removals.c.due_at < bindparam("due_before"), ~_NAMED)
    .order_by(removals.c.key)
    .limit(constant(_PAGE))
    .offset(constant(0))
)
_COPIED_TO = select(packs.c.copied_to).where(packs.c.study_id == bindparam("study"), packs.c.id == bindparam("pack"))
_NAMES_LOOSE = [
    select(constant(1))
    .select_from(table)
    .join(studies, studies.c.id == table.c.study_id)
    .join(series, (series.c.study_id == table.c.study_id) & (series.c.id == table.c.series_id))
    .where(
        studies.c.study_uid == bindparam("study_uid"),
        series.c.series_uid == bindparam("series_uid"),
        table.c.sop_uid == bindparam("sop_uid"),
        table.c.store == bindparam("store"),
        table.c.key == bindparam("key"),
    )
    for table in (instances, versions)
]
_FORGET = delete(removals).where(_ONE)


def doom(session: Session, locations: Iterable[Location], due_at: int) -> None:
    """Let these objects be removed at `due_at`, or when they were to be already."""
    names = sorted({(location.store, location.key) for location in locations})  # in one order, lest two wait in a ring
    session.run_all(_DOOM, [{"store": store, "key": key, "due_at": due_at} for store, key in names])


def respite(session: Session, location: Location, due_at: int) -> None:
    """Let the object be removed at `due_at`, whenever it was to be before."""
    session.run(_RESPITE, store=location.store, key=location.key, due_at=due_at)


def unnamed(session: Session, locations: Iterable[Location]) -> list[Location]:
    """Those of the objects that no loose instance is read from."""
    return [location for location in locations if not _is_loose(session, location)]


def _is_loose(session: Session, location: Location) -> bool:
    found = keys.instance_of_spool(location.key)
    if found is None:
        return False
    names = {"study_uid": found[0], "series_uid": found[1], "sop_uid": found[2]}
    names |= {"store": location.store, "key": location.key}
    return any(session.run(statement, **names).fetchone() is not None for statement in _NAMES_LOOSE)


def due_at(session: Session, location: Location) -> int | None:
    """When the object there is to be removed; None when it is not doomed."""
    row = session.run(_DUE_AT, store=location.store, key=location.key).fetchone()
    return None if row is None else int(row[0])


def copy_of(session: Session, study: int, pack: int, location: Location) -> list[Location]:
    """Where the copy of a pack that still has its row lies, if one was confirmed."""
    (store,) = session.run(_COPIED_TO, study=study, pack=pack).fetchone()
    return [replace(location, store=store)] if store else []


def due(session: Session, due_before: int, limit: int, store: str | None) -> list[Location]:
    """See `PackingIndex.doomed`. How long the objects are is not known."""
    if store is None:
        rows = session.run(_DUE, due_before=due_before, limit=limit).fetchall()
    else:
        rows = session.run(_DUE_IN_STORE, due_before=due_before, limit=limit, store=store).fetchall()
    return [Location(store, key, 0, 0) for store, key in rows]


def overdue(session: Session, due_before: int) -> list[Overdue]:
    """See `PackingIndex`."""
    rows = session.run(_OVERDUE, due_before=due_before, limit=_MOST_COUNTED).fetchall()
    return [Overdue(store, count, oldest_at) for store, count, oldest_at in rows]


def of_scope(engine: Engine, scope: Scope, due_before: int) -> Iterator[Location]:
    """See `PackingIndex.doomed_of`. No transaction lasts from one page to the next."""
    with engine.reading() as session:
        ranges = [(store, below) for store in _stores(session) for below in _beginnings(session, store, scope)]
    for store, beginning in ranges:
        after, end = beginning, _behind(beginning)
        while True:
            with engine.reading() as session:
                rows = session.run(_BELOW, store=store, after=after, end=end, due_before=due_before).fetchall()
            yield from (Location(store, key, 0, 0) for (key,) in rows)
            if len(rows) < _PAGE:
                break
            after = rows[-1][0]


def _stores(session: Session) -> Iterator[str]:
    """In which something is doomed."""
    after = ""
    while row := session.run(_STORE, after=after).fetchone():
        yield (after := row[0])


def _beginnings(session: Session, store: str, scope: Scope) -> Iterator[str]:
    """What keys of a study or series begin with: those of its loose objects, and those of its packs, by custodian."""
    below = f"{scope.study_uid}/" + (f"{scope.series_uid}/" if scope.series_uid else "")
    yield f"spool/{below}"
    custodian = "packs/"
    while row := session.run(_KEY, store=store, after=custodian).fetchone():
        if not row[0].startswith("packs/"):
            return
        found = "/".join(row[0].split("/")[:2]) + "/"
        yield f"{found}{below}"
        custodian = _behind(found)


def _behind(folder: str) -> str:
    """What comes after all keys that begin with `folder`, which ends in "/"."""
    return f"{folder[:-1]}0"


def forget(session: Session, locations: Iterable[Location]) -> None:
    """These objects are gone, or are named now."""
    session.run_all(_FORGET, [{"store": each.store, "key": each.key} for each in locations])
