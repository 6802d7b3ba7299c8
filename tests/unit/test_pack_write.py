import gzip
import json
import os
import resource
import secrets
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from blake3 import blake3

from storage.dicom.parse import parse
from storage.errors import Exhausted, Unavailable
from storage.objects import keys
from storage.objects.disk import DiskStore
from storage.objects.memory import MemoryStore
from storage.packs import BLOCK_BYTES, BLOCK_DIGEST_BYTES, Damaged, manifest, write
from storage.packs.blocks import BlockReader
from storage.packs.read import read_manifest, recover
from storage.packs.verify import verify_object, verify_pack
from storage.packs.write import PackWriter
from tests import packed as samples
from tests.packed import SERIES, STUDY, attributes_of, chunked, generated
from tests.samples import ct, part10

FEW = [generated(number) for number in (1, 2, 3, 4)]


def writer(path: Path) -> PackWriter:
    return PackWriter(path, study_uid=STUDY, series_uid=SERIES, store="archive")


def test_a_pack_is_a_zip_of_its_instances_metadata_and_manifest(tmp_path: Path) -> None:
    written = samples.write(tmp_path / "pack.zip", FEW)
    with zipfile.ZipFile(written.path) as archive:
        assert archive.testzip() is None
        names = [f"{one.packed.sop_uid}.dcm" for one in FEW]
        assert archive.namelist() == [*names, "metadata.json.gz", "manifest.json"]
        assert [archive.read(name) for name in names] == [one.data for one in FEW]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        listed = json.loads(archive.read("manifest.json"))
    assert [item["sop_uid"] for item in listed["instances"]] == [one.packed.sop_uid for one in FEW]
    assert [item["sha256"] for item in listed["instances"]] == [sha256(one.data).hexdigest() for one in FEW]


def test_metadata_is_a_gzipped_json_array(tmp_path: Path) -> None:
    written = samples.write(tmp_path / "pack.zip", FEW)
    with zipfile.ZipFile(written.path) as archive:
        text = gzip.decompress(archive.read("metadata.json.gz"))
    assert json.loads(text) == [json.loads(one.metadata) for one in FEW]


@pytest.mark.parametrize("large", [0xFFFFFFFF, 2000, 100])
def test_the_tools_that_everybody_has_open_a_pack(tmp_path: Path, large: int) -> None:
    instances = [generated(number, 1500 * number) for number in (1, 2, 3)]
    written = samples.write(tmp_path / "pack.zip", instances, large=large)
    subprocess.run([sys.executable, "-m", "zipfile", "-t", written.path], check=True, capture_output=True)
    for command in (["unzip", "-tqq"], ["7z", "t"]):
        if shutil.which(command[0]):
            subprocess.run([*command, written.path], check=True, capture_output=True)


def test_offsets_name_the_bytes_in_the_object(tmp_path: Path) -> None:
    written = samples.write(tmp_path / "pack.zip", FEW)
    data = written.path.read_bytes()
    for packed, one in zip(written.pack.instances, FEW, strict=True):
        assert data[packed.offset : packed.offset + packed.length] == one.data
        assert packed == replace(one.packed, offset=packed.offset)
    offset, length = written.pack.metadata
    assert data[offset : offset + 2] == b"\x1f\x8b"
    assert len(data) == written.pack.location.length == written.pack.blocks.length
    assert length < len(data)


def test_blocks_and_digest_are_those_of_the_object(tmp_path: Path) -> None:
    written = samples.write(tmp_path / "pack.zip", [generated(number, 700_000) for number in range(1, 6)])
    data = written.path.read_bytes()
    blocks = [data[offset : offset + BLOCK_BYTES] for offset in range(0, len(data), BLOCK_BYTES)]
    assert len(blocks) == 4
    assert written.pack.blocks.digests == b"".join(blake3(block).digest(BLOCK_DIGEST_BYTES) for block in blocks)
    assert written.sha256 == sha256(data).digest()


def test_the_same_instances_make_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda count: "5a" * count)
    first = samples.write(tmp_path / "first.zip", FEW)
    os.utime(tmp_path, (0, 0))
    second = samples.write(tmp_path / "second.zip", FEW)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.pack == second.pack
    assert samples.write(tmp_path / "third.zip", FEW[:3]).pack.pack_id != first.pack.pack_id


def test_no_pack_has_the_key_of_another(tmp_path: Path) -> None:
    first, second = (samples.write(tmp_path / name, FEW).pack for name in ("first.zip", "second.zip"))
    assert first.location.key != second.location.key and first.instances == second.instances
    assert first.pack_id.partition("-")[0] == second.pack_id.partition("-")[0], "a digest of what is in it"
    assert [keys.series_of_pack(pack.location.key) for pack in (first, second)] == [(STUDY, SERIES)] * 2


def test_what_is_damaged_is_taken_back_and_the_pack_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda count: "5a" * count)
    good = [generated(number, (2 << 20) + number) for number in (1, 3)]
    bad = generated(2, 3 << 20)
    with writer(tmp_path / "one.zip") as pack:
        for packed, metadata, data in (good[0], bad, good[1]):
            if packed == bad.packed:
                with pytest.raises(Damaged):
                    pack.add(packed, metadata, [data[:-1], b"?"])
            else:
                pack.add(packed, metadata, [data])
        written = pack.finish()
    expected = samples.write(tmp_path / "other.zip", good)
    assert written.path.read_bytes() == expected.path.read_bytes()
    assert (written.pack, written.sha256) == (expected.pack, expected.sha256)


def test_a_superseded_version_is_named_with_its_revision(tmp_path: Path) -> None:
    versions = [generated(1, revision=revision) for revision in (1, 2, 3)]
    written = samples.write(tmp_path / "pack.zip", versions)
    uid = versions[0].packed.sop_uid
    with zipfile.ZipFile(written.path) as archive:
        assert archive.namelist()[:3] == [f"{uid}.v1.dcm", f"{uid}.v2.dcm", f"{uid}.dcm"]


def test_names_differ_even_when_nobody_says_what_is_superseded(tmp_path: Path) -> None:
    with writer(tmp_path / "pack.zip") as pack:
        for packed, metadata, data in [generated(1, revision=revision) for revision in (1, 2)]:
            pack.add(packed, metadata, [data])
        written = pack.finish()
    with zipfile.ZipFile(written.path) as archive:
        assert len(set(archive.namelist())) == 4


def test_a_version_is_no_other_instance_whose_uid_is_longer(tmp_path: Path) -> None:
    """UID x in version 2, which is superseded, and UID x.2."""
    versions = [generated(1, uid=7, revision=revision) for revision in (1, 2, 3)]
    longer = generated(2)
    longer = longer._replace(packed=replace(longer.packed, sop_uid=f"{versions[0].packed.sop_uid}.2"))
    written = samples.write(tmp_path / "pack.zip", [*versions, longer])
    with zipfile.ZipFile(written.path) as archive:
        assert len(set(archive.namelist())) == 6


def test_a_version_is_added_once_whatever_its_number(tmp_path: Path) -> None:
    with writer(tmp_path / "pack.zip") as pack:
        one, again = (generated(number, uid=7) for number in (1, 2))
        pack.add(one.packed, one.metadata, [one.data])
        with pytest.raises(ValueError, match="once"):
            pack.add(again.packed, again.metadata, [again.data])


def test_a_parsed_instance_is_packed_with_the_digest_it_was_stored_by(tmp_path: Path) -> None:
    data = part10(ct())
    instance = parse(data)
    packed = replace(
        FEW[0].packed,
        sop_uid=instance.identity.sop_uid,
        length=len(data),
        header_length=instance.header_length,
        digest=instance.digest,
        frames=instance.frames,
        bulk=instance.bulk,
    )
    with writer(tmp_path / "pack.zip") as pack:
        pack.add(packed, instance.metadata, chunked(data, 100))
        written = pack.finish()
    store = MemoryStore()
    meta = store.put(written.pack.location.key, written.path)
    assert recover(store, meta, "archive", attributes_of).documents == [instance.metadata]


@pytest.mark.parametrize("change", ["flipped", "flipped header", "shorter", "longer"])
def test_bytes_that_are_not_those_that_were_stored_are_not_packed(tmp_path: Path, change: str) -> None:
    packed, metadata, data = FEW[0]
    wrong = {
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "flipped header": bytes([data[0] ^ 1]) + data[1:],
        "shorter": data[:-1],
        "longer": data + b"x",
    }[change]
    path = tmp_path / "pack.zip"
    with pytest.raises(Damaged) as caught, writer(path) as pack:
        pack.add(packed, metadata, chunked(wrong), header_digest=FEW[0].header_digest)
    assert caught.value.key == f"{packed.sop_uid}.dcm"
    assert list(tmp_path.iterdir()) == []


def test_what_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    with writer(tmp_path / "pack.zip") as pack:
        pack.add(*FEW[0][:2], [FEW[0].data])
    assert list(tmp_path.iterdir()) == []


def test_instances_are_added_in_their_order(tmp_path: Path) -> None:
    with writer(tmp_path / "pack.zip") as pack:
        pack.add(FEW[1].packed, FEW[1].metadata, [FEW[1].data])
        for one in (FEW[0], FEW[1]):
            with pytest.raises(ValueError, match="order"):
                pack.add(one.packed, one.metadata, [one.data])


def test_a_pack_of_nothing_is_not_made(tmp_path: Path) -> None:
    with writer(tmp_path / "pack.zip") as pack, pytest.raises(ValueError, match="at least one"):
        pack.finish()


def test_metadata_of_several_lines_is_refused(tmp_path: Path) -> None:
    with writer(tmp_path / "pack.zip") as pack, pytest.raises(ValueError, match="one line"):
        pack.add(FEW[0].packed, b"{\n}", [FEW[0].data])


def test_nothing_is_added_to_a_pack_whose_metadata_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "FULL_METADATA_BYTES", 100)
    with writer(tmp_path / "pack.zip") as pack:
        assert not pack.full
        pack.add(FEW[0].packed, FEW[0].metadata + b" " * 100, [FEW[0].data])
        assert pack.full
        with pytest.raises(Exhausted):
            pack.add(FEW[1].packed, FEW[1].metadata, [FEW[1].data])


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        writer(tmp_path / "none" / "pack.zip")


def test_a_disk_that_is_full_is_exhausted_and_nothing_is_left(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(Exhausted), writer(tmp_path / "pack.zip") as pack:
            pack.add(FEW[0].packed, FEW[0].metadata, [FEW[0].data])
            pack.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_the_merkle_root_is_that_of_the_certificate_logs() -> None:
    """Values worked out by the definition of RFC 6962 2.1: split at the largest power of two below the count."""

    def root(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return sha256(b"\0" + leaves[0]).digest()
        split = 1 << (len(leaves) - 1).bit_length() - 1
        return sha256(b"\1" + root(leaves[:split]) + root(leaves[split:])).digest()

    leaves = [sha256(bytes([number])).digest() for number in range(20)]
    for count in range(1, 21):
        assert manifest.merkle_root(leaves[:count]) == root(leaves[:count])
    assert manifest.merkle_root([]) == sha256().digest()


def test_memory_does_not_grow_with_an_instance(tmp_path: Path) -> None:
    """64 MiB written, recovered, verified and read in less than 8 MiB."""
    piece = bytes(range(256)) * 4096
    large = samples.repeated(1, piece, 64)
    store = DiskStore(tmp_path / "objects")
    tracemalloc.start()
    try:
        with writer(tmp_path / "pack.zip") as pack:
            pack.add(large.packed, large.metadata, (piece for _ in range(64)))
            written = pack.finish()
        location = written.pack.location
        meta = store.put(location.key, written.path)
        verify_object(store, location.key, location.length, written.sha256)
        assert verify_pack(store, read_manifest(store, meta, "archive")) == []
        [packed] = written.pack.instances
        span = (packed.offset, packed.length)
        for body in (
            BlockReader(store).run(location.key, written.pack.blocks, [span]).get(location.key, span),
            BlockReader(store).get(location.key, span, written.pack.blocks),
        ):
            assert sum(map(len, body.chunks())) == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_pack_of_more_than_four_gibibytes(tmp_path: Path) -> None:
    """One instance behind the first 4 GiB, and one of more than 4 GiB."""
    piece = bytes(range(256)) * 4096
    huge = samples.repeated(1, piece, 4097)
    with writer(tmp_path / "pack.zip") as pack:
        pack.add(huge.packed, huge.metadata, (piece for _ in range(4097)))
        pack.add(FEW[1].packed, FEW[1].metadata, [FEW[1].data])
        written = pack.finish()
    with zipfile.ZipFile(written.path) as archive:
        assert archive.getinfo(f"{huge.packed.sop_uid}.dcm").file_size == 4097 << 20
        assert archive.read(f"{FEW[1].packed.sop_uid}.dcm") == FEW[1].data
    store = DiskStore(tmp_path / "objects")
    store.put(written.pack.location.key, written.path)
    assert read_manifest(store, store.head(written.pack.location.key), "archive").pack.blocks == written.pack.blocks


@pytest.mark.long
def test_a_pack_of_more_entries_than_an_old_zip_can_count(tmp_path: Path) -> None:
    instances = [generated(number, 10) for number in range(1, 66_001)]
    store = MemoryStore()
    written = samples.put(store, tmp_path / "pack.zip", instances)
    with zipfile.ZipFile(written.path) as archive:
        assert len(archive.namelist()) == 66_002
    assert recover(store, store.head(written.pack.location.key), "archive", attributes_of).pack == written.pack
