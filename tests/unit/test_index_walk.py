"""The walk through series for instances: its bounds, what remains, and metadata that is in packs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.dicom.query import Level, Query
from storage.errors import Invalid, Unavailable
from storage.index import instance_rows, search, walk
from storage.index.sqlite import SqliteIndex
from tests import samples
from tests.contract.index_samples import ask, firsts, instance, record
from tests.contract.pack_samples import KeptDocuments, seal

STUDY, SERIES = f"{samples.ROOT}.1", f"{samples.ROOT}.1.1"
IMAGE_TYPE = frozenset({"00080008"})  # in the metadata alone


@pytest.fixture
def documents() -> KeptDocuments:
    return KeptDocuments()


@pytest.fixture
def index(tmp_path: Path, documents: KeptDocuments) -> Iterator[SqliteIndex]:
    index = SqliteIndex(tmp_path / "index.sqlite", documents=documents)
    yield index
    index.close()


def fill(index: SqliteIndex, studies: int = 1, series: int = 1, instances: int = 1) -> None:
    for study in range(1, studies + 1):
        for one in range(1, series + 1):
            for number in range(1, instances + 1):
                index.add(record(instance(study, one, number)))


def uid(study: int, series: int, number: int) -> str:
    return f"{samples.ROOT}.{study}.{series}.{number}"


def test_whole_series_are_passed_by_and_counted(index: SqliteIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(index, studies=2, series=3, instances=2)
    everything = firsts(index, ask(Level.INSTANCE), "SOPInstanceUID")
    assert len(everything) == 12
    monkeypatch.setattr(walk, "MAX_OPENED", 2)  # enough for a page, wherever it lies
    for offset in range(13):
        page = index.search(ask(Level.INSTANCE, offset=offset, limit=3))
        assert [row["00080018"]["Value"][0] for row in page.rows] == everything[offset : offset + 3]
        assert (page.remaining, page.remaining_is_exact) == (max(0, 9 - offset), True)
    assert index.search(ask(Level.INSTANCE, limit=0, offset=4)).remaining == 8


def test_batches_go_on_where_the_last_one_ended(index: SqliteIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    for study, date in ((1, "20260101"), (2, "20260101"), (3, ""), (4, "20250101")):
        for series, number in ((1, 5), (2, None), (3, 5), (4, None), (5, 1)):
            index.add(record(instance(study, series, 1, StudyDate=date, StudyTime="10", SeriesNumber=number)))
    whole = firsts(index, ask(Level.SERIES), "SeriesInstanceUID")
    for first_size, size in ((1, 1), (2, 3), (3, 2), (20, 1)):
        monkeypatch.setattr(walk, "STEPS_AT_FIRST", first_size)
        monkeypatch.setattr(walk, "MOST_STEPS", size)
        assert firsts(index, ask(Level.INSTANCE), "SeriesInstanceUID") == whole


def test_what_remains_is_counted_so_far(index: SqliteIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(index, studies=8)
    monkeypatch.setattr(search, "MAX_COUNTED", 3)
    page = index.search(ask(Level.INSTANCE, limit=2))
    assert (page.remaining, page.remaining_is_exact) == (3, False)
    page = index.search(ask(Level.INSTANCE, limit=5))
    assert (page.remaining, page.remaining_is_exact) == (3, True)


def test_few_series_are_opened_only_to_count(index: SqliteIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(index, studies=8)
    monkeypatch.setattr(walk, "MAX_OPENED_TO_COUNT", 2)
    page = index.search(ask(Level.INSTANCE, {"InstanceNumber": "1"}, limit=3))
    assert (len(page.rows), page.remaining, page.remaining_is_exact) == (3, 2, False)
    page = index.search(ask(Level.INSTANCE, {"InstanceNumber": "1"}, limit=6))
    assert (len(page.rows), page.remaining, page.remaining_is_exact) == (6, 2, True)


def test_a_search_through_the_whole_archive_is_refused_not_cut(
    index: SqliteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(index, studies=6)
    index.add(record(instance(1, 1, 2)))
    monkeypatch.setattr(walk, "MAX_OPENED", 4)
    with pytest.raises(Invalid, match="name a study"):
        index.search(ask(Level.INSTANCE, {"InstanceNumber": "2"}))
    assert len(index.search(ask(Level.INSTANCE, {"InstanceNumber": "2"}, study_uid=STUDY)).rows) == 1
    page = index.search(ask(Level.INSTANCE, {"InstanceNumber": "1"}, limit=4))
    assert (len(page.rows), page.remaining, page.remaining_is_exact) == (4, 1, False)


def test_uids_and_classes_are_looked_for_where_they_can_be(
    index: SqliteIndex, documents: KeptDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(index, studies=6, instances=2)
    index.add(record(instance(3, 1, 3, SOPClassUID="1.2.3")))
    seal(index, documents, f"{samples.ROOT}.2", f"{samples.ROOT}.2.1")
    monkeypatch.setattr(walk, "MAX_OPENED", 2)
    wanted = ",".join([uid(2, 1, 2), uid(5, 1, 1), uid(9, 9, 9)])
    assert sorted(firsts(index, ask(Level.INSTANCE, {"SOPInstanceUID": wanted}), "SOPInstanceUID")) == [
        uid(2, 1, 2),
        uid(5, 1, 1),
    ]
    assert firsts(index, ask(Level.INSTANCE, {"SOPClassUID": "1.2.3"}), "SOPInstanceUID") == [uid(3, 1, 3)]


def test_answers_are_the_same_before_and_after_sealing(index: SqliteIndex, documents: KeptDocuments) -> None:
    fill(index, instances=6)
    index.add(record(instance(1, 1, 7, InstanceNumber=None)))
    asked = [
        Query(Level.INSTANCE),
        Query(Level.INSTANCE, include_all=True),
        Query(Level.INSTANCE, study_uid=STUDY, series_uid=SERIES, include=IMAGE_TYPE, offset=2, limit=3),
        ask(Level.INSTANCE, {"InstanceNumber": "4"}, include_all=True),
        ask(Level.INSTANCE, {"SOPInstanceUID": uid(1, 1, 5)}),
    ]
    before = [index.search(query) for query in asked]
    seal(index, documents, STUDY, SERIES, most=3)
    assert [index.search(query) for query in asked] == before
    seal(index, documents, STUDY, SERIES)
    assert [index.search(query) for query in asked] == before


def test_metadata_of_packs_is_read_only_when_it_is_asked_for(index: SqliteIndex, documents: KeptDocuments) -> None:
    fill(index, instances=4)
    seal(index, documents, STUDY, SERIES)
    reads = documents.reads
    assert len(index.search(ask(Level.INSTANCE, study_uid=STUDY, series_uid=SERIES)).rows) == 4
    assert documents.reads == reads
    index.search(ask(Level.INSTANCE, study_uid=STUDY, include=IMAGE_TYPE))
    assert documents.reads == reads + 1


@pytest.mark.parametrize("sealed", [None, 2, 5])
def test_a_page_ends_where_its_metadata_is_too_long(
    index: SqliteIndex, documents: KeptDocuments, monkeypatch: pytest.MonkeyPatch, sealed: int | None
) -> None:
    fill(index, instances=5)
    if sealed:
        seal(index, documents, STUDY, SERIES, most=sealed)
    everything = index.search(Query(Level.INSTANCE, include_all=True)).rows
    size = len(instance().metadata)
    for most, rows in ((1, 1), (size * 5 // 2, 2), (size * 10, 5)):
        monkeypatch.setattr(walk, "MAX_METADATA_BYTES", most)
        monkeypatch.setattr(instance_rows, "MAX_METADATA_BYTES", most)
        page = index.search(Query(Level.INSTANCE, include_all=True))
        assert page.rows == everything[:rows]
        assert (page.remaining, page.remaining_is_exact) == (5 - rows, True)


def test_without_documents_only_what_needs_them_fails(tmp_path: Path, documents: KeptDocuments) -> None:
    path = tmp_path / "index.sqlite"
    index = SqliteIndex(path, documents=documents)
    fill(index, instances=2)
    seal(index, documents, STUDY, SERIES)
    index.close()
    index = SqliteIndex(path)
    assert len(index.search(Query(Level.INSTANCE)).rows) == 2
    with pytest.raises(Unavailable):
        index.search(Query(Level.INSTANCE, include=IMAGE_TYPE))
    index.close()
