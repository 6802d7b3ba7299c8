"""No search key makes SQLite read the whole archive: every plan goes by an index, or in the order of the results."""

import re
import sqlite3
from collections.abc import Iterator

import pytest

from storage.dicom.attributes import TABLE, Attribute
from storage.dicom.query import Level, Query, key
from storage.index import compile, shelf
from storage.index.session import Prepared, prepared
from storage.index.sqlite import SqliteIndex
from tests.contract import many_studies

STUDIES = 4000
# Keys that many studies share are looked for in the order of results, newest first, until a page is full.
_IN_ORDER = re.compile(r"SCAN studies USING (COVERING )?INDEX ix_studies_order")
_SCANS_NO_TABLE = re.compile(r"SCAN (anon_\d+|json_each.*)( VIRTUAL TABLE.*)?")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteIndex]:
    path = tmp_path_factory.mktemp("index") / "index.sqlite"
    index = SqliteIndex(path)
    connection = sqlite3.connect(path)
    with connection:
        for table, rows in many_studies.batches(STUDIES):
            names = list(rows[0])
            marks = ", ".join(f":{name}" for name in names)
            quoted = ", ".join(f'"{name}"' for name in names)
            connection.executemany(f"INSERT INTO {table.name} ({quoted}) VALUES ({marks})", rows)
    connection.close()
    yield index
    index.close()


def explained(index: SqliteIndex, statement: Prepared, values: dict[str, object]) -> list[str]:
    bound = statement.bind(values | {"limit": 100, "offset": 0} | dict.fromkeys(compile.PLACE_NAMES, ""))
    rows = index._engine.connection.execute("EXPLAIN QUERY PLAN " + statement.sql, bound)
    return [row[3] for row in rows]


def plans(index: SqliteIndex, query: Query) -> list[list[str]]:
    flavour = index._engine.flavour
    if query.level is Level.INSTANCE:
        steps = compile.steps(query, flavour)
        return [explained(index, statement, steps.values) for statement in (steps.first, steps.following)]
    search = compile.search(query, flavour)
    return [explained(index, search.rows, search.values)]


def scans(plan: list[str]) -> list[str]:
    """The steps that read all of a table, or all that is left of one."""
    return [step for step in plan if step.startswith("SCAN") and not _SCANS_NO_TABLE.fullmatch(step)]


def asked(level: Level, **keys: str) -> Query:
    by_keyword = {row.keyword: row.path for row in TABLE}
    return Query(level, tuple(key(by_keyword[name], text) for name, text in keys.items()))


@pytest.mark.parametrize(
    ("attribute", "level"), many_studies.MATCHED, ids=lambda value: getattr(value, "keyword", None)
)
def test_every_key_by_an_exact_value(index: SqliteIndex, attribute: Attribute, level: Level) -> None:
    for plan in plans(index, Query(level, (key(attribute.path, many_studies.text_of(attribute)),))):
        found = scans(plan)
        assert all(_IN_ORDER.match(step) for step in found), plan
        assert not (found and many_studies.is_narrow(attribute)), plan


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize(
    "query",
    [
        asked(Level.STUDY, StudyDate="20200101-20200103"),
        asked(Level.STUDY, StudyDate="20200101-20200103", StudyTime="10-12"),
        asked(Level.STUDY, StudyDate="20200101", ModalitiesInStudy="CT"),
        asked(Level.STUDY, PatientID="P12*"),
        asked(Level.STUDY, PatientName="wang^n123*"),
        asked(Level.STUDY, PatientName="王^*"),
        asked(Level.STUDY, StudyInstanceUID="1.2.3,1.2.4"),
        Query(Level.STUDY, (key(("00100010",), "wn12", fuzzy=True),)),
        Query(Level.STUDY, (key(("00100010",), "王一", fuzzy=True), key(("00080020",), "20200101-20201231"))),
        Query(Level.STUDY, (key(("00080090",), "li7", fuzzy=True),)),
        Query(Level.STUDY, (key(("00100020",), "P12\\P13\\P99*", multiple=True),)),
        Query(Level.STUDY, (key(("00100010",), "wang^n12\\wang^n13", fuzzy=True, multiple=True),)),
    ],
    ids=range(12),
)
def test_ranges_prefixes_and_names(index: SqliteIndex, level: Level, query: Query) -> None:
    for plan in plans(index, Query(level, query.keys)):
        assert not scans(plan), plan


@pytest.mark.parametrize("level", Level)
def test_what_is_empty_or_unknown_is_found_in_the_order_of_results(index: SqliteIndex, level: Level) -> None:
    empty = key(("00100020",), '""', empty=True)
    named = key(("00100020",), "P12")
    for query in (Query(level, (empty,)), Query(level, (named,), match_unknown=True)):
        for plan in plans(index, query):
            assert all(_IN_ORDER.match(step) for step in scans(plan)), plan


def test_names_by_token_use_the_index_of_tokens(index: SqliteIndex) -> None:
    [plan] = plans(index, Query(Level.STUDY, (key(("00100010",), "wn12", fuzzy=True),)))
    assert any("ix_study_names_token (token>? AND token<?)" in step for step in plan), plan


def test_instances_by_uid_use_both_indexes(index: SqliteIndex) -> None:
    for plan in plans(index, asked(Level.INSTANCE, SOPInstanceUID="1.2.3.1.1,1.2.4.1.1")):
        assert any("ix_instances_sop_uid (sop_uid=?)" in step for step in plan), plan
        assert any("sealed_uids USING PRIMARY KEY (uid_hash=?)" in step for step in plan), plan


@pytest.mark.parametrize("level", Level)
def test_what_lies_below_a_study_is_found_from_the_study(index: SqliteIndex, level: Level) -> None:
    series = many_studies.series_uid(5) if level is Level.INSTANCE else None
    for plan in plans(index, Query(level, study_uid=many_studies.study_uid(5), series_uid=series)):
        assert not scans(plan), plan


def test_a_walk_goes_on_from_the_day_it_had_reached(index: SqliteIndex) -> None:
    plan = plans(index, Query(Level.INSTANCE))[1]
    assert any("ix_studies_order (study_date<?)" in step for step in plan), plan


def test_series_to_be_merged_are_found_without_looking_at_the_others(index: SqliteIndex) -> None:
    plan = explained(index, prepared(shelf.CROWDED, index._engine.flavour.dialect), {})
    assert not scans(plan), plan
    assert any("ix_series_crowded" in step for step in plan), plan


def test_the_rows_are_those_of_studies(index: SqliteIndex) -> None:
    page = index.search(Query(Level.STUDY, (key(("00100020",), "P77"),)))
    assert (len(page.rows), page.remaining) == (1, 0)
    assert index.search(Query(Level.SERIES, limit=5)).remaining == STUDIES - 5
    fuzzy = key(("00100010",), "wangn77", fuzzy=True)
    assert len(index.search(Query(Level.STUDY, (fuzzy,), limit=200)).rows) == 11  # 77 and 770 to 779
