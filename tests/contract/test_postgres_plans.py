"""No search key makes PostgreSQL read the whole archive: each goes by an index and meets few rows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

from storage.dicom.attributes import BY_PATH, TABLE, Attribute, Home
from storage.dicom.query import Level, Query, key
from storage.index import compile, shelf
from storage.index.postgres import PostgresIndex
from storage.index.postgres_connections import Server
from storage.index.session import Prepared, prepared
from tests.contract import many_studies
from tests.postgres import Postgres

FEW, MANY = 2_000, 200_000
FEW_ROWS = 3_000  # that the answer to a key of which few studies have the same value may meet
# Likewise of a key whose values many share: a page of 100 of which one in 300 has, in three tables.
SHARED_ROWS = 120_000


class Step(NamedTuple):
    """A node of a plan that was run."""

    kind: str
    table: str
    rows: float


class Plans:
    """An index of many studies, and how it answers."""

    def __init__(self, url: str, studies: int) -> None:
        self.index = PostgresIndex(url)
        self.studies = studies
        self._connection: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True)
        for table, rows in many_studies.batches(studies):
            names = ", ".join(f'"{name}"' for name in rows[0])
            with self._connection.cursor().copy(f"COPY {table.name} ({names}) FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(tuple(row.values()))
        self._connection.execute("VACUUM ANALYZE")
        self._connection.close()
        self._connection = Server(url).connect_to_read()

    def of(self, query: Query) -> list[Step]:
        """The scans of all statements that find the first page."""
        flavour = self.index._engine.flavour
        if query.level is Level.INSTANCE:
            steps = compile.steps(query, flavour)
            return self._run(steps.first, steps.values)
        search = compile.search(query, flavour)
        return self._run(search.rows, search.values)

    def _run(self, statement: Prepared, values: dict[str, object]) -> list[Step]:
        bound = statement.bind(values | {"limit": 100, "offset": 0})
        text = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement.sql}".encode()
        row = self._connection.execute(text, bound).fetchone()
        assert row is not None
        return list(scans(row[0][0]["Plan"]))

    def close(self) -> None:
        self._connection.close()
        self.index.close()


def scans(node: dict[str, Any]) -> Iterator[Step]:
    if "Relation Name" in node or "Index Name" in node:
        met = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        yield Step(node["Node Type"], node.get("Relation Name", node.get("Index Name")), met * node["Actual Loops"])
    for below in node.get("Plans", ()):
        yield from scans(below)


@pytest.fixture(scope="module", params=[FEW, pytest.param(MANY, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def plans(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[Plans]:
    plans = Plans(postgres.url(postgres.make_database()), request.param)
    yield plans
    plans.close()


@pytest.mark.parametrize(
    ("attribute", "level"), many_studies.MATCHED, ids=lambda value: getattr(value, "keyword", None)
)
def test_every_key_by_an_exact_value(plans: Plans, attribute: Attribute, level: Level) -> None:
    steps = plans.of(Query(level, (key(attribute.path, many_studies.text_of(attribute)),)))
    assert steps and not [step for step in steps if step.kind == "Seq Scan"]
    most = FEW_ROWS if many_studies.is_narrow(attribute) else SHARED_ROWS
    assert sum(step.rows for step in steps) <= most, steps


BY_KEYWORD = {row.keyword: row.path for row in TABLE}
NAME = BY_KEYWORD["PatientName"]


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize(
    "keys",
    [
        {"StudyDate": "20180101-20180103"},
        {"StudyDate": "20180101-20180103", "StudyTime": "10-12"},
        {"StudyDate": many_studies.day(many_studies.ONE), "ModalitiesInStudy": "CT"},
        {"PatientID": "P123*"},
        {"PatientName": "wang^n123*"},
        {"AccessionNumber": "A1234"},
        {"StudyInstanceUID": "1.2.3,1.2.4"},
    ],
    ids=lambda keys: "+".join(keys),
)
def test_ranges_prefixes_and_lists(plans: Plans, level: Level, keys: dict[str, str]) -> None:
    steps = plans.of(Query(level, tuple(key(BY_KEYWORD[name], text) for name, text in keys.items())))
    assert not [step for step in steps if step.kind == "Seq Scan"]
    assert sum(step.rows for step in steps) <= FEW_ROWS, steps


@pytest.mark.parametrize("text", ["wn1234", "wangn123", "王一"])
def test_names_by_what_can_be_typed(plans: Plans, text: str) -> None:
    steps = plans.of(Query(Level.STUDY, (key(NAME, text, fuzzy=True),)))
    assert not [step for step in steps if step.kind == "Seq Scan"]
    assert sum(step.rows for step in steps) <= FEW_ROWS, steps
    assert any("study_names" in step.table for step in steps)


def test_what_lies_below_a_study_is_in_one_partition(plans: Plans) -> None:
    scope = {"study_uid": many_studies.study_uid(5)}
    for query in (Query(Level.SERIES, **scope), Query(Level.INSTANCE, **scope, series_uid=many_studies.series_uid(5))):
        steps = plans.of(query)
        assert len([step for step in steps if step.table.startswith("series_") and step.rows]) == 1
        assert sum(step.rows for step in steps) <= 10


def test_series_to_be_merged_are_found_without_looking_at_the_others(plans: Plans) -> None:
    statement = prepared(shelf.CROWDED, plans.index._engine.flavour.dialect)
    assert sum(step.rows for step in plans._run(statement, {})) <= 10


def test_all_attributes_are_tried() -> None:
    assert {attribute.path for attribute, _ in many_studies.MATCHED} == {
        path for path, row in BY_PATH.items() if row.home is not Home.NOWHERE
    }
