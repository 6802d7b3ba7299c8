"""Searches whose dates and times are in a time zone that the caller names (PS3.18 8.3.4.1.1).

The index keeps dates and times as they were sent. So the database finds what may match, a day to either side, and
what it is in the zone asked for is looked at here, one candidate after another.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta

from storage.dicom import zones
from storage.dicom.attributes import DATE_TIME_PAIRS
from storage.dicom.instance import JsonDataset
from storage.dicom.matching import matches
from storage.dicom.query import Empty, Key, Matching, Query, Range, Single, Universal, alternatives, check
from storage.errors import Fault, Invalid
from storage.index import Page

MAX_CANDIDATES = 10_000  # that one search looks at
_BATCH = 500
_DATES = frozenset(date for date, _ in DATE_TIME_PAIRS)
_TIMES = frozenset(time for _, time in DATE_TIME_PAIRS)
_PARTNERS = {one: pair for pair in DATE_TIME_PAIRS for one in pair}


def search(find: Callable[[Query], Page], query: Query, zone: str) -> Page:
    """The results of `query` with its dates and times, and theirs, in `zone`; `find` searches without zones.

    Raises Invalid (QUERY) when too many would have to be looked at; what `find` raises.
    """
    check(query)
    moments = [key for key in query.keys if _is_moment(key)]
    if not moments:
        page = find(query)
        return replace(page, rows=[zones.in_zone(row, zone) for row in page.rows])
    asked = Query(
        query.level, tuple(moments), combined_datetime=query.combined_datetime, match_unknown=query.match_unknown
    )
    rows: list[JsonDataset] = []
    seen = 0
    candidates = _Candidates(find, _widened(query))
    for candidate in candidates:
        row = zones.in_zone(candidate, zone)
        if not matches(row, asked):
            continue
        seen += 1
        if query.offset < seen <= query.offset + query.limit:
            rows.append(row)
    if not candidates.were_all and len(rows) < query.limit:
        raise Invalid(Fault.QUERY, "too many may match in this time zone: narrow the dates, or name a study")
    return Page(rows, max(0, seen - query.offset - len(rows)), remaining_is_exact=candidates.were_all)


class _Candidates:
    """What may match, in the order of results, as much as one search looks at."""

    def __init__(self, find: Callable[[Query], Page], query: Query) -> None:
        self._find = find
        self._query = query
        self.were_all = False

    def __iter__(self) -> Iterator[JsonDataset]:
        taken = 0
        while taken < MAX_CANDIDATES:
            page = self._find(replace(self._query, limit=_BATCH, offset=taken))
            yield from page.rows
            taken += len(page.rows)
            if not page.remaining or not page.rows:
                self.were_all = not page.remaining
                return


def _is_moment(key: Key) -> bool:
    return key.path in _PARTNERS and not isinstance(key.matching, Universal | Empty)


def _widened(query: Query) -> Query:
    """Without times, and with a day more at both ends of dates; results have all that is needed to tell."""
    keys = [
        replace(key, matching=_around(key.matching)) if key.path in _DATES and _is_moment(key) else key
        for key in query.keys
        if not (key.path in _TIMES and _is_moment(key))
    ]
    needed = {tag for key in query.keys if key.path in _PARTNERS for (tag,) in _PARTNERS[key.path]}
    return replace(query, keys=tuple(keys), include=query.include | needed)


def _around(matching: Matching) -> Range:
    lows, highs = set(), set()
    for each in alternatives(matching):
        assert isinstance(each, Single | Range)
        lows.add(each.value if isinstance(each, Single) else each.low)
        highs.add(each.value if isinstance(each, Single) else each.high)
    return Range(_moved(lows, min, -1), _moved(highs, max, 1))


def _moved(days: set[str | None], extreme: Callable[[set[str]], str], by: int) -> str | None:
    known = {day for day in days if day is not None}
    if len(known) < len(days):
        return None
    day = extreme(known)
    try:
        at = date(int(day[:4]), int(day[4:6]), int(day[6:])) + timedelta(by)
    except OverflowError:
        return day
    return f"{at.year:04}{at:%m%d}"
