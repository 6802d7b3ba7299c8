"""A web door on a free port, with an archive in memory behind it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import metrics
from gateway.config import Web
from gateway.security.caller import Caller, Right
from gateway.web.app import build
from gateway.web.server import WebServer
from tests import samples
from tests.web.fake_archive import FakeArchive, read


@dataclass
class Door:
    """A running web door and what is behind it."""

    archive: FakeArchive
    server: WebServer
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    @property
    def root(self) -> str:
        host, port = self.server.address
        return f"http://{host}:{port}"

    @property
    def url(self) -> str:
        return self.root + "/dicomweb"

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(self.url + path, headers=headers)

    def keep(self, *files: bytes) -> None:
        """Put instances into the archive behind the door."""
        for file in files:
            stored = read(file)
            self.archive.instances[stored.identity.sop_uid] = stored


def everybody(_: str | None, address: str) -> Caller:
    return Caller("anonymous", address, "web", frozenset(Right))


@contextmanager
def opened(
    folder: Path,
    authenticate: Callable[[str | None, str], Caller] = everybody,
    *,
    hosts: list[str] | None = None,
    **settings: Any,
) -> Iterator[Door]:
    """A door with these settings, closed at the end."""
    archive = FakeArchive(folder)
    web = Web(listen="127.0.0.1:0", **settings)
    app = build(archive, authenticate, web, ready=archive.check, metrics_text=metrics.render, hosts=hosts)
    server = WebServer(app, web)
    server.start()
    door = Door(archive, server)
    try:
        with door.client:
            yield door
    finally:
        if archive.gate is not None:
            archive.gate.set()
        server.stop(5)


@pytest.fixture(scope="session")
def _shared_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with opened(tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.fixture
def door(_shared_door: Door, tmp_path: Path) -> Iterator[Door]:
    """One server for all tests (to stop one takes a while), with an archive made anew for each."""
    _shared_door.archive.__init__(tmp_path)  # type: ignore[misc]
    yield _shared_door
    assert _shared_door.archive.gate is None, "a test that holds requests back opens a door of its own"


@pytest.fixture
def ct(door: Door) -> Door:
    """The door with two studies: one of two series of two instances, one of a single instance."""
    door.keep(*(samples.part10(samples.ct(1, series, number)) for series in (1, 2) for number in (1, 2)))
    door.keep(samples.part10(samples.ct(2)))
    return door
