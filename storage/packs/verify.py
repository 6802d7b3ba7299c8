"""Holds stored objects against their digests, byte by byte, with flat memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import repeat

from storage.dicom.digest import InstanceDigest
from storage.objects import ObjectStore
from storage.packs import BLOCK_BYTES, Damaged, Pack, PackedInstance, manifest
from storage.packs.read import Manifest
from storage.packs.stream import count_of, in_blocks, is_right


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a pack that is not as it was written; `sop_uid` is that of the instance, None: of no single one."""

    key: str
    what: str
    sop_uid: str | None = None


def verify_object(store: ObjectStore, key: str, length: int, digest: bytes) -> None:
    """Read an object once, whole; raises Damaged unless it has this length and SHA-256, NotFound, Unavailable."""
    hasher = sha256()
    with store.get(key) as body:
        is_as_long = body.length == length
        for chunk in body.chunks() if is_as_long else ():
            hasher.update(chunk)
    if not is_as_long or hasher.digest() != digest:
        raise Damaged("the object is not what was written", key=key)


def verify_pack(store: ObjectStore, found: Manifest) -> list[Finding]:
    """All that is wrong with the pack that `found` is the manifest of; none: every byte is what was written.

    Reads the object once: every block, SHA-256 and digest of every instance, the Merkle root. Raises NotFound,
    Unavailable.
    """
    key, blocks = found.pack.location.key, found.pack.blocks
    instances = _Instances(found.pack.instances, found.sha256s)
    wrong = 0
    with store.get(key) as body:
        if body.length != blocks.length:
            return [Finding(key, f"the object has {body.length} bytes, {blocks.length} were written")]
        for number, block in enumerate(in_blocks(body.chunks(BLOCK_BYTES))):
            wrong += not is_right(block, number, blocks)
            instances.take(block)
    findings = [Finding(key, "an instance is not what was stored", sop_uid) for sop_uid in instances.wrong]
    if wrong:
        findings.append(Finding(key, f"{wrong} of the {count_of(blocks)} blocks are not what was written"))
    if manifest.merkle_root(instances.sha256s) != found.merkle_root:
        findings.append(Finding(key, "the Merkle root is not that of the instances"))
    return findings


def verify_instances(store: ObjectStore, pack: Pack) -> list[Finding]:
    """The instances of a pack that are not what was stored, as far as can be told without its manifest.

    Raises NotFound, Unavailable.
    """
    instances = _Instances(pack.instances, repeat(None, len(pack.instances)))
    with store.get(pack.location.key) as body:
        for chunk in body.chunks():
            instances.take(chunk)
    wrong = instances.wrong + instances.missing()
    return [Finding(pack.location.key, "an instance is not what was stored", sop_uid) for sop_uid in wrong]


class _Instances:
    """Takes the bytes of a pack in order, and tells which of these instances are wrong. A SHA-256 may be unknown."""

    def __init__(self, instances: Iterable[PackedInstance], sha256s: Iterable[bytes | None]) -> None:
        self.wrong: list[str] = []
        self.sha256s: list[bytes] = []
        self._expected = iter(zip(instances, sha256s, strict=True))
        self._position = 0
        self._packed: PackedInstance | None
        self._listed: bytes | None
        self._begin()

    def take(self, chunk: bytes) -> None:
        """The next bytes of the pack."""
        view = memoryview(chunk)
        after = self._position + len(view)
        while self._packed is not None and self._packed.offset <= after:
            start, end = self._packed.offset, self._packed.offset + self._packed.length
            piece = view[max(start - self._position, 0) : end - self._position]
            self._digest.update(piece)
            self._sha256.update(piece)
            if end > after:
                break
            self._end(self._packed)
        self._position = after

    def missing(self) -> list[str]:
        """Those that have not come to their end."""
        left = [packed.sop_uid for packed, _ in self._expected]
        return left if self._packed is None else [self._packed.sop_uid, *left]

    def _begin(self) -> None:
        self._packed, self._listed = next(self._expected, (None, None))
        if self._packed is not None:
            self._digest = InstanceDigest(self._packed.transfer_syntax, self._packed.header_length)
            self._sha256 = sha256()

    def _end(self, packed: PackedInstance) -> None:
        self.sha256s.append(self._sha256.digest())
        if self._listed not in (None, self.sha256s[-1]) or self._digest.digest() != packed.digest:
            self.wrong.append(packed.sop_uid)
        self._begin()
