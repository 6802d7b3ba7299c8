"""The rows that results of a search for instances are made from, wherever their attributes and metadata lie."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, select

from storage.dicom.level import Level
from storage.index import Documents, compile
from storage.index.metadata import loose_document, pack_documents
from storage.index.packed import Packed
from storage.index.results import Row
from storage.index.schema import instances, series, studies
from storage.index.served import InPack, Loose, Series, Served
from storage.index.session import Session

MAX_METADATA_BYTES = 32 << 20  # of DICOM JSON that one answer is made from, which the first row may pass
_FEW = 16  # instances, so many that they are better read one by one than with all of their series
_MOST_PACKS = 4  # of a series, whose metadata is in memory at once

_SHARED = (
    select(*compile.COLUMNS[Level.SERIES])
    .select_from(studies.join(series, series.c.study_id == studies.c.id))
    .where(studies.c.id == bindparam("study"), series.c.id == bindparam("one_series"))
)
_OF_STUDY = select(instances.c.sop_uid, instances.c.attributes).where(instances.c.study_id == bindparam("study"))
_OF_SERIES = _OF_STUDY.where(instances.c.series_id == bindparam("one_series"))
_OF_INSTANCE = _OF_STUDY.where(instances.c.id == bindparam("instance"))


class InDocuments(NamedTuple):
    """Metadata that lies in a pack, to be read when the database is let go: of one row of the pack's listing."""

    packed: Packed
    of: Series
    row: int


def rows(session: Session, of: Series, taken: Sequence[Served]) -> list[Row]:
    """A row for each instance: what it shares with its series, and its own attributes."""
    shared = tuple(session.run(_SHARED, study=of.study_id, one_series=of.id).fetchone())
    attributes = _attributes(session, of, taken)
    return [(*shared, attributes[one.sop_uid]) for one in taken]


def rows_with_metadata(session: Session, of: Series, taken: Sequence[Served], most_bytes: int) -> list[Row]:
    """The same with the metadata, or InDocuments; fewer when loose metadata is longer than `most_bytes`."""
    found: list[Row] = []
    for row, one in zip(rows(session, of, taken), taken, strict=True):
        if isinstance(one, InPack):
            found.append((*row, InDocuments(one.pack, of, one.row)))
            continue
        metadata = loose_document(session, of, one)
        assert metadata is not None, "a row that was read in this session"
        most_bytes -= len(metadata)
        if most_bytes < 0:
            break
        found.append((*row, metadata))
    return found


def length(found: Iterable[Row]) -> int:
    """The bytes of metadata that are in rows already."""
    return sum(len(row[-1]) for row in found if not isinstance(row[-1], InDocuments))


def _attributes(session: Session, of: Series, taken: Sequence[Served]) -> dict[str, bytes]:
    """By SOP Instance UID."""
    loose = [one for one in taken if isinstance(one, Loose)]
    packs = {one.pack.id: one.pack for one in taken if isinstance(one, InPack)}
    found: dict[str, bytes] = {}
    if len(loose) > _FEW:
        found.update(session.run(_OF_SERIES, study=of.study_id, one_series=of.id).fetchall())
    else:
        for one in loose:
            found.update(session.run(_OF_INSTANCE, study=of.study_id, instance=one.id).fetchall())
    of_pack = {pack: packed.listing.attributes() for pack, packed in packs.items()}
    found.update((one.sop_uid, of_pack[one.pack.id][one.row]) for one in taken if isinstance(one, InPack))
    return found


def with_documents(found: Iterable[Row], documents: Documents | None) -> Iterator[Row]:
    """The rows with all their metadata at hand, as many as MAX_METADATA_BYTES allow, and the first one in any case.

    Raises Unavailable.
    """
    opened: dict[int, Sequence[bytes]] = {}
    length = 0
    for row in found:
        metadata = row[-1]
        if isinstance(metadata, InDocuments):
            metadata = _document(metadata, documents, opened)
        if length and length + len(metadata) > MAX_METADATA_BYTES:
            return
        length += len(metadata)
        yield (*row[:-1], metadata)


def _document(wanted: InDocuments, documents: Documents | None, opened: dict[int, Sequence[bytes]]) -> bytes:
    edition = wanted.packed.edition
    if edition not in opened:
        if len(opened) == _MOST_PACKS:
            opened.pop(next(iter(opened)))
        opened[edition] = pack_documents(documents, wanted.of, wanted.packed)
    return opened[edition][wanted.row]
