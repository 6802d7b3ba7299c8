"""What was deleted is gone: its bytes are searched for in every file and every object that a whole archive keeps."""

import gzip
import os
import random
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest

from gateway.archive import AS_STORED, Expected, jobs
from gateway.archive.sweeper import Sweeper
from gateway.compose import Role, compose
from gateway.compose_archive import Backend
from gateway.config import Archive, Config, Copies, Spool, Web
from gateway.security.caller import Caller, Right
from storage.dicom.identity import Scope
from storage.errors import NotFound
from tests import samples
from tests.seaweed import Seaweed

PATIENCE_SECONDS = 240
BY = Caller("CT1", "127.0.0.1", "dimse", frozenset(Right))
REMOVED = [(1, 2), (1, 4), (2, 1), (2, 2), (3, 1)]
KEPT = [(1, 1), (1, 3)]


def comments(study: int, number: int) -> str:
    return f"about patient {study} in slice {number}."


def pixels(study: int, number: int) -> bytes:
    return random.Random(study * 100 + number).randbytes(512)


def until(backend: Backend, condition: Callable[[], object], what: str) -> None:
    """Wait until it comes true, while the workers are kept awake."""
    assert backend.workers is not None
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        backend.workers.nudge()
        time.sleep(0.1)


def store(backend: Backend, study: int, number: int) -> None:
    made = samples.ct(
        study,
        1,
        number,
        PixelData=pixels(study, number),
        ImageComments=comments(study, number),
        PatientID=f"ID-{study}-",
    )
    with backend.local.incoming() as incoming:
        incoming.write(samples.part10(made))
        backend.local.store(incoming, Expected(), by=BY)


def read_all(backend: Backend, study: int) -> tuple[bytes, bytes]:
    """All instances and all metadata of a study."""
    parts = backend.local.retrieve(Scope(f"{samples.ROOT}.{study}"), accept=[AS_STORED], by=BY)
    data = b"".join(chunk for part in parts for chunk in part.chunks())
    return data, b"".join(row for _, row in backend.local.metadata(Scope(f"{samples.ROOT}.{study}"), by=BY))


def delete(backend: Backend, study: int, number: int | None = None) -> None:
    scope = Scope(f"{samples.ROOT}.{study}")
    if number is not None:
        scope = Scope(scope.study_uid, f"{scope.study_uid}.1", f"{scope.study_uid}.1.{number}")
    backend.local.delete(scope, by=BY)


def places_of(needle: bytes, folder: Path, backend: Backend) -> set[str]:
    """Where it is found: the first folder or file below `folder`, or the store of an object."""
    found: set[str] = set()
    files = (Path(top, name) for top, _, names in os.walk(folder) for name in names)  # folders vanish meanwhile, too
    for path in files:
        try:
            if path.is_file() and needle in laid_open(path.read_bytes()):
                found.add(path.relative_to(folder).parts[0])
        except FileNotFoundError:
            continue  # it was just being removed
    for name, kept in backend.places.stores.items():
        for meta in kept.scan():
            try:
                data = kept.get(meta.key).read()
            except NotFound:
                continue
            if needle in laid_open(data):
                found.add(name)
    return found


def laid_open(data: bytes) -> bytes:
    """The bytes, and what a pack among them has compressed."""
    if not zipfile.is_zipfile(BytesIO(data)):
        return data
    with zipfile.ZipFile(BytesIO(data)) as pack:
        return data + gzip.decompress(pack.read("metadata.json.gz"))


@pytest.fixture
def backend(tmp_path: Path, seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Spool and copies in folders, the archive in a bucket; swept without grace for readers."""
    monkeypatch.setattr(jobs, "Sweeper", partial(Sweeper, grace_seconds=0))
    config = Config(
        data=tmp_path / "data",
        spool=Spool(min_free_bytes=0),
        archive=Archive(url=seaweed.url(seaweed.make_bucket("deleted"), tmp_path.name), seal_after_seconds=0),
        copies=Copies(url=f"file://{tmp_path / 'copies'}"),
        web=Web(listen="127.0.0.1:0"),
    )
    running = compose(config, Role.WORKERS)
    running.start()
    yield running.backend
    running.stop(30)


def test_no_file_and_no_object_holds_what_was_deleted(backend: Backend, tmp_path: Path) -> None:
    places = partial(places_of, folder=tmp_path, backend=backend)
    for study, number in [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2)]:
        store(backend, study, number)
    everywhere = {"archive", "copy", "copies"}
    until(backend, lambda: places(pixels(2, 1)) >= everywhere, "sealed and copied")
    until(backend, lambda: "spool" not in places(pixels(1, 1)), "swept out of the spool")
    for study in (1, 2):
        data, rows = read_all(backend, study)
        assert pixels(study, 2) in data
        assert comments(study, 2).encode() in rows
    assert "data" in places(pixels(1, 2)), "the cache has it, or this test shows nothing"

    store(backend, 3, 1)
    for study, number in [(1, 2), (1, 4), (2, None), (3, None)]:
        delete(backend, study, number)
    data, rows = read_all(backend, 1)
    assert [number for number in range(1, 5) if pixels(1, number) in data] == [1, 3]
    assert [number for number in range(1, 5) if comments(1, number).encode() in rows] == [1, 3]

    for study, number in REMOVED:
        for needle in (pixels(study, number), comments(study, number).encode()):
            until(backend, lambda needle=needle: not places(needle), f"{study}/{number} is still in {places(needle)}")
    for study in (2, 3):
        until(backend, lambda study=study: not places(f"ID-{study}-".encode()), f"patient {study} is still there")
    for study, number in KEPT:
        needle = pixels(study, number)
        until(backend, lambda needle=needle: places(needle) >= everywhere, "compacted and copied anew")
    data, rows = read_all(backend, 1)
    assert [number for number in range(1, 5) if pixels(1, number) in data] == [1, 3]
    assert [number for number in range(1, 5) if comments(1, number).encode() in rows] == [1, 3]
