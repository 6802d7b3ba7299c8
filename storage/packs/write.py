"""Writes a pack into a local file, in one pass over what it is given and with flat memory.

The same instances make the same bytes, whenever and wherever they are written, but for the random part of the name,
which is in the manifest.
"""

import errno
import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from storage.dicom.digest import InstanceDigest
from storage.dicom.frames import Span
from storage.errors import Exhausted, StorageError
from storage.objects import Buffer, Location, keys
from storage.objects.disk_errors import translated
from storage.packs import BLOCK_BYTES, BLOCK_DIGEST_BYTES, Blocks, Damaged, Pack, PackedInstance, manifest, zipformat
from storage.packs.manifest import Listed
from storage.packs.metadata import FULL_BYTES as FULL_METADATA_BYTES
from storage.packs.metadata import MetadataWriter
from storage.packs.zipformat import Entry

_FULL_MANIFEST_BYTES = 64 << 20
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """A finished pack in the file `path`: what to tell the index, and the SHA-256 of the whole object."""

    pack: Pack
    path: Path
    sha256: bytes


def place(packed: PackedInstance) -> tuple[bool, int, str, int]:
    """What the instances of a pack are sorted by: instance number (those without last), SOP Instance UID, revision."""
    number = packed.instance_number
    return number is None, number or 0, packed.sop_uid, packed.revision


class PackWriter:
    """A pack in the making, in the file `path`, which is gone when the writer is left before `finish`.

    `store` is the name of the object store that it is meant for. `large` is where ZIP64 begins (to be tested small).
    Use as a context manager. Raises Exhausted when the disk is full, Unavailable when it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        study_uid: str,
        series_uid: str,
        store: str,
        custodian: str = "local",
        large: int = zipformat.LARGE,
    ) -> None:
        self._path = path
        self._study_uid = study_uid
        self._series_uid = series_uid
        self._store = store
        self._custodian = custodian
        self._large = large
        self._entries: list[Entry] = []
        self._names: set[str] = set()
        self._instances: list[PackedInstance] = []
        self._sha256s: list[bytes] = []
        self._lines: list[bytes] = []
        self._lines_bytes = 0
        self._blocks = bytearray()
        self._whole = sha256()
        self._position = 0
        self._finished = False
        with translated("write"):
            self._file = open(path, "w+b", buffering=_BUFFER_BYTES)  # noqa: SIM115
            self._metadata = MetadataWriter(path.parent)

    @property
    def length(self) -> int:
        """Bytes so far, without metadata and manifest."""
        return self._position

    @property
    def full(self) -> bool:
        """Whether nothing more should be added, whatever its size: metadata or manifest have become large."""
        return self._metadata.json_length >= FULL_METADATA_BYTES or self._lines_bytes >= _FULL_MANIFEST_BYTES

    def add(
        self,
        packed: PackedInstance,
        metadata: bytes,
        chunks: Iterable[Buffer],
        *,
        header_digest: bytes | None = None,
        superseded: bool = False,
    ) -> None:
        """Add one instance with its DICOM JSON, in the order of `place`; `packed.offset` is replaced.

        `superseded` says that there is a higher revision, here (wherever in the order) or elsewhere. Raises Damaged
        when the bytes are not those that `packed` describes, or what lies before the data set is not that of
        `header_digest` (None: `chunks` verifies it); Exhausted when the pack is `full`, ValueError when the order is
        another. After Damaged, and what `chunks` raised, it was not added and others may be; after any other error the
        writer is not to be used any more.
        """
        if self.full:
            raise Exhausted("the pack is full")
        if self._instances and place(self._instances[-1]) >= place(packed):
            raise ValueError("the instances of a pack are added in their order, each once")
        with translated("write"):
            name = self._name(packed, superseded)
            start = self._position
            try:
                self._add(packed, name, chunks, header_digest)
            except StorageError:
                self._take_back(start)
                raise
            self._names |= {name, manifest.names(packed)[1]}
            self._metadata.add(metadata)
            self._settle()

    def _take_back(self, start: int) -> None:
        """Forget what was written from `start`, of which no digest knows yet."""
        self._file.seek(start)
        self._file.truncate(start)
        self._position = start

    def _name(self, packed: PackedInstance, superseded: bool) -> str:
        served, other = manifest.names(packed)
        if other in self._names:
            raise ValueError("a version of an instance is added once")
        return other if superseded or served in self._names else served

    def _add(self, packed: PackedInstance, name: str, chunks: Iterable[Buffer], header_digest: bytes | None) -> None:
        """The header is written twice, as only the bytes that follow tell their CRC-32."""
        entry = Entry(name, 0, packed.length, self._position)
        self._write(zipformat.local_header(entry, self._large))
        packed = replace(packed, offset=self._position)
        digest, whole, left = InstanceDigest(packed.transfer_syntax, packed.header_length), sha256(), packed.length
        crc = 0
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                break
            crc = zlib.crc32(chunk, crc)
            whole.update(chunk)
            digest.update(chunk)
            self._write(chunk)
        if left or not digest.fits(packed.digest, header_digest):
            raise Damaged("the bytes of an instance are not those that were stored", key=name)
        entry = entry._replace(crc=crc)
        offset, field = zipformat.crc_field(entry)
        self._file.seek(offset)
        self._file.write(field)
        self._file.seek(self._position)
        self._entries.append(entry)
        self._keep(packed, whole.digest())

    def _keep(self, packed: PackedInstance, digest: bytes) -> None:
        line = manifest.instance_line(packed, digest)
        self._instances.append(packed)
        self._sha256s.append(digest)
        self._lines.append(line)
        self._lines_bytes += len(line)

    def finish(self) -> Written:
        """Write metadata, manifest and directory, and flush the file to the disk; it belongs to the caller now."""
        if not self._instances:
            raise ValueError("a pack holds at least one instance")
        pack_id = manifest.new_pack_id(self._instances)
        key = keys.pack(self._study_uid, self._series_uid, pack_id, self._custodian)
        with translated("write"):
            metadata = self._write_metadata()
            blocks_before = bytes(self._blocks)
            self._write_manifest(pack_id, metadata, blocks_before)
            self._write_directory(len(blocks_before) // BLOCK_DIGEST_BYTES * BLOCK_BYTES)
            self._settle(last=True)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._finished = True
            self.close()
        return Written(
            Pack(
                pack_id,
                self._study_uid,
                self._series_uid,
                Location(self._store, key, 0, self._position),
                metadata,
                Blocks(self._position, bytes(self._blocks)),
                tuple(self._instances),
            ),
            self._path,
            self._whole.digest(),
        )

    def _write_metadata(self) -> Span:
        self._metadata.finish()
        found = self._metadata
        span = self._write_entry(manifest.METADATA_NAME, found.crc, found.length, found.chunks())
        self._settle()
        return span

    def _write_manifest(self, pack_id: str, metadata: Span, blocks: bytes) -> None:
        listed = Listed(
            pack_id=pack_id,
            study_uid=self._study_uid,
            series_uid=self._series_uid,
            merkle_root=manifest.merkle_root(self._sha256s),
            metadata=metadata,
            blocks=blocks,
            instances=tuple(self._instances),
            sha256s=tuple(self._sha256s),
        )
        data = manifest.to_json(listed, self._lines)
        self._write_entry(manifest.NAME, zlib.crc32(data), len(data), (data,))

    def _write_entry(self, name: str, crc: int, length: int, chunks: Iterable[bytes]) -> Span:
        entry = Entry(name, crc, length, self._position)
        self._write(zipformat.local_header(entry, self._large))
        span = Span(self._position, length)
        for chunk in chunks:
            self._write(chunk)
        self._entries.append(entry)
        return span

    def _write_directory(self, sealed_from: int) -> None:
        """The directory, and as comment the digest of all from `sealed_from` to it, which the manifest cannot tell."""
        offset = self._position
        for record in zipformat.directory(self._entries, self._large):
            self._write(record)
        comment = bytes(zipformat.COMMENT_BYTES)
        found = zipformat.End(offset, self._position - offset, len(self._entries), comment)
        self._write(zipformat.end(found, self._large))
        self._file.flush()
        tail = blake3()
        for chunk in self._chunks(sealed_from, self._position):
            tail.update(chunk)
        self._write(tail.hexdigest().encode("ascii"))

    def _write(self, data: Buffer) -> None:
        self._file.write(data)
        self._position += len(data)

    def _settle(self, *, last: bool = False) -> None:
        """Take the whole blocks that are final now (and the `last` one) into the digests, from the page cache."""
        start = len(self._blocks) // BLOCK_DIGEST_BYTES * BLOCK_BYTES
        end = self._position if last else self._position - self._position % BLOCK_BYTES
        if end > start:
            self._file.flush()
        for block in self._chunks(start, end):
            self._whole.update(block)
            self._blocks += blake3(block).digest(BLOCK_DIGEST_BYTES)

    def _chunks(self, start: int, end: int) -> Iterable[bytes]:
        """What was written from `start`, the beginning of a block, to `end`, block by block."""
        for offset in range(start, end, BLOCK_BYTES):
            yield _pread(self._file.fileno(), offset, min(BLOCK_BYTES, end - offset))

    def close(self) -> None:
        """Release everything; an unfinished file is removed."""
        for file in (self._metadata, self._file):
            with suppress(OSError):  # what found no room before finds none now; what is finished was flushed
                file.close()
        if not self._finished:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _pread(file: int, offset: int, length: int) -> bytes:
    data = os.pread(file, length, offset)
    while len(data) < length:
        more = os.pread(file, length - len(data), offset + len(data))
        if not more:
            raise OSError(errno.EIO, "the file has become shorter while it was written")
        data += more
    return data
