"""Reads what a pack holds from its last bytes, trusting nothing that they say before it is checked."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3

from storage.dicom.frames import Span
from storage.errors import Fault, Invalid
from storage.objects import Location, ObjectMeta, ObjectStore, keys
from storage.packs import BLOCK_BYTES, BLOCK_DIGEST_BYTES, Blocks, Damaged, Pack, manifest, zipformat
from storage.packs.manifest import Listed
from storage.packs.metadata import documents_of
from storage.packs.zipformat import Entry

TAIL_BYTES = 512 << 10  # read at once, and what lies before them in the same block
MAX_TAIL_BYTES = 512 << 20  # of directory, manifest and metadata together, which are held in memory
_LOCAL_BYTES = 30  # of a local header, before the name
_MAX_EXTRA_BYTES = 20  # in a local header


@dataclass(frozen=True, slots=True)
class Manifest:
    """A pack as its own manifest tells: instances without `attributes`, the SHA-256 of each, the root of all, and what
    each is called in the ZIP.
    """

    pack: Pack
    sha256s: tuple[bytes, ...]
    merkle_root: bytes
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recovered:
    """A pack with all that the index needs: `documents[i]` is the DICOM JSON of `pack.instances[i]`."""

    pack: Pack
    documents: list[bytes]
    sha256s: tuple[bytes, ...]
    merkle_root: bytes


class _Tail:
    """The last bytes of an object: as many as were asked for so far."""

    def __init__(self, store: ObjectStore, meta: ObjectMeta) -> None:
        self._store = store
        self._meta = meta
        self.start = meta.length
        self.data = b""
        self.reach(meta.length - TAIL_BYTES)

    def reach(self, offset: int) -> None:
        """Read on backwards until `offset` and the block that it lies in are there."""
        start = max(offset, 0) // BLOCK_BYTES * BLOCK_BYTES
        if start >= self.start:
            return
        if self._meta.length - start > MAX_TAIL_BYTES:
            raise ValueError("directory, manifest and metadata are larger than a pack's can be")
        with self._store.get(self._meta.key, (start, self.start - start)) as body:
            self.data = body.read() + self.data
        self.start = start

    def span(self, offset: int, length: int) -> memoryview:
        """Bytes that were reached."""
        if offset < self.start or length < 0 or offset + length > self._meta.length:
            raise ValueError("an entry lies outside the object")
        return memoryview(self.data)[offset - self.start : offset - self.start + length]


def read_manifest(store: ObjectStore, meta: ObjectMeta, store_name: str, *, sealed: bool = True) -> Manifest:
    """What the pack `meta` of the object store `store`, which is called `store_name`, says that it holds.

    At most three requests, mostly one. Manifest, directory and their own digest are verified, the instances are not.
    Unless it must be `sealed` that digest need not fit, as that of a small pack covers instances too: then believe
    nothing that nothing else confirms. Raises Damaged, NotFound, Unavailable.
    """
    try:
        found, _ = _read(store, meta, store_name, None, sealed=sealed)
    except (ValueError, Invalid) as error:
        raise Damaged(f"the pack is damaged: {error}", key=meta.key) from error
    return found


def recover(
    store: ObjectStore, meta: ObjectMeta, store_name: str, attributes_of: Callable[[bytes], bytes]
) -> Recovered:
    """As `read_manifest`, with the metadata; `attributes_of` makes `PackedInstance.attributes` from DICOM JSON."""
    try:
        found, documents = _read(store, meta, store_name, attributes_of)
    except (ValueError, Invalid) as error:
        raise Damaged(f"the pack is damaged: {error}", key=meta.key) from error
    return Recovered(found.pack, documents, found.sha256s, found.merkle_root)


def _read(
    store: ObjectStore,
    meta: ObjectMeta,
    store_name: str,
    attributes_of: Callable[[bytes], bytes] | None,
    *,
    sealed: bool = True,
) -> tuple[Manifest, list[bytes]]:
    tail = _Tail(store, meta)
    end = zipformat.read_end(tail.data, tail.start)
    tail.reach(end.offset)
    entries = zipformat.read_directory(tail.span(end.offset, end.length), end.entries)
    if [entry.name for entry in entries[-2:]] != [manifest.METADATA_NAME, manifest.NAME]:
        raise ValueError("there is no manifest behind the metadata")
    last = entries[-1].offset
    tail.reach(last if attributes_of is None else min(last, entries[-2].offset))
    if sealed:
        _check_seal(tail, last, end.comment)
    documents: list[bytes] = []
    attributes = None
    if attributes_of is not None:
        documents = documents_of(_entry(tail, entries[-2]))
        attributes = [attributes_of(document) for document in documents]
    listed = manifest.from_json(_entry(tail, entries[-1]), attributes)
    _check_entries(listed, entries)
    _check_key(meta.key, listed)
    pack = Pack(
        listed.pack_id,
        listed.study_uid,
        listed.series_uid,
        Location(store_name, meta.key, 0, meta.length),
        listed.metadata,
        Blocks(meta.length, listed.blocks + _last_blocks(tail, len(listed.blocks) // BLOCK_DIGEST_BYTES, last)),
        listed.instances,
    )
    names = tuple(entry.name for entry in entries[:-2])
    return Manifest(pack, listed.sha256s, listed.merkle_root, names), documents


def _check_seal(tail: _Tail, manifest_offset: int, comment: bytes) -> None:
    """The comment of the archive is the digest of all that the manifest has no digest of, itself included."""
    start = manifest_offset // BLOCK_BYTES * BLOCK_BYTES
    sealed_from = start - tail.start
    sealed = memoryview(tail.data)[sealed_from : -zipformat.COMMENT_BYTES]
    if sealed_from < 0 or blake3(sealed).hexdigest().encode("ascii") != comment:
        raise ValueError(f"{'the digest of its last bytes' if start else 'its digest'} does not fit")


def _last_blocks(tail: _Tail, known: int, manifest_offset: int) -> bytes:
    """The digests of the blocks that the manifest could not name."""
    if known != manifest_offset // BLOCK_BYTES:
        raise ValueError("the manifest has not the digests of all blocks before it")
    view = memoryview(tail.data)[known * BLOCK_BYTES - tail.start :]
    return b"".join(
        blake3(view[offset : offset + BLOCK_BYTES]).digest(BLOCK_DIGEST_BYTES)
        for offset in range(0, len(view), BLOCK_BYTES)
    )


def _entry(tail: _Tail, entry: Entry) -> bytes:
    """The bytes of an entry that was reached, of the right CRC-32."""
    header = tail.span(entry.offset, _LOCAL_BYTES + len(entry.name))
    data = bytes(tail.span(zipformat.data_offset(header, entry), entry.length))
    if zlib.crc32(data) != entry.crc:
        raise ValueError(f"{entry.name} is not what was written")
    return data


def _check_entries(listed: Listed, entries: list[Entry]) -> None:
    """Manifest and directory must speak of the same bytes."""
    if len(entries) != len(listed.instances) + 2:
        raise ValueError("directory and manifest do not list as many instances")
    for entry, packed in zip(entries[:-2], listed.instances, strict=True):
        if entry.name not in manifest.names(packed) or not _fits(entry, Span(packed.offset, packed.length)):
            raise ValueError("directory and manifest do not agree where the instances lie")
    if not _fits(entries[-2], listed.metadata):
        raise ValueError("directory and manifest do not agree where the metadata lies")


def _fits(entry: Entry, span: Span) -> bool:
    header = span.offset - entry.offset - _LOCAL_BYTES - len(entry.name)
    return header in (0, _MAX_EXTRA_BYTES) and entry.length == span.length


def _check_key(key: str, listed: Listed) -> None:
    custodian = key.split("/")[1:2]
    if not custodian or key != keys.pack(listed.study_uid, listed.series_uid, listed.pack_id, custodian[0]):
        raise Invalid(Fault.MISMATCH, "it does not lie under the name that its manifest tells")
