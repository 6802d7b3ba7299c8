"""An instance as received, parsed once: everything that later answers need, without decoding a pixel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.dicom.frames import FrameTable, Span
from storage.dicom.identity import Identity

# The DICOM JSON Model (PS3.18 Annex F): {"00100010": {"vr": "PN", "Value": [...]}, ...}
JsonDataset = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BulkValue:
    """A value that the metadata names by BulkDataURI only: where its bytes lie (several spans for fragments)."""

    vr: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Instance:
    """One parsed instance.

    The stored object is `preface` + the bytes as received; the data set begins `header_length` bytes into it.
    All spans (frames, bulk) count from the first byte of the data set; for a deflated transfer syntax, from the
    first byte of the inflated data set.
    """

    identity: Identity
    transfer_syntax: str
    preface: bytes  # empty when the bytes were a whole Part 10 file; else the preamble and file meta they lacked
    header_length: int
    digest: bytes  # BLAKE3, 32 bytes, over the transfer syntax UID (ASCII) and the data set as received
    header_digest: bytes  # BLAKE3, 16 bytes, over the first `header_length` bytes of the stored object
    dataset: JsonDataset  # the DICOM JSON Model without group 0002, ascending tags
    metadata: bytes  # the same, encoded; each bulk value as "BulkDataURI":"bulkdata/{path}", relative to the instance
    frames: FrameTable
    bulk: Mapping[str, BulkValue]  # path -> value; a path is TAG, or TAG/item/TAG... with items counted from 1
    repair: str | None  # how a wrongly declared character set was read, e.g. "ISO_IR 100 read as GB18030"
    warnings: tuple[str, ...]  # oddities that did not prevent storing, without patient data
