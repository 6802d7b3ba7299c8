"""Servers that several rooms of tests share, each started once a session when the first test asks for it."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests import ceph as rados
from tests import postgres as postgresql
from tests import seaweed as seaweedfs

settings.register_profile("short", max_examples=40)  # of properties that do not say how many; the long run tries more
settings.register_profile("long", max_examples=200)


def pytest_configure(config: pytest.Config) -> None:
    """Try more examples where the tests that take minutes run too."""
    settings.load_profile("short" if config.getoption("markexpr") == "not long" else "long")


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
