"""Servers that several rooms of tests share, each started once a session when the first test asks for it."""

from collections.abc import Iterator

import pytest

from tests import ceph as rados
from tests import postgres as postgresql
from tests import seaweed as seaweedfs


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweedfs.Seaweed]:
    """An S3 server, for tests that do not kill it."""
    with seaweedfs.seaweed(tmp_path_factory.mktemp("seaweed") / "server") as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgresql.Postgres]:
    """A PostgreSQL, for tests that do not kill it."""
    with postgresql.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rados.Ceph]:
    """Another S3 server, from the distribution's packages: only for tests that take long."""
    if reason := rados.why_not():
        pytest.skip(f"Ceph cannot run here: {reason}")
    with rados.ceph(tmp_path_factory.mktemp("ceph") / "server") as server:
        yield server
