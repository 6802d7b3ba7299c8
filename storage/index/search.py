"""Searches at each level: studies and series by one statement, instances by a walk through series."""

from dataclasses import replace
from functools import partial

from storage.dicom.level import Level
from storage.dicom.query import Query
from storage.index import Documents, Page, compile, instance_rows, results, walk, zoned
from storage.index.engine import Engine
from storage.index.packed import Listings
from storage.index.results import Selection

MAX_ROWS = 10_000  # that one search returns, whatever its limit
MAX_COUNTED = 10_000  # further matches that are counted exactly
MAX_OFFSET = 1 << 40


def search(engine: Engine, listings: Listings, documents: Documents | None, query: Query) -> Page:
    """See `MetadataIndex`. Raises Invalid (QUERY) for keys that cannot be matched at the query's level, or not without
    reading most of the archive; Unavailable.
    """
    if query.timezone is not None:
        return zoned.search(partial(search, engine, listings, documents), replace(query, timezone=None), query.timezone)
    wanted = results.selection(query)
    if query.level is Level.INSTANCE:
        return _instances(engine, listings, documents, query, wanted)
    return _studies_or_series(engine, query, wanted)


def _studies_or_series(engine: Engine, query: Query, wanted: Selection) -> Page:
    statements = compile.search(query, engine.flavour)
    offset, limit = _bounds(query)
    found = []
    remaining = 0
    with engine.reading() as session:
        if limit:
            values = statements.values | {"limit": limit + 1, "offset": offset}
            found = session.execute(statements.rows, values).fetchall()
        if len(found) > limit or not limit:
            seen = offset + limit
            values = statements.values | {"bound": seen + MAX_COUNTED + 1}
            remaining = max(0, session.execute(statements.counting, values).fetchone()[0] - seen)
    rows = results.results(found[:limit], query.level, wanted)
    return Page(rows, min(remaining, MAX_COUNTED), remaining_is_exact=remaining <= MAX_COUNTED)


def _instances(
    engine: Engine, listings: Listings, documents: Documents | None, query: Query, wanted: Selection
) -> Page:
    """The metadata in packs is read after the session, which must not wait for an object store."""
    steps = compile.steps(query, engine.flavour)
    offset, limit = _bounds(query)
    with engine.reading() as session:
        going = walk.Walk(
            session,
            listings,
            walk.keys_of(query),
            offset=offset,
            limit=limit,
            with_metadata=wanted.needs_metadata,
        )
        found = going.find(steps, MAX_COUNTED)
    rows = instance_rows.with_documents(found.rows, documents) if wanted.needs_metadata else found.rows
    page = results.results(rows, query.level, wanted)
    remaining = found.remaining + len(found.rows) - len(page)
    return Page(page, min(remaining, MAX_COUNTED), found.is_exact and remaining <= MAX_COUNTED)


def _bounds(query: Query) -> tuple[int, int]:
    return min(query.offset, MAX_OFFSET), min(query.limit, MAX_ROWS)
