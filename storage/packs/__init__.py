"""Packs: the sealed ZIP of one series, and what the index keeps of it. See docs/storage.md for the format.

`packs/{custodian or "local"}/{study_uid}/{series_uid}/{pack_id}.zip`, method *stored*, ZIP64 when needed. Entries in
this order: each instance as received (`{sop_uid}.dcm`, superseded versions `{sop_uid}.v{revision}.dcm`), then
`metadata.json.gz`, then `manifest.json`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from storage.dicom.frames import FrameTable, Span
from storage.dicom.instance import BulkValue
from storage.errors import Unavailable
from storage.objects import Location

FORMAT = 1
BLOCK_BYTES = 1 << 20  # of a pack object, the unit in which ranged reads are verified
BLOCK_DIGEST_BYTES = 16  # of the BLAKE3 of a block


class Damaged(Unavailable):
    """An object is not what was stored: flipped bytes, cut short, or never a pack. `key` names it."""

    def __init__(self, what: str, *, key: str = "") -> None:
        super().__init__(what)
        self.key = key


@dataclass(frozen=True, slots=True)
class PackedInstance:
    """One version of an instance in a pack: everything but its bytes, its metadata and its SHA-256."""

    sop_uid: str
    sop_class: str
    instance_number: int | None
    transfer_syntax: str
    offset: int  # of its first byte in the pack object
    length: int
    header_length: int  # from there to the data set
    digest: bytes  # as `Instance.digest`
    revision: int
    received_at: int  # microseconds since 1970-01-01 UTC
    source: str
    repair: str | None
    attributes: bytes  # DICOM JSON: the few attributes that every instance search returns
    frames: FrameTable
    bulk: Mapping[str, BulkValue]


@dataclass(frozen=True, slots=True)
class Blocks:
    """The length of an object and a digest for each of its blocks of BLOCK_BYTES, the last one shorter."""

    length: int
    digests: bytes


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack object: where it lies and what it holds. `metadata` is the span of `metadata.json.gz` in the object.

    `instances` are in the order of the object: by instance number (those without one last), SOP Instance UID,
    revision. The DICOM JSON of `instances[i]` is item i of the metadata, or item `positions[i]` when some that are in
    the object were removed and are left out here. Of several with one SOP Instance UID, here or in other packs of the
    series or loose, the one with the highest revision is served.
    """

    pack_id: str  # 32 hexadecimal digits, the same for the same instances; a dash; 16 random ones
    study_uid: str
    series_uid: str
    location: Location
    metadata: Span
    blocks: Blocks
    instances: tuple[PackedInstance, ...]
    positions: tuple[int, ...] | None = None  # of `instances` among all that are in the object; None: these are all
