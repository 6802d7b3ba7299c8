"""`metadata.json.gz`: the DICOM JSON of a pack's instances, a JSON array with one instance a line (PS3.18 F.2)."""

import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

FULL_BYTES = 32 << 20  # of JSON: no more is added to a pack, so that it can be held in memory when it is read
MAX_BYTES = 256 << 20  # of JSON that is read: as much, and one more instance, however large its metadata
_IN_MEMORY_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 20
_LEVEL = 6
_GZIP = 16 + zlib.MAX_WBITS
_FIRST, _BETWEEN, _LAST = b"[\n", b",\n", b"\n]\n"


class MetadataWriter:
    """Compresses documents as they come, into memory and then a nameless file in `folder`. Close it."""

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115
        self._deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._next = _FIRST
        self.json_length = 0
        self.length = 0
        self.crc = 0

    def add(self, document: bytes) -> None:
        """Add the DICOM JSON of one instance, which is one line."""
        if b"\n" in document:
            raise ValueError("the metadata of an instance must be one line")
        self._write(self._next + document)
        self._next = _BETWEEN

    def finish(self) -> None:
        """End the array; `length` and `crc` of what `chunks` gives are known from now on."""
        self._write(_LAST)
        self._keep(self._deflater.flush())

    def chunks(self) -> Iterator[bytes]:
        """The compressed bytes."""
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            yield chunk

    def close(self) -> None:
        """Release what is held."""
        self._file.close()

    def _write(self, text: bytes) -> None:
        self.json_length += len(text)
        self._keep(self._deflater.compress(text))

    def _keep(self, compressed: bytes) -> None:
        self._file.write(compressed)
        self.length += len(compressed)
        self.crc = zlib.crc32(compressed, self.crc)


def documents_of(compressed: bytes, max_bytes: int = MAX_BYTES) -> list[bytes]:
    """The DICOM JSON of each instance. Raises ValueError for what is no such array or inflates to more than allowed."""
    inflater = zlib.decompressobj(_GZIP)
    try:
        text = inflater.decompress(compressed, max_bytes + 1)
    except zlib.error as error:
        raise ValueError("the metadata does not inflate") from error
    if len(text) > max_bytes:
        raise ValueError(f"the metadata inflates to more than {max_bytes} bytes")
    if not inflater.eof or inflater.unused_data:
        raise ValueError("the metadata is cut short, or something follows it")
    if not text.startswith(_FIRST) or not text.endswith(_LAST):
        raise ValueError("the metadata is not one instance a line")
    documents = text.split(_BETWEEN)  # and not of a slice, which would hold all of it once more
    documents[0] = documents[0][len(_FIRST) :]
    documents[-1] = documents[-1][: -len(_LAST)]
    return documents
