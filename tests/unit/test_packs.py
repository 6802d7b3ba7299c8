from pathlib import Path

import pytest

from storage.errors import NotFound
from storage.objects.memory import MemoryStore
from storage.packs import Damaged, manifest
from storage.packs.read import recover
from storage.packs.verify import verify_object
from tests import packed as samples
from tests.packed import Generated, attributes_of, generated

FEW = [generated(number) for number in (1, 2, 3, 4)]


def stored(folder: Path, instances: list[Generated], **options: int) -> tuple[MemoryStore, samples.Written]:
    store = MemoryStore()
    return store, samples.put(store, folder / "pack.zip", instances, **options)


def test_a_pack_is_recovered_from_its_object_alone(tmp_path: Path) -> None:
    store, written = stored(tmp_path, FEW)
    found = recover(store, store.head(written.pack.location.key), "archive", attributes_of)
    assert found.pack == written.pack
    assert found.documents == [one.metadata for one in FEW]
    assert found.merkle_root == manifest.merkle_root(found.sha256s)


def test_an_object_is_verified_by_its_digest(tmp_path: Path) -> None:
    store, written = stored(tmp_path, FEW)
    location = written.pack.location
    verify_object(store, location.key, location.length, written.sha256)
    with pytest.raises(Damaged):
        verify_object(store, location.key, location.length, bytes(32))
    with pytest.raises(Damaged):
        verify_object(store, location.key, location.length - 1, written.sha256)
    with pytest.raises(NotFound):
        verify_object(store, "packs/none.zip", 1, bytes(32))
