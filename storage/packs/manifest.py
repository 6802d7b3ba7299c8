"""`manifest.json`: what a pack holds, so that the index can be made anew from packs alone.

One JSON object: `format` (1), `study_uid`, `series_uid`, `pack_id`, `count`, `merkle_root`; `metadata` (`offset` and
`length` of `metadata.json.gz`); `blocks` (`bytes` of a block, `digests` of every block that ends before this entry
begins: the first 16 bytes of BLAKE3 each, joined); `instances`, one a line: `sop_uid`, `sop_class`, `instance_number`,
`transfer_syntax`, `offset`, `length`, `header_length`, `digest` (BLAKE3), `sha256`, `revision`, `received_at`
(microseconds since 1970 UTC), `source`, `repair`, `frames` (base64 of `FrameTable.to_bytes`, null: none), `bulk`
(path -> [VR, [[offset, length], ...]]). Offsets count from the first byte of the pack; those of frames and bulk values
from the first byte of the data set. Digests are hexadecimal. `merkle_root` is the Merkle tree hash (RFC 6962 2.1,
SHA-256) whose leaves are the SHA-256 digests of the instances in order. `pack_id` begins with a digest of what the
instances are; the rest is random.
"""

import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson
from blake3 import blake3

from storage.dicom.frames import FrameTable, Span
from storage.dicom.identity import is_uid
from storage.dicom.instance import BulkValue
from storage.packs import BLOCK_BYTES, BLOCK_DIGEST_BYTES, FORMAT, PackedInstance

NAME = "manifest.json"
METADATA_NAME = "metadata.json.gz"
_NONE = FrameTable.none()
_DIGEST_BYTES = 32
_RANDOM_BYTES = 8
_PACK_ID = re.compile(r"(?P<instances>[0-9a-f]{32})(-[0-9a-f]{16})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Listed:
    """What a manifest says. `blocks` are the digests of the first whole blocks."""

    pack_id: str
    study_uid: str
    series_uid: str
    merkle_root: bytes
    metadata: Span
    blocks: bytes
    instances: tuple[PackedInstance, ...]
    sha256s: tuple[bytes, ...]


def names(packed: PackedInstance) -> tuple[str, str]:
    """The entry of an instance in the ZIP: when it is served, and when a later version is."""
    return f"{packed.sop_uid}.dcm", f"{packed.sop_uid}.v{packed.revision}.dcm"  # no UID has a letter


def new_pack_id(instances: Sequence[PackedInstance]) -> str:
    """A name for a pack of these instances that no other has, of the same instances either.

    Whoever deletes the object of a pack, however late, never means one that was written after it; and what was read
    under its name may be held in memory for as long as one likes.
    """
    return f"{_digest_of(instances)}-{secrets.token_hex(_RANDOM_BYTES)}"


def _is_named_after(pack_id: str, instances: Sequence[PackedInstance]) -> bool:
    """The random part may be missing: such packs were made before."""
    found = _PACK_ID.fullmatch(pack_id)
    return found is not None and found["instances"] == _digest_of(instances)


def _digest_of(instances: Sequence[PackedInstance]) -> str:
    """32 hexadecimal digits, the same for the same instances in any order."""
    hasher = blake3()
    for packed in sorted(instances, key=lambda packed: (packed.sop_uid, packed.revision, packed.digest)):
        hasher.update(f"{packed.sop_uid}\n{packed.revision}\n{packed.digest.hex()}\n".encode("ascii"))
    return hasher.hexdigest(16)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of the leaves (RFC 6962 2.1); that of none is the SHA-256 of nothing."""
    level = [sha256(b"\0" + leaf).digest() for leaf in leaves]
    if not level:
        return sha256().digest()
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        odd = level[-1:] if len(level) % 2 else []
        level = [sha256(b"\1" + left + right).digest() for left, right in pairs] + odd
    return level[0]


def instance_line(packed: PackedInstance, digest: bytes) -> bytes:
    """An instance with its SHA-256 as it stands in the manifest."""
    return orjson.dumps(
        {
            "sop_uid": packed.sop_uid,
            "sop_class": packed.sop_class,
            "instance_number": packed.instance_number,
            "transfer_syntax": packed.transfer_syntax,
            "offset": packed.offset,
            "length": packed.length,
            "header_length": packed.header_length,
            "digest": packed.digest.hex(),
            "sha256": digest.hex(),
            "revision": packed.revision,
            "received_at": packed.received_at,
            "source": packed.source,
            "repair": packed.repair,
            "frames": None if packed.frames == _NONE else b64encode(packed.frames.to_bytes()).decode("ascii"),
            "bulk": {path: (value.vr, [tuple(span) for span in value.spans]) for path, value in packed.bulk.items()},
        }
    )


def to_json(listed: Listed, lines: Sequence[bytes]) -> bytes:
    """The manifest; `lines` are the `instance_line` of each instance."""
    head = orjson.dumps(
        {
            "format": FORMAT,
            "study_uid": listed.study_uid,
            "series_uid": listed.series_uid,
            "pack_id": listed.pack_id,
            "count": len(lines),
            "merkle_root": listed.merkle_root.hex(),
            "metadata": listed.metadata._asdict(),
            "blocks": {"bytes": BLOCK_BYTES, "digests": listed.blocks.hex()},
        }
    )
    return b"".join((head[:-1], b',"instances":[\n', b",\n".join(lines), b"\n]}\n"))


def from_json(data: bytes, attributes: Sequence[bytes] | None = None) -> Listed:
    """The manifest that `to_json` wrote, checked in itself. Raises ValueError for anything else.

    The `attributes` of the instances, as many as there are, are not in it.
    """
    try:
        found = orjson.loads(data)
        if found["format"] != FORMAT:
            raise ValueError("the manifest is of a format that is not known here")
        listed = _listed(found, attributes)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("the manifest lacks something") from error
    if found["count"] != len(listed.instances) or not listed.instances:
        raise ValueError("the manifest does not list as many instances as it counts")
    if found["blocks"]["bytes"] != BLOCK_BYTES or len(listed.blocks) % BLOCK_DIGEST_BYTES:
        raise ValueError("the digests of the manifest are not of the blocks that are known here")
    if not _is_named_after(listed.pack_id, listed.instances):
        raise ValueError("the pack is not named after the instances that its manifest lists")
    if listed.merkle_root != merkle_root(listed.sha256s):
        raise ValueError("the Merkle root of the manifest is not that of its instances")
    _check_order(listed)
    return listed


def _listed(found: dict[str, Any], attributes: Sequence[bytes] | None) -> Listed:
    items = found["instances"]
    each = attributes if attributes is not None else [b""] * len(items)
    if len(items) != len(each):
        raise ValueError("there is not one document for each instance")
    return Listed(
        pack_id=_text(found["pack_id"]),
        study_uid=_uid(found["study_uid"]),
        series_uid=_uid(found["series_uid"]),
        merkle_root=_digest(found["merkle_root"]),
        metadata=Span(_number(found["metadata"]["offset"]), _number(found["metadata"]["length"])),
        blocks=bytes.fromhex(found["blocks"]["digests"]),
        instances=tuple(_packed(item, its) for item, its in zip(items, each, strict=True)),
        sha256s=tuple(_digest(item["sha256"]) for item in items),
    )


def _packed(item: dict[str, Any], attributes: bytes) -> PackedInstance:
    number, repair, frames = item["instance_number"], item["repair"], item["frames"]
    return PackedInstance(
        sop_uid=_uid(item["sop_uid"]),
        sop_class=_common_uid(item["sop_class"]),
        instance_number=None if number is None else _integer(number),
        transfer_syntax=_common_uid(item["transfer_syntax"]),
        offset=_number(item["offset"]),
        length=_number(item["length"]),
        header_length=_number(item["header_length"]),
        digest=_digest(item["digest"]),
        revision=_integer(item["revision"]),
        received_at=_number(item["received_at"]),
        source=_text(item["source"]),
        repair=None if repair is None else _text(repair),
        attributes=attributes,
        frames=_NONE if frames is None else _frames(_text(frames)),
        bulk={path: _bulk(vr, spans) for path, (vr, spans) in item["bulk"].items()},
    )


@lru_cache(maxsize=16)
def _frames(text: str) -> FrameTable:
    """Most instances of a series have the same."""
    return FrameTable.from_bytes(b64decode(text, validate=True))


def _bulk(vr: object, spans: Sequence[tuple[object, object]]) -> BulkValue:
    return BulkValue(_text(vr), tuple(Span(_number(offset), _number(length)) for offset, length in spans))


def _check_order(listed: Listed) -> None:
    """Instances must lie one after another, each with its header inside, and the metadata behind them."""
    position = 0
    for packed in listed.instances:
        if packed.offset < position or packed.header_length > packed.length:
            raise ValueError("the instances that the manifest lists do not lie one after another")
        position = packed.offset + packed.length
    if len({(packed.sop_uid, packed.revision) for packed in listed.instances}) != len(listed.instances):
        raise ValueError("the manifest lists a version of an instance twice")
    if listed.metadata.offset < position:
        raise ValueError("the metadata does not lie behind the instances")


def _integer(value: object) -> int:
    if type(value) is not int:
        raise ValueError("the manifest has something else where a number belongs")
    return value


def _number(value: object) -> int:
    number = _integer(value)
    if number < 0:
        raise ValueError("the manifest has a negative number where there can be none")
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("the manifest has something else where a text belongs")
    return value


def _uid(value: object) -> str:
    uid = _text(value)
    if not is_uid(uid):
        raise ValueError("the manifest has something else where a UID belongs")
    return uid


@lru_cache(maxsize=64)
def _common_uid(value: str) -> str:
    return _uid(value)


def _digest(value: object) -> bytes:
    digest = bytes.fromhex(_text(value))
    if len(digest) != _DIGEST_BYTES:
        raise ValueError("the manifest has something else where a digest belongs")
    return digest
