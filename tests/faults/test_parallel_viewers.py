"""Many viewers at once of what lies sealed in a real bucket: each block comes once, and few requests bring them all."""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.archive import AS_STORED
from gateway.archive.clock import microseconds
from gateway.archive.local import LocalArchive
from gateway.archive.places import ARCHIVE, Places
from gateway.config import Ingest
from storage.dicom.identity import Scope
from storage.index.sqlite import SqliteIndex
from storage.objects.memory import MemoryStore
from storage.objects.s3 import S3Store
from storage.objects.s3_settings import parse_s3_url
from storage.packs import BLOCK_BYTES
from storage.packs.blocks import BlockReader
from storage.packs.cache import BlockCache
from tests.s3_proxy import S3Proxy, s3_proxy
from tests.sealing import STUDY, Archive, file_of
from tests.seaweed import Seaweed
from tests.unit.test_local_archive import BY

BUCKET = "viewers"
SERIES = 3
SLICES = 120  # of 128 KiB: fifteen blocks and a little, of which none holds one slice alone
MOST_GETS = 8  # for a series from its first slice to its last: one, two, four blocks, then four or eight at a time
RECENT_BYTES = 64 << 20  # more than all of it


@dataclass
class Hospital:
    """A study in a bucket, behind what counts the requests that reach it."""

    proxy: S3Proxy
    store: S3Store
    index: SqliteIndex
    spool: MemoryStore
    series: list[list[Scope]]
    staging: Path

    def archive(self, cache: BlockCache | None) -> LocalArchive:
        """As a gateway that has just been started has it."""
        blocks = BlockReader(self.store, cache, recent_bytes=RECENT_BYTES)
        places = Places(
            self.spool, self.store, self.store, blocks, self.staging, self.staging, remote=frozenset([ARCHIVE])
        )
        self.proxy.forget()
        return LocalArchive(places, self.index, ingest=Ingest())

    def fetched(self) -> tuple[int, Counter[tuple[str, int]]]:
        """How many requests came, and how often each block was in one."""
        gets = [seen for seen in self.proxy.requests if seen.method == "GET"]
        blocks: Counter[tuple[str, int]] = Counter()
        for seen in gets:
            first, last = (int(at) // BLOCK_BYTES for at in seen.headers["range"].removeprefix("bytes=").split("-"))
            blocks.update((seen.path, number) for number in range(first, last + 1))
        return len(gets), blocks


@pytest.fixture(scope="module")
def hospital(seaweed: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    seaweed.make_bucket(BUCKET)
    with s3_proxy(seaweed.endpoint) as proxy:
        store = S3Store(parse_s3_url(seaweed.url(BUCKET, uuid.uuid4().hex, endpoint=proxy.endpoint)))
        index, spool = SqliteIndex(folder / "index.sqlite"), MemoryStore()
        (folder / "staging").mkdir()
        archive = Archive(index, {"spool": spool, "archive": store}, folder / "staging", microseconds)
        for series in range(1, SERIES + 1):
            uid = f"{STUDY}.{series}"
            made = file_of(1, series, 10_000, size=256)
            for number in range(10_000, 10_000 + SLICES):
                archive.store_file(made.replace(f"{uid}.10000".encode(), f"{uid}.{number}".encode()))
            archive.sealer().seal_series(STUDY, uid)
        scopes = [Scope(*name) for name in archive.sent]
        yield Hospital(
            proxy,
            store,
            index,
            spool,
            [scopes[at : at + SLICES] for at in range(0, len(scopes), SLICES)],
            folder / "staging",
        )
        index.close()
        store.close()


@pytest.fixture(params=["cached", "not cached", "the cache cannot be written"])
def archive(request: pytest.FixtureRequest, hospital: Hospital, tmp_path: Path) -> LocalArchive:
    if request.param == "not cached":
        return hospital.archive(None)
    if request.param == "the cache cannot be written":
        (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    return hospital.archive(BlockCache(tmp_path / "cache", 1 << 30))


def view(archive: LocalArchive, each_in_turn: Sequence[Sequence[Scope]]) -> None:
    """So many viewers at once, each of its instances in turn, frame by frame."""
    start = threading.Barrier(len(each_in_turn))

    def one(scopes: Sequence[Scope]) -> int:
        start.wait(60)
        found = (archive.frames(scope, [1], accept=[AS_STORED], by=BY) for scope in scopes)
        return sum(len(chunk) for parts in found for part in parts for chunk in part.chunks())

    with ThreadPoolExecutor(len(each_in_turn)) as pool:
        assert set(pool.map(one, each_in_turn)) == {SLICES * 256 * 256 * 2}


@pytest.mark.parametrize("viewers", [1, 8])
def test_a_series_that_many_view_at_once_comes_once(hospital: Hospital, archive: LocalArchive, viewers: int) -> None:
    view(archive, [hospital.series[0]] * viewers)
    requests, blocks = hospital.fetched()
    assert set(blocks.values()) == {1}
    assert requests <= MOST_GETS


def test_who_view_different_series_do_not_disturb_each_other(hospital: Hospital, archive: LocalArchive) -> None:
    view(archive, hospital.series * 2)
    requests, blocks = hospital.fetched()
    assert set(blocks.values()) == {1}
    assert requests <= SERIES * MOST_GETS


def test_viewers_in_several_places_of_a_series_fetch_no_block_twice(hospital: Hospital, archive: LocalArchive) -> None:
    scopes = hospital.series[0]
    starts = range(0, SLICES, SLICES // 8)
    view(archive, [[*scopes[start:], *scopes[:start]] for start in starts])
    _, blocks = hospital.fetched()
    assert set(blocks.values()) == {1}


def test_a_viewer_who_asks_for_six_frames_at_a_time_reads_ahead_too(hospital: Hospital, archive: LocalArchive) -> None:
    def read(scope: Scope) -> int:
        parts = archive.frames(scope, [1], accept=[AS_STORED], by=BY)
        return sum(len(chunk) for part in parts for chunk in part.chunks())

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(read, hospital.series[0])) == {256 * 256 * 2}
    requests, blocks = hospital.fetched()
    assert set(blocks.values()) == {1}
    assert requests <= 2 * MOST_GETS
