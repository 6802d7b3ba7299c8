"""What the index keeps decoded stays within its bounds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storage.dicom.identity import Scope
from storage.index import metadata
from storage.index.packed import Listings
from storage.index.sqlite import SqliteIndex
from tests.contract.index_samples import instance, record
from tests.contract.pack_samples import KeptDocuments, seal
from tests.sealing import SERIES, STUDY


def pack(edition: int, instances: int) -> Any:
    return SimpleNamespace(edition=edition, listing=range(instances))


def test_listings_that_were_not_asked_for_longest_make_way() -> None:
    listings = Listings(10)
    for edition in (1, 2, 3):
        listings.keep(pack(edition, 3))
    assert listings.find(1) is not None
    listings.keep(pack(4, 4))
    assert [edition for edition in (1, 2, 3, 4) if listings.find(edition) is not None] == [1, 3, 4]
    listings.keep(pack(4, 4))
    listings.keep(pack(5, 11))
    assert [edition for edition in (1, 3, 4, 5) if listings.find(edition) is not None] == [1, 3, 4]
    listings.keep(pack(6, 10))
    assert [edition for edition in (1, 3, 4, 6) if listings.find(edition) is not None] == [6]


@pytest.mark.parametrize(("most_bytes", "reads"), [(0, 6), (1 << 20, 2)])
def test_the_metadata_of_packs_that_is_held_while_a_series_is_read_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int, reads: int
) -> None:
    monkeypatch.setattr(metadata, "PACKS_BYTES", most_bytes)
    documents = KeptDocuments()
    index = SqliteIndex(tmp_path / "index.sqlite", documents=documents)
    for numbers in ((1, 3, 5), (2, 4, 6)):
        for number in numbers:
            index.add(record(instance(1, 1, number)))
        seal(index, documents, STUDY, SERIES)
    documents.reads = 0
    found = [identity.sop_uid for identity, _ in index.metadata(Scope(STUDY, SERIES))]
    assert found == [f"{SERIES}.{number}" for number in range(1, 7)]
    assert documents.reads == reads, "two packs in turn: one is held in any case, both when there is room"
    index.close()
