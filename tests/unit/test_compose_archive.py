"""The object stores that a configuration becomes."""

from pathlib import Path

import pytest

from gateway.archive.places import ARCHIVE, COPY, SPOOL
from gateway.compose_archive import _max_streams, open_places
from gateway.config import Archive, ArchiveCache, Config, Copies, Spool
from storage.errors import Unavailable
from storage.objects.disk import DiskStore
from storage.objects.fallback import FallbackStore
from storage.objects.s3 import S3Store
from tests.unit.test_metrics import figure

STORES = (SPOOL, ARCHIVE, COPY)
BUCKET = "s3://bucket/prefix?endpoint=http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def test_by_default_all_lies_in_folders_of_the_data_folder(tmp_path: Path) -> None:
    places = open_places(Config(data=tmp_path))
    assert set(places.stores) == {SPOOL, ARCHIVE}
    assert (places.remote, places.packs is places.archive) == (frozenset(), True)
    places.archive.put("packs/1", [b"x"])
    assert (tmp_path / "archive" / "packs" / "1").read_bytes() == b"x"
    assert places.staging.is_relative_to(tmp_path / "objects")
    assert places.packing.is_relative_to(tmp_path / "archive")
    assert not (tmp_path / "cache").exists()
    places.close()


@pytest.mark.parametrize(
    ("config", "remote"),
    [
        ({"archive": Archive(url=BUCKET)}, {ARCHIVE}),
        ({"spool": Spool(url=BUCKET)}, {SPOOL}),
        ({"spool": Spool(url=BUCKET), "archive": Archive(url=BUCKET)}, {SPOOL, ARCHIVE}),
        ({"copies": Copies(url=BUCKET)}, {ARCHIVE}),
    ],
    ids=["archive", "spool", "both", "copy"],
)
def test_what_comes_from_a_bucket_is_remote_and_what_is_on_its_way_is_in_a_folder(
    tmp_path: Path, config: dict[str, Spool | Archive | Copies], remote: set[str]
) -> None:
    places = open_places(Config.model_validate({"data": tmp_path, **config}))
    assert places.remote == remote
    assert isinstance(places.spool, S3Store if SPOOL in remote else DiskStore)
    assert isinstance(places.packs, FallbackStore) is (COPY in places.stores)
    assert places.staging.is_relative_to(tmp_path)
    assert places.packing.is_relative_to(tmp_path)
    assert (tmp_path / "cache").exists() is (ARCHIVE in remote)
    places.close()
    assert not places.staging.exists()


def test_what_is_asked_of_a_bucket_is_counted_by_its_store(tmp_path: Path) -> None:
    url = f"{BUCKET}&retry_seconds=0"
    names = [
        f'gateway_bucket_requests_total{{operation="head",outcome="unanswered",store="{name}"}}' for name in STORES
    ]
    before = [figure(name) for name in names]
    copies = Copies(url=url.replace("prefix", "copy"))
    places = open_places(Config(data=tmp_path, spool=Spool(url=url), archive=Archive(url=url), copies=copies))
    for times, name in enumerate(STORES, start=1):
        for _ in range(times):
            with pytest.raises(Unavailable):
                places.stores[name]._wire.ask("HEAD", "a")  # type: ignore[attr-defined]  # a bucket's
    assert [figure(name) - was for name, was in zip(names, before, strict=True)] == [1, 2, 3]
    places.close()


def test_slow_readers_may_have_half_of_the_connections_to_a_bucket(tmp_path: Path) -> None:
    few, many = Archive(url=f"{BUCKET}&max_connections=9"), Copies(url=BUCKET.replace("prefix", "copy"))
    assert _max_streams(Config(data=tmp_path, archive=few)) == 4
    assert _max_streams(Config(data=tmp_path, copies=many)) == 32
    assert _max_streams(Config(data=tmp_path, archive=few, copies=many)) == 4
    assert _max_streams(Config(data=tmp_path)) == 32


def test_the_cache_can_be_elsewhere_or_nowhere(tmp_path: Path) -> None:
    for number, cache in enumerate((ArchiveCache(folder=str(tmp_path / "fast")), ArchiveCache(max_bytes=0))):
        open_places(Config(data=tmp_path / str(number), archive=Archive(url=BUCKET, cache=cache))).close()
        assert not (tmp_path / str(number) / "cache").exists()
    assert (tmp_path / "fast").is_dir()
