"""What is sealed, in part or whole, over HTTP: the same answers as from who never sealed, whatever the cache is."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import structlog
from pydicom.encaps import encapsulate

from gateway import metrics
from gateway.archive import Expected
from gateway.archive.clock import microseconds
from gateway.archive.compactor import Compactor
from gateway.archive.local import LocalArchive
from gateway.archive.places import ARCHIVE, SPOOL, Places
from gateway.config import Ingest, Web
from gateway.web.app import build
from gateway.web.server import WebServer
from storage.dicom.identity import Scope
from storage.errors import NotFound, StorageError
from storage.index.sqlite import SqliteIndex
from storage.objects.memory import MemoryStore
from storage.packs.blocks import BlockReader
from storage.packs.cache import BlockCache
from storage.packs.documents import PackDocuments
from tests import samples
from tests.sealing import STUDY, Archive
from tests.unit.test_local_archive import BY
from tests.web.conftest import everybody
from tests.web.test_retrieve import parts

JPEG_LS = "1.2.840.10008.1.2.4.80"
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
DEFLATED = "1.2.840.10008.1.2.1.99"
FRAMES = 3
KINDS = 5
Answers = dict[str | tuple[str, str], Any]


def instance(series: int, number: int, version: int = 0) -> bytes:
    """Plain, of many frames, compressed, with a large private value, deflated: by number."""
    rnd = random.Random(f"{series}/{number}/{version}")
    same: dict[str, Any] = {"StudyDescription": f"version {version}"}
    match number % KINDS:
        case 0:
            return samples.part10(samples.ct(1, series, number, size=512, PixelData=rnd.randbytes(1 << 19), **same))
        case 1:
            pixels = rnd.randbytes(FRAMES * 64 * 64 * 2)
            return samples.part10(
                samples.ct(1, series, number, size=64, NumberOfFrames=FRAMES, PixelData=pixels, **same)
            )
        case 2:
            coded = encapsulate([b"\xff\xd8" + rnd.randbytes(400_000) + b"\xff\xd9" for _ in range(FRAMES)])
            ds = samples.ct(1, series, number, NumberOfFrames=FRAMES, PixelData=coded, **same)
            ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
            return samples.part10(ds, JPEG_LS)
        case 3:
            ds = samples.ct(1, series, number, **same)
            ds.add_new(0x00090010, "LO", "TEST")
            ds.add_new(0x00091010, "OB", rnd.randbytes(200_000))
            return samples.part10(ds)
        case _:
            return samples.part10(samples.ct(1, series, number, **same), DEFLATED)


@dataclass
class Site:
    """An archive whose packs lie far away, and the doors of its gateways."""

    archive: LocalArchive
    keep: Archive
    compactor: Compactor
    blocks: BlockReader
    cache: Path
    urls: list[str]

    def store(self, data: bytes) -> None:
        with self.archive.incoming() as incoming:
            incoming.write(data)
            self.archive.store(incoming, Expected(), by=BY)

    def seal(self, series: int) -> None:
        self.keep.sealer().seal_series(STUDY, f"{STUDY}.{series}")

    def delete(self, *uids: str) -> None:
        self.archive.delete(Scope(STUDY, *uids), by=BY)

    def compact(self) -> None:
        self.compactor.run_once()

    def sweep(self) -> None:
        """Delete at once what readers may be at."""
        sweeper = self.keep.sweeper(grace_seconds=0, deleted=self.blocks.forget)
        while sweeper.run_once():
            pass


@contextmanager
def site(folder: Path, caches: Callable[[Path], BlockCache | None], *, gateways: int = 1) -> Iterator[Site]:
    """So many gateways on one index, one store for packs and one folder for the cache."""
    folder.mkdir()
    stores = {SPOOL: MemoryStore(), ARCHIVE: MemoryStore()}
    with ExitStack() as opened:
        urls = []
        for _ in range(gateways):
            blocks = BlockReader(stores[ARCHIVE], caches(folder / "cache"), recent_bytes=4 << 20)
            documents = PackDocuments({ARCHIVE: blocks})
            index = opened.enter_context(closing(SqliteIndex(folder / "index.sqlite", documents=documents)))
            places = Places(
                stores[SPOOL], stores[ARCHIVE], stores[ARCHIVE], blocks, folder, folder, remote=frozenset(stores)
            )
            archive = LocalArchive(places, index, ingest=Ingest())
            web = Web(listen="127.0.0.1:0")
            app = build(archive, everybody, web, ready=archive.check, metrics_text=metrics.render)
            server = WebServer(app, web)
            server.start()
            opened.callback(server.stop, 1)
            urls.append("http://{}:{}/dicomweb".format(*server.address))
        compactor = Compactor(index, stores, documents, staging=folder)
        yield Site(archive, Archive(index, stores, folder, microseconds), compactor, blocks, folder / "cache", urls)


def answers(url: str, client: httpx.Client, instances: list[str]) -> Answers:
    """What the study is answered to be in every way that there is, without what names the server or is random."""

    def get(path: str, accept: str = "*/*") -> Any:
        response = client.get(url + path, headers={"accept": accept})
        if response.status_code != 200:
            return response.status_code
        if not response.headers["content-type"].startswith("multipart"):
            return response.headers["content-type"], response.content.replace(url.encode(), b"")
        return [(head["content-type"], head["content-location"][len(url) :], body) for head, body in parts(response)]

    series = sorted({f"/studies/{STUDY}/series/{uid.rpartition('.')[0]}" for uid in instances})
    found: Answers = {path: get(path) for path in [f"/studies/{STUDY}", *series]}
    for path in [f"{path}/metadata" for path in found]:
        found[path] = get(path)
    for uid in instances:
        path = f"/studies/{STUDY}/series/{uid.rpartition('.')[0]}/instances/{uid}"
        for what in ("/metadata", "/frames/1", f"/frames/{FRAMES},2"):
            found[path + what] = get(path + what)
        found[path, "alone"] = get(path, "application/dicom")
    response = client.get(f"{url}/studies/{STUDY}/metadata")
    for uri in bulk_uris(orjson.loads(response.content)) if response.status_code == 200 else ():
        found[uri[len(url) :]] = get(uri[len(url) :])
    return found


def bulk_uris(node: Any) -> Iterator[str]:
    """Every BulkDataURI in DICOM JSON."""
    if isinstance(node, dict):
        if "BulkDataURI" in node:
            yield node["BulkDataURI"]
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from bulk_uris(each)


def damage(cache: Path) -> None:
    """Each file of the cache another way: flipped, cut short, longer, gone, empty."""
    for at, path in enumerate(sorted(path for path in cache.rglob("*") if path.is_file())):
        data = path.read_bytes()
        harm = [bytes([data[0] ^ 1]) + data[1:], data[:-1], data + b"x", None, b""][at % 5]
        path.unlink() if harm is None else path.write_bytes(harm)


CACHES: dict[str, Callable[[Path], BlockCache | None]] = {
    "cached": lambda folder: BlockCache(folder, 1 << 30),
    "too small": lambda folder: BlockCache(folder, 2 << 20),
    "the disk is full": lambda folder: BlockCache(folder, 1 << 30, min_free_bytes=1 << 62),
    "cannot be written": lambda folder: BlockCache(Path("/dev/null/cache"), 1 << 30),
    "not cached": lambda folder: None,
}
QUICK = ("cached", "cannot be written")


@pytest.mark.parametrize(
    "cache", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in CACHES]
)
def test_a_study_is_answered_alike_however_much_of_it_is_sealed(tmp_path: Path, cache: str) -> None:
    with (
        site(tmp_path / "loose", lambda folder: None) as loose,
        site(tmp_path / "sealed", CACHES[cache], gateways=2) as sealed,
        httpx.Client(timeout=60) as client,
    ):
        uids = [f"{STUDY}.{series}.{number}" for series in (1, 2) for number in range(1, 7)]

        def check() -> None:
            expected = answers(loose.urls[0], client, uids)
            for url in sealed.urls:
                found = answers(url, client, uids)
                assert [path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)] == []
                damage(sealed.cache)

        def both(*acts: Callable[[Site], None]) -> None:
            for act in acts:
                act(loose)
                act(sealed)

        both(*(lambda at, series=s, number=n: at.store(instance(series, number)) for s in (1, 2) for n in range(1, 6)))
        sealed.seal(1)
        sealed.sweep()
        check()
        both(lambda at: at.store(instance(1, 2, version=1)), lambda at: at.store(instance(1, 6)))
        check()
        sealed.seal(1)
        both(lambda at: at.delete(f"{STUDY}.1", f"{STUDY}.1.3"), lambda at: at.delete(f"{STUDY}.2", f"{STUDY}.2.1"))
        sealed.seal(2)
        check()
        sealed.compact()
        sealed.sweep()
        both(lambda at: at.store(instance(1, 3, version=2)))
        check()
        both(lambda at: at.delete(f"{STUDY}.1"))
        sealed.compact()
        sealed.sweep()
        check()


def test_who_reads_while_all_changes_gets_right_bytes_or_an_answer_that_breaks_off(tmp_path: Path) -> None:
    numbers = [(series, number) for series in (1, 2) for number in range(1, 9)]
    versions = {(s, n, v): instance(s, n, v) for s, n in numbers for v in (0, 1)}
    sent: dict[str, set[bytes]] = {f"{STUDY}.{s}.{n}": {versions[s, n, 0], versions[s, n, 1]} for s, n in numbers}
    over = threading.Event()

    def read(url: str, seed: int) -> int:
        rnd, whole = random.Random(seed), 0
        with httpx.Client(timeout=60) as client:
            while not over.is_set() or not whole:
                path = f"{url}/studies/{STUDY}" + rnd.choice(["", f"/series/{STUDY}.1", "/metadata"])
                try:
                    response = client.get(path, headers={"accept": AS_STORED + ", application/dicom+json"})
                except httpx.RemoteProtocolError:  # broken off, and seen to be
                    continue
                assert response.status_code in (200, 404, 503), response.text
                if response.status_code != 200:
                    continue
                whole += 1
                if path.endswith("/metadata"):
                    uids = [each["00080018"]["Value"][0] for each in orjson.loads(response.content)]
                else:
                    found = parts(response)
                    uids = [head["content-location"].rpartition("/")[2] for head, _ in found]
                    assert all(body in sent[uid] for uid, (_, body) in zip(uids, found, strict=True))
                assert len(set(uids)) == len(uids)
        return whole

    def change(at: Site) -> None:
        rnd = random.Random(1)
        for _ in range(25):
            s, n = rnd.choice(numbers)
            act = rnd.choice(["store", "store", "seal", "delete", "compact", "sweep", "damage"])
            try:
                match act:
                    case "store":
                        at.store(versions[s, n, rnd.randrange(2)])
                    case "seal":
                        at.seal(s)
                    case "delete":
                        at.delete(f"{STUDY}.{s}", f"{STUDY}.{s}.{n}")
                    case "compact":
                        at.compact()
                    case "sweep":
                        at.sweep()
                    case _:
                        damage(at.cache)
            except NotFound:
                pass  # deleted already
            except (StorageError, OSError) as error:
                raise AssertionError(act) from error

    with (
        structlog.testing.capture_logs() as logged,
        site(tmp_path / "site", CACHES["cached"], gateways=2) as at,
        ThreadPoolExecutor(4) as pool,
    ):
        for s, n in numbers:
            at.store(versions[s, n, 0])
        at.seal(1)
        reading = [pool.submit(read, at.urls[seed % 2], seed) for seed in range(4)]
        try:
            change(at)
            at.store(versions[1, 1, 0])  # so that there is something to read
        finally:
            over.set()
        assert all(each.result() for each in reading)
    assert not [line for line in logged if "lost or damaged" in line["event"]], "nothing was lost"
