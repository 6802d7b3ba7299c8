import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import NotFound
from storage.objects import ObjectMeta, keys
from storage.objects.memory import MemoryStore
from storage.packs import BLOCK_BYTES, Damaged, manifest, metadata, read
from storage.packs.read import Recovered, read_manifest, recover
from storage.packs.verify import verify_object, verify_pack
from storage.packs.write import place
from tests import packed as samples
from tests.packed import Generated, RecordingStore, attributes_of, generated

FEW = [generated(number) for number in (1, 2, 3, 4)]
ANY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
instances = st.lists(
    st.builds(
        generated,
        st.none() | st.integers(-5, 2000),
        st.integers(0, 4000),
        uid=st.integers(1, 5),
        revision=st.integers(1, 3),
        seed=st.integers(0, 3),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: (one.packed.sop_uid, one.packed.revision),
)


def key_of(written: samples.Written) -> str:
    return written.pack.location.key


def recovered(data: bytes, key: str) -> Recovered:
    store = MemoryStore()
    return recover(store, store.put(key, [data]), "archive", attributes_of)


def is_found(data: bytes, key: str) -> bool:
    """Whether something is found wrong with these bytes of a pack, in whatever way."""
    store = MemoryStore()
    try:
        return bool(verify_pack(store, read_manifest(store, store.put(key, [data]), "archive")))
    except Damaged:
        return True


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    written = samples.write(tmp_path_factory.mktemp("small") / "pack.zip", [generated(n, 300) for n in (1, 2)])
    return written.path.read_bytes(), key_of(written)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """Of several blocks."""
    pack = [generated(number, 650_000) for number in range(1, 6)]
    written = samples.write(tmp_path_factory.mktemp("large") / "pack.zip", pack)
    return written.path.read_bytes(), key_of(written)


@ANY
@given(instances, st.sampled_from([0xFFFFFFFF, 1000, 50]))
def test_any_pack_is_recovered_from_its_object_alone(tmp_path: Path, pack: list[Generated], large: int) -> None:
    store = MemoryStore()
    written = samples.write(tmp_path / "pack.zip", pack, large=large)
    meta = store.put(key_of(written), written.path)
    found = recover(store, meta, "archive", attributes_of)
    ordered = sorted(pack, key=lambda one: place(one.packed))
    in_pack = zip(ordered, written.pack.instances, strict=True)
    expected = tuple(replace(one.packed, offset=packed.offset) for one, packed in in_pack)
    assert found.pack == replace(written.pack, instances=expected)
    assert found.documents == [one.metadata for one in ordered]
    with zipfile.ZipFile(written.path) as archive:
        assert [archive.read(name) for name in archive.namelist()[:-2]] == [one.data for one in ordered]
    assert verify_pack(store, read_manifest(store, meta, "archive")) == []


def test_a_small_pack_takes_one_request(small: tuple[bytes, str]) -> None:
    store = RecordingStore()
    recover(store, store.put(small[1], [small[0]]), "archive", attributes_of)
    assert store.spans == [(0, len(small[0]))]


def test_a_large_pack_takes_one_request_of_its_last_blocks(large: tuple[bytes, str]) -> None:
    store = RecordingStore()
    recover(store, store.put(large[1], [large[0]]), "archive", attributes_of)
    assert store.spans == [(2 * BLOCK_BYTES, len(large[0]) - 2 * BLOCK_BYTES)]


def test_a_pack_whose_metadata_is_large_takes_at_most_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata, manifest and directory of some blocks each."""
    monkeypatch.setattr(read, "TAIL_BYTES", 1000)
    incompressible = [
        one._replace(metadata=json.dumps(one.data.hex()).encode())
        for one in (generated(n, 90_000) for n in range(1, 40))
    ]
    store = RecordingStore()
    written = samples.put(store, tmp_path / "pack.zip", incompressible)
    assert written.pack.metadata.length > 3 * BLOCK_BYTES
    found = recover(store, store.head(key_of(written)), "archive", attributes_of)
    assert found.documents == [one.metadata for one in incompressible]
    assert found.pack.blocks == written.pack.blocks
    assert len(store.spans) <= 3
    store.spans.clear()
    read_manifest(store, store.head(key_of(written)), "archive")
    assert len(store.spans) == 1


def test_an_object_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound):
        recover(MemoryStore(), ObjectMeta("packs/none.zip", 100_000), "archive", attributes_of)


@pytest.mark.parametrize("data", [b"", b"PK", b"x" * 5000, b"PK\5\6" + bytes(18), b"PK\5\6" + bytes(82)])
def test_what_is_no_pack_is_damaged(data: bytes, small: tuple[bytes, str]) -> None:
    with pytest.raises(Damaged) as caught:
        recovered(data, small[1])
    assert caught.value.key == small[1]


@ANY
@given(st.data())
def test_a_pack_that_is_cut_short_is_damaged(small: tuple[bytes, str], data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(small[0]) - 1))
    with pytest.raises(Damaged):
        recovered(small[0][:length], small[1])


def test_bytes_behind_a_pack_are_damage(small: tuple[bytes, str]) -> None:
    with pytest.raises(Damaged):
        recovered(small[0] + b"\0", small[1])


def test_every_flipped_byte_of_a_pack_is_found(small: tuple[bytes, str]) -> None:
    data, key = small
    assert not is_found(data, key)
    for at in range(len(data)):
        assert is_found(data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :], key), at


@ANY
@given(st.data())
def test_a_flipped_byte_of_a_large_pack_is_found(large: tuple[bytes, str], data: st.DataObject) -> None:
    original, key = large
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(original) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert is_found(bytes(changed), key)


@ANY
@given(st.binary(max_size=300), st.integers(0, 6000))
def test_hostile_bytes_are_damaged_and_nothing_else(small: tuple[bytes, str], patch: bytes, at: int) -> None:
    data, key = small
    at = min(at, len(data) - len(patch))
    changed = data[:at] + patch + data[at + len(patch) :]
    if changed != data:
        assert is_found(changed, key)


def test_findings_name_the_instance_and_the_blocks(large: tuple[bytes, str]) -> None:
    data, key = large
    store = MemoryStore()
    found = read_manifest(store, store.put(key, [data]), "archive")
    second = found.pack.instances[1]
    at = second.offset + second.length // 2
    store.put(key, [data[:at], bytes([data[at] ^ 1]), data[at + 1 :]], if_absent=False)
    findings = verify_pack(store, found)
    assert [finding.sop_uid for finding in findings] == [second.sop_uid, None, None]
    assert {finding.key for finding in findings} == {key}
    store.put(key, [data[:-1]], if_absent=False)
    assert [finding.sop_uid for finding in verify_pack(store, found)] == [None]


def test_an_object_is_verified_by_its_digest(tmp_path: Path) -> None:
    store = MemoryStore()
    written = samples.put(store, tmp_path / "pack.zip", FEW)
    location = written.pack.location
    verify_object(store, location.key, location.length, written.sha256)
    with pytest.raises(Damaged):
        verify_object(store, location.key, location.length, bytes(32))
    with pytest.raises(Damaged):
        verify_object(store, location.key, location.length - 1, written.sha256)
    with pytest.raises(NotFound):
        verify_object(store, "packs/none.zip", 1, bytes(32))


def test_a_pack_under_the_name_of_another_is_damaged(small: tuple[bytes, str]) -> None:
    data, key = small
    with pytest.raises(Damaged):
        recovered(data, key.replace("packs/local/2.25.71/", "packs/local/2.25.72/"))
    with pytest.raises(Damaged):
        recovered(data, "pack.zip")


def forged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict], object]) -> tuple[bytes, str]:
    """A pack that is whole but for what `change` did to its manifest, and its key."""
    to_json = manifest.to_json

    def lying(listed: manifest.Listed, lines: Sequence[bytes]) -> bytes:
        found = json.loads(to_json(listed, lines))
        change(found)
        return json.dumps(found).encode()

    monkeypatch.setattr(manifest, "to_json", lying)
    written = samples.write(tmp_path / "pack.zip", FEW)
    return written.path.read_bytes(), key_of(written)


FORGERIES: dict[str, Callable[[dict], object]] = {
    "format": lambda found: found.update(format=2),
    "count": lambda found: found.update(count=3),
    "no instances": lambda found: found.update(count=0, instances=[]),
    "no blocks": lambda found: found.pop("blocks"),
    "list": lambda found: found.update(metadata=[1, 2]),
    "study": lambda found: found.update(study_uid="../../etc"),
    "root": lambda found: found.update(merkle_root="00" * 32),
    "pack_id": lambda found: found.update(pack_id="00" * 16 + found["pack_id"][32:]),
    "pack_id of no form": lambda found: found.update(pack_id=found["pack_id"][:32] + "/../x"),
    "negative": lambda found: found["instances"][0].update(offset=-1),
    "float": lambda found: found["instances"][0].update(length=1.5),
    "outside": lambda found: found["instances"][3].update(offset=1 << 40),
    "header": lambda found: found["instances"][0].update(header_length=1 << 30),
    "elsewhere": lambda found: found["instances"][0].update(offset=found["instances"][0]["offset"] - 1),
    "overlap": lambda found: found["instances"][1].update(offset=found["instances"][0]["offset"]),
    "digest": lambda found: found["instances"][0].update(digest="00"),
    "frames": lambda found: found["instances"][0].update(frames="AAAA"),
    "bulk": lambda found: found["instances"][0].update(bulk={"7FE00010": ["OW", [[1]]]}),
    "revision": lambda found: found["instances"][0].update(revision="1"),
    "metadata": lambda found: found["metadata"].update(offset=0),
    "blocks": lambda found: found["blocks"].update(digests="00" * 16),
    "block size": lambda found: found["blocks"].update(bytes=512),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_manifest_that_lies_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgery: str) -> None:
    data, key = forged(tmp_path, monkeypatch, FORGERIES[forgery])
    with pytest.raises(Damaged):
        recovered(data, key)


def test_a_manifest_that_is_written_otherwise_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, key = forged(tmp_path, monkeypatch, lambda found: found.update(remark="of a later version"))
    assert recovered(data, key).documents == [one.metadata for one in FEW]


def test_a_pack_whose_name_has_no_random_part_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, key = forged(tmp_path, monkeypatch, lambda found: found.update(pack_id=found["pack_id"][:32]))
    with pytest.raises(Damaged):
        recovered(data, key)
    found = recovered(data, key[: -len("-0123456789abcdef.zip")] + ".zip")
    assert found.documents == [one.metadata for one in FEW]
    assert keys.series_of_pack(found.pack.location.key) == (found.pack.study_uid, found.pack.series_uid)


def test_a_pack_that_lacks_a_document_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = metadata.MetadataWriter.add
    second = FEW[1].metadata
    monkeypatch.setattr(metadata.MetadataWriter, "add", lambda self, text: text == second or add(self, text))
    written = samples.write(tmp_path / "pack.zip", FEW)
    with pytest.raises(Damaged, match="one document for each"):
        recovered(written.path.read_bytes(), key_of(written))


def test_metadata_does_not_inflate_beyond_its_bound() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = b"".join([bomb.compress(b"[\n" + b" " * 1_000_000 + b"\n]\n"), bomb.flush()])
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        metadata.documents_of(data, 1000)
    assert metadata.documents_of(data) == [b" " * 1_000_000]


@pytest.mark.parametrize("text", [b"", b"[]", b"[\n{}\n]", b"{}\n]\n"])
def test_metadata_of_another_form_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="one instance a line"):
        metadata.documents_of(zlib.compress(text, wbits=31))
    with pytest.raises(ValueError, match="does not inflate"):
        metadata.documents_of(text + b"not gzip at all")
    whole = zlib.compress(b"[\n{}\n]\n", wbits=31)
    for broken in (whole[:-1], whole + b"x"):
        with pytest.raises(ValueError, match="cut short"):
            metadata.documents_of(broken)
