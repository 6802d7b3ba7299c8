"""Sealing into a real S3 server that fails in every way: nothing is sealed that did not come back as it was sent."""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.errors import StorageError, Unavailable
from storage.objects import ObjectStore
from storage.objects.disk import DiskStore
from storage.objects.memory import MemoryStore
from storage.objects.s3 import S3Store
from storage.objects.s3_settings import parse_s3_url
from storage.packs import Damaged
from tests.s3_proxy import S3Proxy, Trouble, s3_proxy
from tests.sealing import HOUR, SERIES, STUDY, Archive, Clock
from tests.seaweed import Seaweed
from tests.seaweed import seaweed as fresh_seaweed
from tests.unit.fake_packing import FakePackingIndex

BUCKET = "sealing"


@pytest.fixture
def proxy(seaweed: Seaweed) -> Iterator[S3Proxy]:
    seaweed.make_bucket(BUCKET)
    with s3_proxy(seaweed.endpoint) as between:
        yield between


def bucket(server: Seaweed, endpoint: str, retry_seconds: float = 20, **options: Any) -> S3Store:
    """A store of its own below a prefix that nothing else uses."""
    url = server.url(BUCKET, uuid.uuid4().hex, endpoint=endpoint)
    return S3Store(parse_s3_url(f"{url}&retry_seconds={retry_seconds}&read_timeout_seconds=5"), **options)


def archive_in(folder: Path, store: ObjectStore, spool: ObjectStore | None = None) -> Archive:
    clock = Clock()
    return Archive(FakePackingIndex(clock), {"spool": spool or MemoryStore(), "archive": store}, folder, clock)


def sweep(archive: Archive) -> None:
    archive.clock.pass_(2 * HOUR)
    while archive.sweeper().run_once():
        pass


@pytest.mark.parametrize("spool_in_bucket", [False, True])
def test_a_thousand_slices_cost_few_requests(
    tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy, spool_in_bucket: bool
) -> None:
    store = bucket(seaweed, proxy.endpoint)
    store.check()
    spool = bucket(seaweed, seaweed.endpoint) if spool_in_bucket else MemoryStore()
    archive = archive_in(tmp_path, store, spool)
    count = 100 if spool_in_bucket else 1000
    archive.store_many(count)
    proxy.forget()
    archive.sealer(threads=4 if spool_in_bucket else 0).seal_series(STUDY, SERIES)
    assert sum(proxy.counts().values()) <= 12
    assert proxy.counts() == {"PUT": 1, "GET": 1}
    (pack,) = archive.index.packs()
    assert len(pack.instances) == count
    data = store.get(pack.location.key).read()
    for packed in pack.instances[:: count // 20]:
        assert data[packed.offset : packed.offset + packed.length] == archive.sent[STUDY, SERIES, packed.sop_uid]


@pytest.mark.long
def test_a_real_ct_of_525_mb_costs_few_requests(tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy) -> None:
    store, spool = bucket(seaweed, proxy.endpoint), DiskStore(tmp_path / "spool")
    store.check()
    (tmp_path / "staging").mkdir()
    archive = archive_in(tmp_path / "staging", store, spool)
    archive.store_many(1000, size=512)
    proxy.forget()
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    assert pack.location.length > 1000 * 512 * 512 * 2
    assert sum(proxy.counts().values()) <= 12
    spool.close()


@pytest.mark.parametrize("status", [500, 503])
def test_answers_of_trouble_are_tried_again(tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy, status: int) -> None:
    store = bucket(seaweed, proxy.endpoint)
    store.check()
    archive = archive_in(tmp_path, store)
    archive.store(numbers=(1, 2, 3))
    puts = proxy.cause(Trouble("PUT", ".zip", times=2, status=status))
    gets = proxy.cause(Trouble("GET", ".zip", times=1, status=status))
    archive.sealer().seal_series(STUDY, SERIES)
    assert (puts.hits, gets.hits) == (2, 1)
    archive.check_all_is_read_back()


def test_a_body_that_is_cut_short_is_read_on(tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy) -> None:
    store = bucket(seaweed, proxy.endpoint)
    store.check()
    archive = archive_in(tmp_path, store)
    archive.store(numbers=range(1, 20))
    cut = proxy.cause(Trouble("GET", ".zip", times=1, cut_at=5000))
    archive.sealer().seal_series(STUDY, SERIES)
    assert cut.hits == 1
    archive.check_all_is_read_back()


def test_a_put_whose_answer_is_lost_is_not_taken_for_anothers(tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy) -> None:
    store = bucket(seaweed, proxy.endpoint)
    store.check()
    archive = archive_in(tmp_path, store)
    archive.store(numbers=(1, 2))
    lost = proxy.cause(Trouble("PUT", ".zip", times=1, lose=True))
    archive.sealer().seal_series(STUDY, SERIES)
    assert lost.hits == 1
    archive.check_all_is_read_back()


def test_what_comes_back_flipped_is_not_sealed(tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy) -> None:
    store = bucket(seaweed, proxy.endpoint)
    store.check()
    archive = archive_in(tmp_path, store)
    archive.store(numbers=(1, 2))
    archive.clock.pass_(601)
    sealer = archive.sealer()
    flipped = proxy.cause(Trouble("GET", ".zip", times=1, flip_at=700))
    assert sealer.run_once().failed == 1
    assert flipped.hits == 1
    assert list(archive.index.packs()) == []
    assert len(list(archive.index.loose(STUDY, SERIES))) == 2
    archive.check_all_is_read_back()
    archive.clock.pass_(6)
    assert sealer.run_once().done == 1
    sweep(archive)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


@pytest.mark.parametrize("at", [7, 150, 1000], ids=["preamble", "file meta", "data set"])
def test_a_loose_instance_that_comes_back_flipped_is_not_sealed(
    tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy, at: int
) -> None:
    archive = archive_in(tmp_path, MemoryStore(), bucket(seaweed, proxy.endpoint))
    archive.store(numbers=(1, 2))
    archive.clock.pass_(601)
    sealer = archive.sealer()
    flipped = proxy.cause(Trouble("GET", ".dcm", times=1, flip_at=at))
    assert sealer.run_once().failed == 1
    assert flipped.hits == 1
    assert [len(pack.instances) for pack in archive.index.packs()] == [1]
    assert len(list(archive.index.loose(STUDY, SERIES))) == 1
    archive.clock.pass_(6)
    assert sealer.run_once().done == 1
    sweep(archive)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


def test_a_copy_that_comes_back_flipped_does_not_count(tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy) -> None:
    archive = archive_in(tmp_path, MemoryStore())
    archive.stores = {**archive.stores, "copy": bucket(seaweed, proxy.endpoint)}
    archive.store(numbers=(1, 2))
    (pack,) = archive.sealer().seal_series(STUDY, SERIES)
    proxy.cause(Trouble("GET", ".zip", times=1, flip_at=700))
    with pytest.raises(Damaged):
        archive.copier().copy(pack)
    assert len(list(archive.index.uncopied("copy", 10))) == 1
    archive.copier().copy(pack)
    assert list(archive.index.uncopied("copy", 10)) == []


def test_while_nothing_answers_all_stays_loose_and_then_drains(
    tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy
) -> None:
    store = bucket(seaweed, proxy.endpoint, retry_seconds=0)  # nor is a bucket that was away left in peace
    store.check()
    archive = archive_in(tmp_path, store)
    for series in range(1, 5):
        archive.store(1, series, (1, 2))
    archive.clock.pass_(601)
    sealer = archive.sealer()
    proxy.down()
    with pytest.raises(Unavailable):
        sealer.run_once()
    archive.check_all_is_read_back()
    assert list(archive.index.packs()) == []
    proxy.up()
    archive.clock.pass_(10)
    assert sealer.run_once().done == 4
    sweep(archive)
    archive.check_all_is_read_back()
    archive.check_nothing_is_left_over()


def test_large_packs_are_put_in_parts(tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy) -> None:
    store = bucket(seaweed, proxy.endpoint, part_bytes=5 << 20)
    store.check()
    archive = archive_in(tmp_path, store)
    archive.store_many(13, size=512)
    archive.sealer().seal_series(STUDY, SERIES)
    archive.check_all_is_read_back()


def test_a_server_that_is_killed_while_sealing_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "staging").mkdir()
    with fresh_seaweed(tmp_path / "server") as server:
        server.make_bucket(BUCKET)
        store = bucket(server, server.endpoint, retry_seconds=1)
        store.check()
        archive = archive_in(tmp_path / "staging", store)
        for series in range(1, 31):
            archive.store(1, series, range(1, 4))
        archive.clock.pass_(601)
        killing = threading.Thread(target=lambda: (wait_for_packs(archive, 3), server.kill()))
        killing.start()
        drain(archive)
        killing.join()
        archive.clock.pass_(HOUR)
        server.restart()
        drain(archive)
        archive.clock.pass_(HOUR)
        drain(archive)
        assert len(list(archive.index.packs())) == 30
        archive.check_each_lies_once()
        sweep(archive)
        archive.check_all_is_read_back()
        archive.check_nothing_is_left_over()
        store.close()


def wait_for_packs(archive: Archive, count: int) -> None:
    enough = threading.Event()
    seal = archive.index.seal

    def counted(*arguments: Any) -> None:
        seal(*arguments)
        if len(list(archive.index.packs())) >= count:
            enough.set()

    archive.index.seal = counted
    assert enough.wait(60)


def drain(archive: Archive) -> None:
    """Seal until there is nothing to do, or nothing can be done."""
    sealer = archive.sealer()
    try:
        while sealer.run_once().done:
            pass
    except StorageError:
        return
