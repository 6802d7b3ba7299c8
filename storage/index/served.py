"""Which version of each instance is served, loose or packed, in the one order in which instances come."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam, select

from storage.dicom.frames import FrameTable
from storage.dicom.identity import Identity, Scope
from storage.index import Contents, Location, Stored, documents, packed
from storage.index.packed import Listings, Packed
from storage.index.schema import contents, instances, series, studies
from storage.index.session import Session

SERIES_ORDER: tuple[ColumnElement[Any], ...] = (series.c.series_number.asc().nulls_last(), series.c.series_uid)
_SERIES = (
    select(
        studies.c.id, studies.c.study_uid, series.c.id, series.c.series_uid, series.c.loose_count, series.c.pack_count
    )
    .select_from(studies.join(series, series.c.study_id == studies.c.id))
    .where(studies.c.study_uid == bindparam("study_uid"))
)
_SERIES_OF_STUDY = _SERIES.order_by(*SERIES_ORDER)
_SERIES_BY_UID = _SERIES.where(series.c.series_uid == bindparam("series_uid"))
_LOOSE = select(
    instances.c.series_id,
    instances.c.id,
    instances.c.sop_uid,
    instances.c.sop_class,
    instances.c.instance_number,
    instances.c.revision,
    instances.c.digest,
    instances.c.transfer_syntax,
    instances.c.store,
    instances.c.key,
    instances.c.offset,
    instances.c.length,
    instances.c.header_length,
    instances.c.header_digest,
    instances.c.received_at,
).where(instances.c.study_id == bindparam("study"))
_LOOSE_OF_SERIES = _LOOSE.where(instances.c.series_id == bindparam("one_series"))
_LOOSE_BY_UID = _LOOSE_OF_SERIES.where(instances.c.sop_uid == bindparam("sop_uid"))
_CONTENTS = select(contents.c.frames, contents.c.bulk).where(contents.c.instance_id == bindparam("instance"))


class Series(NamedTuple):
    """A series that a scope names, and whether it has loose instances and packs."""

    study_id: int
    study_uid: str
    id: int
    series_uid: str
    loose_count: int
    pack_count: int


class Loose(NamedTuple):
    """A served version that lies loose."""

    series_id: int
    id: int
    sop_uid: str
    sop_class: str
    instance_number: int | None
    revision: int
    digest: bytes
    transfer_syntax: str
    store: str
    key: str
    offset: int
    length: int
    header_length: int
    header_digest: bytes
    received_at: int

    def stored(self, of: Series) -> Stored:
        """What reading it needs."""
        identity = Identity(of.study_uid, of.series_uid, self.sop_uid, self.sop_class)
        place = Location(self.store, self.key, self.offset, self.length)
        return Stored(
            identity,
            self.transfer_syntax,
            place,
            self.header_length,
            bytes(self.digest),
            self.revision,
            header_digest=bytes(self.header_digest),
        )

    def contents(self, session: Session) -> Contents:
        """Its frames and bulk values."""
        frames, bulk = session.run(_CONTENTS, instance=self.id).fetchone()
        return Contents(FrameTable.from_bytes(frames), documents.bulk_from_bytes(bulk))


class InPack(NamedTuple):
    """A served version that lies in a pack: `row` of its listing."""

    pack: Packed
    row: int

    @property
    def sop_uid(self) -> str:
        return self.pack.listing.sop_uids[self.row]

    @property
    def sop_class(self) -> str:
        return self.pack.listing.sop_class(self.row)

    @property
    def instance_number(self) -> int | None:
        return self.pack.listing.instance_number(self.row)

    @property
    def revision(self) -> int:
        return int(self.pack.listing.revisions[self.row])

    @property
    def digest(self) -> bytes:
        return self.pack.listing.digest(self.row)

    @property
    def received_at(self) -> int:
        return self.pack.listing.received_at(self.row)

    def stored(self, of: Series) -> Stored:
        """What reading it needs."""
        identity = Identity(of.study_uid, of.series_uid, self.sop_uid, self.sop_class)
        return Stored(
            identity,
            self.pack.listing.transfer_syntax(self.row),
            self.pack.place(self.row),
            self.pack.listing.span(self.row)[2],
            self.digest,
            self.revision,
            blocks=self.pack.blocks,
        )

    def contents(self, session: Session) -> Contents:
        """Its frames and bulk values."""
        return Contents(self.pack.listing.frames(self.row), self.pack.listing.bulk(self.row))


Served = Loose | InPack


def series_of(session: Session, scope: Scope) -> list[Series]:
    """The series that a scope names, in their order."""
    if scope.series_uid is None:
        rows = session.run(_SERIES_OF_STUDY, study_uid=scope.study_uid).fetchall()
    else:
        rows = session.run(_SERIES_BY_UID, study_uid=scope.study_uid, series_uid=scope.series_uid).fetchall()
    return [Series(*row) for row in rows]


def in_scope(session: Session, listings: Listings, scope: Scope) -> Iterator[tuple[Series, list[Served]]]:
    """The served versions in scope, series by series; a series of which nothing is in scope is left out."""
    found = series_of(session, scope)
    if not found:
        return
    if scope.series_uid is not None:
        loose_of = packs_of = None
    else:
        loose_of = _loose_of_study(session, found)
        packs_of = (
            packed.of_study(session, listings, found[0].study_id) if any(each.pack_count for each in found) else {}
        )
    for one in found:
        loose = _loose_of(session, one, scope.sop_uid) if loose_of is None else loose_of.get(one.id, [])
        if not one.pack_count:
            packs: list[Packed] = []
        elif packs_of is None:
            packs = packed.of_series(session, listings, one.study_id, one.id)
        else:
            packs = packs_of.get(one.id, [])
        served = chosen(loose, packs, scope.sop_uid)
        if served:
            yield one, served


def of_series(session: Session, listings: Listings, one: Series, sop_uid: str | None = None) -> list[Served]:
    """The served versions of a series in their order, or that of one instance."""
    packs = packed.of_series(session, listings, one.study_id, one.id) if one.pack_count else []
    return chosen(_loose_of(session, one, sop_uid), packs, sop_uid)


def sop_classes(session: Session, listings: Listings, study_uid: str) -> set[str]:
    """Those of all served instances of a study."""
    found = in_scope(session, listings, Scope(study_uid))
    return {each.sop_class for _, instances in found for each in instances}


def _loose_of_study(session: Session, found: Sequence[Series]) -> dict[int, list[Loose]]:
    by_series: dict[int, list[Loose]] = {}
    if any(each.loose_count for each in found):
        for row in session.run(_LOOSE, study=found[0].study_id).fetchall():
            by_series.setdefault(row[0], []).append(Loose(*row))
    return by_series


def _loose_of(session: Session, one: Series, sop_uid: str | None) -> list[Loose]:
    if not one.loose_count:
        return []
    if sop_uid is None:
        rows = session.run(_LOOSE_OF_SERIES, study=one.study_id, one_series=one.id)
    else:
        rows = session.run(_LOOSE_BY_UID, study=one.study_id, one_series=one.id, sop_uid=sop_uid)
    return [Loose(*row) for row in rows.fetchall()]


def chosen(loose: Sequence[Loose], packs: Sequence[Packed], sop_uid: str | None) -> list[Served]:
    """Of all versions of a series, or of one instance of it, those with the highest revision, in their order.

    Two packs have one revision with other bytes when the index was lost between them: then the later one is served.
    """
    found: dict[str, Served] = {each.sop_uid: each for each in loose}
    for pack in packs:
        for uid, row in _rows(pack, sop_uid):
            candidate = InPack(pack, row)
            known = found.get(uid)
            if known is None or _rank(known) < _rank(candidate):
                found[uid] = candidate
    return sorted(found.values(), key=_order)


def _rows(pack: Packed, sop_uid: str | None) -> Sequence[tuple[str, int]]:
    if sop_uid is None:
        return list(pack.listing.served().items())
    row = pack.listing.find(sop_uid)
    return [] if row is None else [(sop_uid, row)]


def _rank(one: Served) -> tuple[int, int]:
    return one.revision, one.received_at


def _order(one: Served) -> tuple[bool, int, str]:
    number = one.instance_number
    return number is None, number or 0, one.sop_uid
