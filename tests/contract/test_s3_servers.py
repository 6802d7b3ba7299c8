"""What S3 servers must do for our store beyond the contract of all stores, asked of real ones."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import Conflict, NotFound
from storage.objects.s3 import S3Store
from storage.objects.s3_settings import parse_s3_url
from tests.contract.test_object_store import CEPH

MIB = 1 << 20
DATA = bytes(range(256)) * (4 * 5 * MIB // 256)


@pytest.fixture(params=["seaweed", CEPH])
def store(request: pytest.FixtureRequest) -> Iterator[S3Store]:
    server = request.getfixturevalue(request.param)
    url = server.url(server.make_bucket("contract"), uuid.uuid4().hex)
    store = S3Store(parse_s3_url(url), part_bytes=5 * MIB)
    yield store
    store.close()


def test_the_check_passes_and_a_key_is_written_once(store: S3Store) -> None:
    store.check()
    assert store.exclusive


def test_parts_make_one_object(store: S3Store, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    file.write_bytes(DATA + b"end")
    store.put("packs/a.zip", file)
    with store.get("packs/a.zip") as body:
        assert body.read() == DATA + b"end"
    with store.get("packs/a.zip", (5 * MIB - 2, 4)) as body:
        assert body.read() == DATA[5 * MIB - 2 : 5 * MIB + 2]
    with pytest.raises(Conflict):
        store.put("packs/a.zip", file)
    assert [found.length for found in store.scan()] == [len(DATA) + 3]


@pytest.mark.long
def test_a_thousand_objects_are_listed_and_deleted(store: S3Store) -> None:
    names = [f"a/{number:04}" for number in range(1003)]
    for name in names:
        store.put(name, [b""])
    assert [found.key for found in store.scan("a/")] == names
    assert [found.key for found in store.scan(after="a/0999")] == names[1000:]
    store.delete(names)
    assert list(store.scan()) == []
    with pytest.raises(NotFound):
        store.head("a/0001")


def test_stale_uploads_are_found(store: S3Store) -> None:
    store._bucket.create_upload("packs/a", {})
    assert store.remove_stale_uploads(3600) == 0
    assert store.remove_stale_uploads(-5) == 1
    assert store.remove_stale_uploads(-5) == 0
