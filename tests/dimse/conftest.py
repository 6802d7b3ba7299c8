"""Fixtures of the DIMSE door: a server over an archive that remembers, and the real peers."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.config import Dimse, Security
from gateway.dimse.server import DimseServer
from gateway.security.ae_rules import AERules
from tests.dimse.peers import RawPeer, RememberingArchive

DCMTK = ("storescu", "echoscu", "storescp")
missing_dcmtk = [name for name in DCMTK if shutil.which(name) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without dcmtk its tests fail where everything must run (CI=true), and are skipped aloud elsewhere."""
    if not missing_dcmtk or os.environ.get("CI") == "true":
        return
    reason = f"dcmtk is not installed: no {', '.join(missing_dcmtk)} on PATH"
    for item in items:
        if "requires_dcmtk" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def requires_dcmtk() -> None:
    assert not missing_dcmtk, f"dcmtk is not installed: no {', '.join(missing_dcmtk)} on PATH"


@pytest.fixture
def archive() -> Iterator[RememberingArchive]:
    archive = RememberingArchive()
    yield archive
    assert list(archive.folder.iterdir()) == [], "a temporary file was left behind"
    archive.folder.rmdir()


Serve = Callable[..., DimseServer]


@pytest.fixture
def serve(archive: RememberingArchive) -> Iterator[Serve]:
    """Start a server with these settings of [dimse] (and `security`) on a free port; stopped after the test."""
    servers: list[DimseServer] = []

    def start(*, security: Security | None = None, reuse_port: bool = False, **settings: Any) -> DimseServer:
        dimse = Dimse(**{"listen": "127.0.0.1:0", **settings})
        rules = AERules(dimse, security or Security())
        server = DimseServer(archive, rules, dimse, reuse_port=reuse_port)
        server.start()
        servers.append(server)
        return server

    yield start
    archive.hold.set()
    for server in servers:
        server.stop(5)


@pytest.fixture
def server(serve: Serve) -> DimseServer:
    return serve()


@pytest.fixture
def peer(server: DimseServer) -> Iterator[RawPeer]:
    with RawPeer(server.address) as peer:
        yield peer
