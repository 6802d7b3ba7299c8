"""Searches by the query string of a QIDO-RS request, answered from an index."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gateway.config import Web
from gateway.web import search_request
from storage.dicom.instance import JsonDataset
from storage.dicom.level import Level
from storage.index.sqlite import SqliteIndex
from tests.contract.index_samples import instance, record
from tests.samples import ROOT


@dataclass
class Catalogue:
    """An index of studies by number, and the settings of the web door."""

    index: SqliteIndex
    settings: Web

    @classmethod
    def opened(cls, folder: Path, **settings: Any) -> Self:
        folder.mkdir(exist_ok=True)
        return cls(SqliteIndex(folder / "index.sqlite"), Web(**settings))

    def keep(self, study: int, series: int = 1, number: int = 1, **changes: Any) -> None:
        self.index.add(record(instance(study, series, number, **changes)))

    def rows(self, query: str, level: Level = Level.STUDY, **parents: str) -> list[JsonDataset]:
        """The results, without RetrieveURL. Raises Invalid, Refused."""
        asked, _ = search_request.read(query.encode(), level, self.settings, **parents)
        return self.index.search(asked).rows

    def find(self, query: str, level: Level = Level.STUDY, **parents: str) -> list[int]:
        """The numbers of the studies found, in ascending order."""
        return sorted(int(row["0020000D"]["Value"][0].rpartition(".")[2]) for row in self.rows(query, level, **parents))


def study_uid(study: int) -> str:
    return f"{ROOT}.{study}"


def series_uid(study: int, series: int = 1) -> str:
    return f"{ROOT}.{study}.{series}"
