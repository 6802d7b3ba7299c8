"""Generated instances for packs, and packs of them."""

import random
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from storage.dicom.digest import HEADER_DIGEST_BYTES, InstanceDigest
from storage.dicom.frames import FrameTable, Span
from storage.dicom.instance import BulkValue
from storage.objects import Body, ObjectStore
from storage.objects.memory import MemoryStore
from storage.packs import BLOCK_BYTES, BLOCK_DIGEST_BYTES, PackedInstance
from storage.packs.stream import SpanBody
from storage.packs.write import PackWriter, Written, place

STUDY, SERIES = "2.25.71", "2.25.71.5"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
HEADER_BYTES = 144


class Generated(NamedTuple):
    """An instance whose bytes are no DICOM, as packs do not look at them."""

    packed: PackedInstance
    metadata: bytes
    data: bytes

    @property
    def header_digest(self) -> bytes:
        """Of what lies before the data set."""
        return blake3(self.data[: self.packed.header_length]).digest(HEADER_DIGEST_BYTES)


def generated(number: int | None, length: int = 3000, *, uid: int = 0, revision: int = 1, seed: int = 0) -> Generated:
    """An instance of so many bytes, which differ with every argument."""
    data = random.Random(f"{number}/{uid}/{revision}/{seed}").randbytes(length)
    sop_uid = f"{SERIES}.{uid or number or 0}"
    header_length = min(HEADER_BYTES, length)
    digest = InstanceDigest(EXPLICIT_LITTLE, header_length)
    digest.update(data)
    packed = PackedInstance(
        sop_uid=sop_uid,
        sop_class=CT,
        instance_number=number,
        transfer_syntax=EXPLICIT_LITTLE,
        offset=0,
        length=length,
        header_length=header_length,
        digest=digest.digest(),
        revision=revision,
        received_at=1_770_000_000_000_000 + (number or 0),
        source="dimse:CT1",
        repair="ISO_IR 100 read as GB18030" if number == 2 else None,
        attributes=attributes_of(_metadata(sop_uid, revision)),
        frames=FrameTable.native(16, 8 * 512, 3) if number != 3 else FrameTable.fragments([Span(8, 100), Span(120, 7)]),
        bulk={"7FE00010": BulkValue("OW", (Span(16, 512 * 3),))} if number != 4 else {},
    )
    return Generated(packed, _metadata(sop_uid, revision), data)


def _metadata(sop_uid: str, revision: int) -> bytes:
    return f'{{"00080018":{{"vr":"UI","Value":["{sop_uid}"]}},"00280002":{{"vr":"US","Value":[{revision}]}}}}'.encode()


def attributes_of(metadata: bytes) -> bytes:
    """Something that is made of the metadata and of nothing else."""
    return metadata[:40]


def chunked(data: bytes, size: int = 1000) -> list[bytes]:
    """`data` in pieces, as a Body gives it."""
    return [data[offset : offset + size] for offset in range(0, len(data), size)]


def write(path: Path, instances: Sequence[Generated], **options: int) -> Written:
    """The pack of these instances in the file `path`."""
    ordered = sorted(instances, key=lambda one: place(one.packed))
    highest = {one.packed.sop_uid: 0 for one in ordered}
    for one in ordered:
        highest[one.packed.sop_uid] = max(highest[one.packed.sop_uid], one.packed.revision)
    with PackWriter(path, study_uid=STUDY, series_uid=SERIES, store="archive", **options) as writer:
        for packed, metadata, data in ordered:
            writer.add(packed, metadata, chunked(data), superseded=packed.revision < highest[packed.sop_uid])
        return writer.finish()


def put(store: ObjectStore, path: Path, instances: Sequence[Generated], **options: int) -> Written:
    """The pack of these instances in `store`."""
    written = write(path, instances, **options)
    store.put(written.pack.location.key, path)
    return written


def repeated(number: int, piece: bytes, times: int) -> Generated:
    """An instance of `piece` so many times over, of which `data` is empty: it is too long."""
    one = generated(number, 1)
    digest = InstanceDigest(EXPLICIT_LITTLE)
    for _ in range(times):
        digest.update(piece)
    packed = replace(one.packed, length=len(piece) * times, header_length=0, digest=digest.digest())
    return Generated(packed, one.metadata, b"")


class RecordingStore(MemoryStore):
    """Remembers which spans were got, and flips the first byte of blocks, each so many times as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[tuple[int, int] | None] = []
        self.flips: dict[int, int] = {}
        self._recording = threading.Lock()

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        with super().get(key, span) as body:
            data = bytearray(body.read())
        with self._recording:
            self.spans.append(span)
            for block, times in self.flips.items():
                at = block * BLOCK_BYTES - (span[0] if span else 0)
                if times and 0 <= at < len(data):
                    data[at] ^= 1
                    self.flips[block] -= 1
        return SpanBody([bytes(data)], len(data))


class HeldStore(RecordingStore):
    """Gives nothing before it is told to `go_on`; `begun` says that somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        self.begun.set()
        assert self.go_on.wait(60)
        return super().get(key, span)


def blake(block: bytes) -> bytes:
    """The digest of a block."""
    return blake3(block).digest(BLOCK_DIGEST_BYTES)
