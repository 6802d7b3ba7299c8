"""The indexes that the contract suites run over. An implementation joins by one more entry of `ENGINES`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from storage.index import Documents, PackingIndex
from storage.index.postgres import PostgresIndex
from storage.index.sqlite import SqliteIndex
from tests.contract.pack_samples import KeptDocuments


class Open(Protocol):
    """Opens the same index as often as it is called, as several processes would; all are closed at the end."""

    def __call__(self, documents: Documents | None = None) -> PackingIndex: ...


def _sqlite(folder: Path, _request: pytest.FixtureRequest) -> Open:
    return lambda documents=None: SqliteIndex(folder / "folder" / "index.sqlite", documents=documents)


def _postgresql(_folder: Path, request: pytest.FixtureRequest) -> Open:
    url = request.getfixturevalue("postgres").empty_index()
    return lambda documents=None: PostgresIndex(url, documents=documents)


# For each engine: from a folder of its own, and the request that other fixtures can be had of, to what opens an index.
ENGINES: dict[str, Callable[[Path, pytest.FixtureRequest], Open]] = {"postgresql": _postgresql, "sqlite": _sqlite}


@pytest.fixture(params=sorted(ENGINES))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """An `Open` for each engine."""
    open_one = ENGINES[request.param](tmp_path, request)
    indexes: list[PackingIndex] = []

    def open_and_keep(documents: Documents | None = None) -> PackingIndex:
        indexes.append(open_one(documents))
        return indexes[-1]

    yield open_and_keep
    for index in indexes:
        index.close()


@pytest.fixture
def index(opened: Open) -> PackingIndex:
    return opened()


@pytest.fixture(scope="module")
def lasting_documents() -> KeptDocuments:
    return KeptDocuments()


@pytest.fixture(scope="module", params=sorted(ENGINES))
def lasting_index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, lasting_documents: KeptDocuments
) -> Iterator[PackingIndex]:
    """One index for all tests of a module."""
    index = ENGINES[request.param](tmp_path_factory.mktemp("index"), request)(lasting_documents)
    yield index
    index.close()
