"""Packs as a sealer would make them, without an object store: only what an index can see of them."""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from storage.dicom.frames import Span
from storage.dicom.identity import Scope
from storage.errors import NotFound
from storage.index import LooseInstance, PackingIndex
from storage.objects import Location
from storage.packs import BLOCK_BYTES, BLOCK_DIGEST_BYTES, Blocks, Pack, PackedInstance
from storage.packs.write import place

HOUR = 3600 * 1_000_000


def soon(seconds: float = 3600) -> int:
    """A moment so far from now, as the index keeps time."""
    return time.time_ns() // 1000 + int(seconds * 1_000_000)


class KeptDocuments:
    """`Documents` of the packs that were made here, as their objects would give them."""

    def __init__(self) -> None:
        self.kept: dict[Location, list[bytes]] = {}
        self.reads = 0

    def documents(self, pack: Pack) -> Sequence[bytes]:
        self.reads += 1
        if pack.location not in self.kept:
            raise NotFound("there is no such pack")
        kept = self.kept[pack.location]
        return kept if pack.positions is None else [kept[position] for position in pack.positions]


def pack_of(study_uid: str, series_uid: str, instances: Sequence[PackedInstance]) -> Pack:
    """A pack of these instances, laid out one after another."""
    names = "".join(f"{each.sop_uid}/{each.revision}/{each.digest.hex()}" for each in instances)
    pack_id = f"{hashlib.blake2b(names.encode(), digest_size=16).hexdigest()}-{secrets.token_hex(8)}"
    placed, offset = [], 0
    for each in instances:
        offset += 100
        placed.append(replace(each, offset=offset))
        offset += each.length
    length = offset + 5000
    digests = b"".join(bytes([n % 256]) * BLOCK_DIGEST_BYTES for n in range(-(-length // BLOCK_BYTES)))
    return Pack(
        pack_id,
        study_uid,
        series_uid,
        Location("archive", f"packs/local/{study_uid}/{series_uid}/{pack_id}.zip", 0, length),
        Span(offset, 4000),
        Blocks(length, digests),
        tuple(placed),
    )


def packed_loose(
    study_uid: str, series_uid: str, loose: Sequence[LooseInstance], documents: KeptDocuments
) -> tuple[Pack, list[Location]]:
    """A pack of loose instances, and where they lay."""
    pack = pack_of(study_uid, series_uid, [each.packed for each in loose])
    documents.kept[pack.location] = [each.metadata for each in loose]
    return pack, [each.location for each in loose]


def seal(
    index: PackingIndex, documents: KeptDocuments, study_uid: str, series_uid: str, most: int | None = None
) -> Pack:
    """Seal what lies loose of a series, or the first so many."""
    loose = list(islice(index.loose(study_uid, series_uid), most))
    pack, places = packed_loose(study_uid, series_uid, loose, documents)
    index.doom([pack.location], soon())
    index.seal(pack, places)
    return pack


def compact(index: PackingIndex, documents: KeptDocuments, old: Pack) -> Pack:
    """Write a wasteful pack anew."""
    new = pack_of(old.study_uid, old.series_uid, old.instances)
    documents.kept[new.location] = list(documents.documents(old))
    index.doom([new.location], soon())
    index.repack([old], new)
    return new


def merge(index: PackingIndex, documents: KeptDocuments, old: Sequence[Pack]) -> Pack:
    """Write several packs of a series as one."""
    pairs = [pair for pack in old for pair in zip(pack.instances, documents.documents(pack), strict=True)]
    pairs.sort(key=lambda pair: place(pair[0]))
    new = pack_of(old[0].study_uid, old[0].series_uid, [packed for packed, _ in pairs])
    documents.kept[new.location] = [document for _, document in pairs]
    index.doom([new.location], soon())
    index.repack(old, new)
    return new


def one_pack(index: PackingIndex, study_uid: str, series_uid: str | None = None) -> Pack:
    """The only pack of a study or series."""
    [pack] = index.packs(Scope(study_uid, series_uid))
    return pack
