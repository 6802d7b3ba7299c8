"""The cache of a machine on which nothing is swept: blocks of packs that are gone leave it all the same."""

from pathlib import Path
from threading import Event

import pytest

from gateway.archive.cached import GoneBlocks
from gateway.archive.steps import Stopped
from storage.dicom.identity import Scope
from storage.objects.memory import MemoryStore
from storage.packs import Pack
from storage.packs.blocks import BlockReader
from storage.packs.cache import BlockCache
from tests.sealing import SERIES, STUDY, Archive, Clock
from tests.unit.fake_packing import FakePackingIndex


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    (tmp_path / "staging").mkdir()
    clock = Clock()
    stores = {"spool": MemoryStore(), "archive": MemoryStore()}
    return Archive(FakePackingIndex(clock), stores, tmp_path / "staging", clock)


@pytest.fixture
def blocks(archive: Archive, tmp_path: Path) -> BlockReader:
    return BlockReader(archive.stores["archive"], BlockCache(tmp_path / "cache", 1 << 30))


def sealed_and_read(archive: Archive, blocks: BlockReader, series: int) -> Pack:
    archive.store(1, series, numbers=(1, 2))
    (pack,) = archive.sealer().seal_series(STUDY, f"{STUDY}.{series}")
    blocks.get(pack.location.key, (0, 10), pack.blocks).read()
    return pack


def test_what_the_index_does_not_name_any_more_leaves_the_cache(archive: Archive, blocks: BlockReader) -> None:
    gone, kept = (sealed_and_read(archive, blocks, series) for series in (1, 2))
    keeper = GoneBlocks(archive.index, blocks)
    keeper.run_once()
    assert sorted(blocks.cached()) == sorted([gone.location.key, kept.location.key])
    archive.remove(Scope(STUDY, SERIES))
    keeper.run_once()
    assert blocks.cached() == [kept.location.key]


def test_it_looks_no_more_often_than_it_is_told(archive: Archive, blocks: BlockReader) -> None:
    now = [0.0]
    keeper = GoneBlocks(archive.index, blocks, every_seconds=600, clock=lambda: now[0])
    keeper.run_once()
    sealed_and_read(archive, blocks, 1)
    archive.remove(Scope(STUDY))
    now[0] = 599
    keeper.run_once()
    assert blocks.cached() != []
    now[0] = 600
    keeper.run_once()
    assert blocks.cached() == []


def test_it_ends_when_the_gateway_stops(archive: Archive, blocks: BlockReader) -> None:
    sealed_and_read(archive, blocks, 1)
    stop = Event()
    stop.set()
    with pytest.raises(Stopped):
        GoneBlocks(archive.index, blocks, stop=stop).run_once()


def test_other_things_in_the_folder_are_left_alone(archive: Archive, blocks: BlockReader, tmp_path: Path) -> None:
    (tmp_path / "cache" / "lost+found").mkdir(parents=True)
    GoneBlocks(archive.index, blocks).run_once()
    assert (tmp_path / "cache" / "lost+found").is_dir()
