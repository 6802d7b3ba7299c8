"""Search for instances, loose and sealed alike: through the series that may have some, in the order of results.

Instances in packs have no rows, so the database finds series by all keys of studies and series; the keys of
instances are applied here, to the served versions of one series after another.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from storage.dicom.query import Query, Universal
from storage.errors import Fault, Invalid
from storage.index import compile, instance_rows, served
from storage.index.instance_rows import MAX_METADATA_BYTES
from storage.index.packed import Listings
from storage.index.results import Row
from storage.index.served import Series, Served
from storage.index.session import Session
from storage.index.terms import INSTANCE_NUMBER, SOP_CLASS, SOP_UID, among, numbers

STEPS_AT_FIRST, MOST_STEPS = 64, 1024  # series that are read from the database at once
MAX_OPENED = 10_000  # series whose instances one search looks at
MAX_OPENED_TO_COUNT = 256  # of them when all rows are found and only what remains is counted


class Keys(NamedTuple):
    """What is asked of instances themselves; None for anything."""

    sop_uids: frozenset[str] | None
    sop_classes: frozenset[str] | None
    numbers: frozenset[int | None] | None

    @property
    def sop_uid(self) -> str | None:
        """The only SOP Instance UID that is asked for, if it is one."""
        return next(iter(self.sop_uids)) if self.sop_uids is not None and len(self.sop_uids) == 1 else None

    def fit(self, one: Served) -> bool:
        """Whether an instance is one of those asked for."""
        return (
            (self.sop_uids is None or one.sop_uid in self.sop_uids)
            and (self.sop_classes is None or one.sop_class in self.sop_classes)
            and (self.numbers is None or one.instance_number in self.numbers)
        )


class Found(NamedTuple):
    """Rows for results, see `instance_rows`; and how many more instances match, or at least match."""

    rows: list[Row]
    remaining: int
    is_exact: bool


def keys_of(query: Query) -> Keys | None:
    """The keys of instances in `query`; None when it has none."""
    asked = {key.path: key.matching for key in query.keys if not isinstance(key.matching, Universal)}
    uids, classes = (frozenset(among(asked[path])) if path in asked else None for path in (SOP_UID, SOP_CLASS))
    found = numbers(asked[INSTANCE_NUMBER]) if INSTANCE_NUMBER in asked else None
    if found is not None and query.match_unknown:
        found |= {None}
    keys = Keys(uids, classes, found)
    return None if keys == (None, None, None) else keys


class Walk:
    """One search for instances: `limit` of them after the first `offset`, or fewer when their metadata is too long."""

    def __init__(
        self,
        session: Session,
        listings: Listings,
        keys: Keys | None,
        *,
        offset: int,
        limit: int,
        with_metadata: bool,
    ) -> None:
        self._session = session
        self._listings = listings
        self._keys = keys
        self._skip = offset
        self._limit = limit
        self._with_metadata = with_metadata
        self._bytes_left = MAX_METADATA_BYTES
        self._rows: list[Row] = []
        self._remaining = 0
        self._opened = self._opened_to_count = 0

    def find(self, steps: compile.Steps, most_counted: int) -> Found:
        """The rows, and how many more there are: counted to `most_counted`, less far when many series would have to be
        looked into for that. Raises Invalid (QUERY) when too many would have to be for the rows.
        """
        for one, instance_count in _series(self._session, steps):
            if self._is_full() and self._counted_enough(most_counted):
                return Found(self._rows, min(self._remaining, most_counted), False)
            if self._keys is None and (self._is_full() or self._skip >= instance_count):
                self._pass_by(instance_count)
            elif self._opened < MAX_OPENED:
                self._open(one)
            elif self._is_full():  # there may be more, and to say that there are none would hide them
                return Found(self._rows, 1, False)
            else:
                raise Invalid(Fault.QUERY, "these keys would have to be looked for in too many series: name a study")
        return Found(self._rows, min(self._remaining, most_counted), self._remaining <= most_counted)

    def _is_full(self) -> bool:
        return len(self._rows) >= self._limit

    def _counted_enough(self, most_counted: int) -> bool:
        return self._remaining > most_counted or (self._opened_to_count >= MAX_OPENED_TO_COUNT and self._remaining > 0)

    def _pass_by(self, count: int) -> None:
        """Count instances that are not to be rows, either before them or after them."""
        skipped = min(self._skip, count)
        self._skip -= skipped
        self._remaining += count - skipped

    def _open(self, one: Series) -> None:
        self._opened += 1
        self._opened_to_count += self._is_full()
        sop_uid = None if self._keys is None else self._keys.sop_uid
        found: Sequence[Served] = served.of_series(self._session, self._listings, one, sop_uid)
        if self._keys is not None:
            found = list(filter(self._keys.fit, found))
        taken = found[self._skip : self._skip + self._limit - len(self._rows)]
        made = self._made(one, taken) if taken else []
        self._rows += made
        if len(made) < len(taken):
            self._limit = len(self._rows)
        self._pass_by(len(found) - len(made))

    def _made(self, one: Series, taken: Sequence[Served]) -> list[Row]:
        if not self._with_metadata:
            return instance_rows.rows(self._session, one, taken)
        made = instance_rows.rows_with_metadata(self._session, one, taken, self._bytes_left)
        if not made and not self._rows:  # one is to come in any case
            made = instance_rows.rows_with_metadata(self._session, one, taken[:1], sys.maxsize)
        self._bytes_left -= instance_rows.length(made)
        return made


def _series(session: Session, steps: compile.Steps) -> Iterator[tuple[Series, int]]:
    """The series and how many instances each has, in batches: they may be one viewer's or the whole archive's."""
    limit = STEPS_AT_FIRST
    batch = session.execute(steps.first, {**steps.values, "limit": limit}).fetchall()
    while batch:
        for _, _, study_uid, _, series_uid, study, one_series, instance_count, loose_count, pack_count in batch:
            yield Series(study, study_uid, one_series, series_uid, loose_count, pack_count), instance_count
        if len(batch) < limit:
            return
        limit = MOST_STEPS
        place = dict(zip(compile.PLACE_NAMES, batch[-1], strict=False))
        batch = session.execute(steps.following, {**steps.values, **place, "limit": limit}).fetchall()
