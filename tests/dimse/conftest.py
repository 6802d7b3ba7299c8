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

MISSING = [name for name in ("storescu", "echoscu", "storescp") if shutil.which(name) is None]
# The one way to leave tests of dcmtk out; where everything must run (CI=true) they run, and fail for want of it.
requires_dcmtk = pytest.mark.skipif(
    bool(MISSING) and os.environ.get("CI") != "true", reason=f"dcmtk is not installed: no {', '.join(MISSING)} on PATH"
)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud what did not run."""
    if MISSING:
        terminalreporter.write_line(f"NOT RUN without dcmtk ({', '.join(MISSING)}): the tests of real DIMSE peers")


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
