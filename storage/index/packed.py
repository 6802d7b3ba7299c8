"""The rows of packs: written, read, and their listings kept decoded."""

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert  # SQLite took over these words

from storage.dicom.frames import Span
from storage.index import Location, feed, listing
from storage.index.listing import Listing
from storage.index.schema import packs, sealed_uids
from storage.index.session import Session
from storage.packs import Blocks, Pack, PackedInstance

MAX_KEPT = 100_000  # instances in decoded listings, some 40 MB

_COLUMNS = (
    "study_id",
    "series_id",
    "pack_id",
    "store",
    "key",
    "length",
    "metadata_offset",
    "metadata_length",
    "instance_count",
    "removed_count",
    "edition",
    "made_at",
    "blocks",
    "listing",
)
_INSERT = insert(packs).values({name: bindparam(name) for name in _COLUMNS})
_EDITIONS = select(packs.c.series_id, packs.c.id, packs.c.edition).where(packs.c.study_id == bindparam("study"))
_IN_STUDY = _EDITIONS.order_by(packs.c.series_id, packs.c.id)
_IN_SERIES = _EDITIONS.where(packs.c.series_id == bindparam("one_series")).order_by(packs.c.id)
_ONE = (packs.c.study_id == bindparam("study")) & (packs.c.id == bindparam("pack"))
_WHOLE = select(
    packs.c.series_id,
    packs.c.pack_id,
    packs.c.store,
    packs.c.key,
    packs.c.length,
    packs.c.metadata_offset,
    packs.c.metadata_length,
    packs.c.removed_count,
    packs.c.edition,
    packs.c.blocks,
    packs.c.listing,
).where(_ONE)
_REWRITE = (
    update(packs)
    .values(
        {name: bindparam(f"new_{name}") for name in ("instance_count", "removed_count", "edition", "listing")},
    )
    .where(_ONE)
)
_DROP = delete(packs).where(_ONE)
_ADD_UID = upsert(sealed_uids).values({name: bindparam(name) for name in ("uid_hash", "study_id", "series_id")})
_ADD_UID = _ADD_UID.on_conflict_do_nothing()
_DROP_UID = delete(sealed_uids).where(
    *(sealed_uids.c[name] == bindparam(name) for name in ("uid_hash", "study_id", "series_id"))
)


@dataclass(frozen=True, slots=True)
class Packed:
    """A pack as the index has it."""

    id: int
    study_id: int
    series_id: int
    pack_id: str
    location: Location
    metadata: Span
    removed_count: int
    edition: int
    blocks: Blocks
    listing: Listing

    def pack(self, study_uid: str, series_uid: str) -> Pack:
        """The same for those outside."""
        positions = self.listing.positions
        return Pack(
            self.pack_id,
            study_uid,
            series_uid,
            self.location,
            self.metadata,
            self.blocks,
            tuple(self.listing.instances()),
            None if positions is None else tuple(positions),
        )

    def place(self, row: int) -> Location:
        """Where the bytes of the instance in that row of the listing lie."""
        offset, length, _ = self.listing.span(row)
        return Location(self.location.store, self.location.key, offset, length)


class Columns(NamedTuple):
    """See `columns`."""

    row: dict[str, object]
    uid_hashes: tuple[int, ...]


class Listings:
    """Packs that were read lately. Of an edition there is but one content, so nothing here ever grows stale."""

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[int, Packed] = OrderedDict()
        self._instances = 0
        self._lock = threading.Lock()

    def find(self, edition: int) -> Packed | None:
        """The pack of that edition, if it is at hand."""
        with self._lock:
            found = self._kept.get(edition)
            if found is not None:
                self._kept.move_to_end(edition)
            return found

    def keep(self, packed: Packed) -> None:
        """Have it at hand, and drop those that were not asked for longest; one larger than all is not kept."""
        with self._lock:
            if packed.edition in self._kept or len(packed.listing) > self._most:
                return
            self._kept[packed.edition] = packed
            self._instances += len(packed.listing)
            while self._instances > self._most:
                _, oldest = self._kept.popitem(last=False)
                self._instances -= len(oldest.listing)


def of_study(session: Session, listings: Listings, study: int) -> dict[int, list[Packed]]:
    """The packs of each series of a study that has any."""
    found: dict[int, list[Packed]] = {}
    for series, pack, edition in session.run(_IN_STUDY, study=study).fetchall():
        found.setdefault(series, []).append(_read(session, listings, study, pack, edition))
    return found


def of_series(session: Session, listings: Listings, study: int, series: int) -> list[Packed]:
    """The packs of a series."""
    rows = session.run(_IN_SERIES, study=study, one_series=series).fetchall()
    return [_read(session, listings, study, pack, edition) for _, pack, edition in rows]


def read(session: Session, study: int, pack: int) -> Packed | None:
    """One pack, not kept; None when it is not there."""
    row = session.run(_WHOLE, study=study, pack=pack).fetchone()
    if row is None:
        return None
    series, pack_id, store, key, length, at, metadata_length, removed, edition, blocks, data = row
    return Packed(
        pack,
        study,
        series,
        pack_id,
        Location(store, key, 0, length),
        Span(at, metadata_length),
        removed,
        edition,
        Blocks(length, bytes(blocks)),
        Listing(bytes(data)),
    )


def _read(session: Session, listings: Listings, study: int, pack: int, edition: int) -> Packed:
    found = listings.find(edition)
    if found is None:
        found = read(session, study, pack)
        assert found is not None, "a row that was read in this session"
        listings.keep(found)
    return found


def columns(pack: Pack) -> Columns:
    """What the row of a pack is to hold but for its owners, and the UIDs: made before the transaction."""
    in_object = len(pack.instances) if pack.positions is None else max(pack.positions) + 1
    row = {
        "pack_id": pack.pack_id,
        "store": pack.location.store,
        "key": pack.location.key,
        "length": pack.location.length,
        "metadata_offset": pack.metadata.offset,
        "metadata_length": pack.metadata.length,
        "instance_count": len(pack.instances),
        "removed_count": max(in_object - len(pack.instances), int(pack.positions is not None)),
        "blocks": pack.blocks.digests,
        "listing": listing.encode(pack.instances, pack.positions),
    }
    return Columns(row, tuple(dict.fromkeys(uid_hash(each.sop_uid) for each in pack.instances)))


def write(session: Session, study: int, series: int, made: Columns) -> None:
    """A row for a pack, and its SOP Instance UIDs."""
    ids = {"study_id": study, "series_id": series}
    session.run(_INSERT, **ids, edition=_new_edition(), made_at=feed.now(), **made.row)
    session.run_all(_ADD_UID, [{"uid_hash": each, **ids} for each in made.uid_hashes])


def keep_only(session: Session, packed: Packed, rows: Sequence[int]) -> None:
    """Write the listing anew with only these rows."""
    known = packed.listing.positions
    positions = rows if known is None else [known[row] for row in rows]
    left: list[PackedInstance] = list(packed.listing.instances(rows))
    session.run(
        _REWRITE,
        study=packed.study_id,
        pack=packed.id,
        new_instance_count=len(rows),
        new_removed_count=packed.removed_count + len(packed.listing) - len(rows),
        new_edition=_new_edition(),
        new_listing=listing.encode(left, positions),
    )


def drop(session: Session, packed: Packed) -> None:
    """Take out the row of a pack."""
    session.run(_DROP, study=packed.study_id, pack=packed.id)


def drop_uids(session: Session, study: int, series: int, sop_uids: Iterable[str]) -> None:
    """No pack of the series has these any more."""
    ids = {"study_id": study, "series_id": series}
    session.run_all(_DROP_UID, [{"uid_hash": uid_hash(each), **ids} for each in sop_uids])


def uid_hash(sop_uid: str) -> int:
    """By which a packed SOP Instance UID is looked up: 64 bits, signed."""
    return int.from_bytes(hashlib.blake2b(sop_uid.encode(), digest_size=8).digest(), "big", signed=True)


def _new_edition() -> int:
    """Never used before by any pack, also not in a transaction that came to nothing."""
    return secrets.randbits(63)
