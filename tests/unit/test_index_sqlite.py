"""What is SQLite's own: migrations, plans that use the indexes, processes side by side, disks that fail."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from storage.dicom.identity import Scope
from storage.dicom.query import Level, Query
from storage.errors import Exhausted, Fault, Invalid, Unavailable
from storage.index import Outcome, compile, connections, schema
from storage.index.compile import Flavour
from storage.index.connections import Readers, translated
from storage.index.session import Statements
from storage.index.sqlite import SqliteIndex, glob
from tests.contract.index_samples import ask, first, instance, json_instance, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite"


@pytest.fixture
def index(path: Path) -> Iterator[SqliteIndex]:
    index = SqliteIndex(path)
    yield index
    index.close()


class TestMigrations:
    def test_they_make_the_schema_that_is_declared(self, index: SqliteIndex, path: Path) -> None:
        engine = create_engine(f"sqlite:///{path}")
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
        engine.dispose()

    def test_the_plain_declaration_has_the_same_indexes(self, index: SqliteIndex, path: Path) -> None:
        declared = create_engine("sqlite://")
        schema.metadata.create_all(declared)
        query = "SELECT name FROM sqlite_master WHERE name NOT LIKE '%alembic%' ORDER BY name"
        with declared.connect() as connection:
            expected = connection.exec_driver_sql(query).fetchall()
        declared.dispose()
        assert _rows(path, query) == [tuple(row) for row in expected]

    def test_the_newest_is_the_one_that_the_schema_names(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
        assert ScriptDirectory.from_config(config).get_heads() == [schema.REVISION]

    @pytest.mark.parametrize("form", ["0001", "9999"])
    def test_an_index_of_a_form_that_is_not_known_is_refused(self, path: Path, form: str) -> None:
        SqliteIndex(path).close()
        _run(path, f"UPDATE alembic_version SET version_num = '{form}'")
        with pytest.raises(Unavailable, match=f"form {form}.*gateway reindex"):
            SqliteIndex(path)

    def test_many_open_a_new_index_at_once(self, path: Path) -> None:
        with ThreadPoolExecutor(6) as threads:
            opened = [threads.submit(SqliteIndex, path) for _ in range(6)]
        for one in opened:
            one.result().close()

    def test_what_is_no_database_is_refused(self, path: Path) -> None:
        path.write_bytes(b"something else, surely" * 100)
        with pytest.raises(Unavailable):
            SqliteIndex(path)
        assert path.read_bytes().startswith(b"something else")

    def test_a_folder_that_cannot_be_made_is_said_so(self, path: Path) -> None:
        path.write_bytes(b"")
        with pytest.raises(Unavailable, match="folder"):
            SqliteIndex(path / "below" / "index.sqlite")


def _rows(path: Path, query: str) -> list[tuple[str]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _run(path: Path, command: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(command)
    connection.close()


FILL = """
CREATE TEMP TABLE n AS
    WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {studies}) SELECT n FROM c;
INSERT INTO studies
    SELECT n, '1.2.' || n, 20000101 + n % 9999, '100000.000000', '1', '1', 1, 1, 'CT', '1', '{{}}' FROM n;
INSERT INTO series SELECT n, n, '1.2.' || n || '.1', 1, '', '', '1', 1, 1, 1, 1, 0, '{{}}' FROM n;
INSERT INTO instances
    SELECT n, n, n, '1.2.' || n || '.1.1', '1', 1, x'00', '1', 's', 'k', 0, 1, 0, x'00', 1, 1, 't', NULL, '{{}}' FROM n;
INSERT INTO study_values SELECT n, '00100020', 0, 0, 'P' || n FROM n;
INSERT INTO study_values SELECT n, '00080050', 0, 0, 'A' || n FROM n;
INSERT INTO study_values SELECT n, '00100010', 0, 0, 'name' || n || '^x' FROM n;
INSERT INTO study_values SELECT n, '00100040', 0, 0, 'M' FROM n;
INSERT INTO series_values SELECT n, n, '00080060', 0, 0, 'CT' FROM n;
"""


def _fill(path: Path, studies: int) -> None:
    """So many studies of one series and instance, without the cost of adding them one by one."""
    connection = sqlite3.connect(path)
    connection.executescript("BEGIN;" + FILL.format(studies=studies) + "COMMIT;")
    connection.close()


@pytest.mark.parametrize(
    ("level", "keys", "uses"),
    [
        (Level.STUDY, {"PatientID": "P77"}, "ix_study_values_value (path=? AND value=?)"),
        (Level.STUDY, {"AccessionNumber": "A77", "PatientSex": "M"}, "ix_study_values_value (path=? AND value=?)"),
        (Level.STUDY, {"PatientName": "name777*"}, "ix_study_values_value (path=? AND value>? AND value<?)"),
        (Level.STUDY, {"StudyDate": "20000115"}, "ix_studies_order (study_date=?)"),
        (Level.STUDY, {"StudyDate": "20000115-20000117"}, "ix_studies_order (study_date>? AND study_date<?)"),
        (Level.STUDY, {"StudyInstanceUID": "1.2.3"}, "(study_uid=?)"),
        (Level.STUDY, {}, "studies USING INDEX ix_studies_order"),
        (Level.STUDY, {"StudyInstanceUID": "1.2.3,1.2.4"}, "(study_uid=?)"),
        (Level.INSTANCE, {"SOPInstanceUID": "1.2.3.1.1,1.2"}, "ix_instances_sop_uid (sop_uid=?)"),
        (Level.STUDY, {"SOPClassesInStudy": "1.2,1.3"}, "study_values_1 USING PRIMARY KEY (study_id=? AND path=?)"),
        (Level.SERIES, {"SeriesInstanceUID": "1.2.3.1"}, "ix_series_series_uid (series_uid=?)"),
        (Level.INSTANCE, {"SOPInstanceUID": "1.2.3.1.1"}, "ix_instances_sop_uid (sop_uid=?)"),
        (Level.INSTANCE, {"PatientID": "P77"}, "ix_study_values_value (path=? AND value=?)"),
        (Level.INSTANCE, {}, "studies USING COVERING INDEX ix_studies_order"),
        (Level.INSTANCE, {"SOPClassUID": "1"}, "studies USING COVERING INDEX ix_studies_order"),
        (Level.SERIES, {"Modality": "CT"}, "studies USING INDEX ix_studies_order"),
        (Level.SERIES, {"RequestAttributesSequence.00401001": "R"}, "ix_series_values_value (path=? AND value=?)"),
    ],
)
def test_searches_use_the_indexes(
    index: SqliteIndex, path: Path, level: Level, keys: dict[str, str], uses: str
) -> None:
    _fill(path, 2000)
    query, flavour = ask(level, keys), index._engine.flavour
    if level is Level.INSTANCE:
        steps = compile.steps(query, flavour)
        statement, values = steps.first, steps.values
    else:
        search = compile.search(query, flavour)
        statement, values = search.rows, search.values
    connection = sqlite3.connect(path)
    bound = statement.bind(values | {"limit": 100, "offset": 0})
    plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement.sql, bound)]
    connection.close()
    assert any(uses in step for step in plan), plan
    scans = [step for step in plan if step.startswith("SCAN") and "ix_studies_order" not in step and "anon" not in step]
    assert not scans, plan


def test_further_matches_are_counted_up_to_a_bound(index: SqliteIndex, path: Path) -> None:
    _fill(path, 10_200)
    page = index.search(ask(Level.STUDY, limit=100))
    assert (page.remaining, page.remaining_is_exact) == (10_000, False)
    page = index.search(ask(Level.STUDY, limit=100, offset=100))
    assert (page.remaining, page.remaining_is_exact) == (10_000, True)


@pytest.mark.long
def test_searches_are_quick_at_200_000_studies(index: SqliteIndex, path: Path) -> None:
    import time

    _fill(path, 200_000)
    queries = [
        ask(Level.STUDY, {"PatientID": "P77777"}),
        ask(Level.STUDY, {"PatientName": "name7777*"}),
        ask(Level.STUDY, {"StudyDate": "20000115-20000117"}),
        ask(Level.STUDY, {}),
        ask(Level.INSTANCE, {"PatientID": "P77777"}),
    ]
    for query in queries:
        started = time.perf_counter()
        assert index.search(query).rows
        assert time.perf_counter() - started < 0.1


class TestFaults:
    def test_a_bad_record_does_not_sink_the_others_of_its_group(self, index: SqliteIndex) -> None:
        good = [record(instance(1, 1, number)) for number in range(8)]
        bad = record(instance(2), source="\ud800")  # cannot be encoded
        blocker = sqlite3.connect(index._engine.readers._path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        results: list[object] = []

        def add(one: object) -> None:
            try:
                results.append(index.add(one).outcome)  # type: ignore[arg-type]
            except UnicodeEncodeError:
                results.append("refused")

        threads = [threading.Thread(target=add, args=[each]) for each in (*good, bad)]
        for each in threads:
            each.start()
        blocker.execute("ROLLBACK")
        blocker.close()
        for each in threads:
            each.join()
        assert sorted(map(str, results)) == [*[str(Outcome.NEW)] * 8, "refused"]
        assert len(index.search(Query(Level.INSTANCE)).rows) == 8

    def test_a_full_disk_is_exhausted_and_leaves_nothing_half(self, index: SqliteIndex) -> None:
        index.add(record(instance(1)))
        pages = index._engine.connection.execute("PRAGMA page_count").fetchone()[0]
        index._engine.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Exhausted, match="full"):
            for number in range(2, 60):
                index.add(record(instance(1, number)))
        index._engine.connection.execute("PRAGMA max_page_count = 1000000")
        [row] = index.search(ask(Level.STUDY)).rows
        assert first(row, "NumberOfStudyRelatedInstances") == len(index.search(Query(Level.INSTANCE)).rows)
        index.add(record(instance(3)))

    def test_an_index_that_another_locks_for_too_long_is_unavailable(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "BUSY_SECONDS", 0.05)
        index = SqliteIndex(path)
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="BUSY"):
            index.add(record(instance()))
        blocker.execute("ROLLBACK")
        blocker.close()
        index.add(record(instance()))
        index.close()

    def test_what_is_larger_than_a_row_can_be_is_invalid(self, index: SqliteIndex) -> None:
        long = {"00104000": {"vr": "LT", "Value": ["x" * 100_000]}}
        index._engine.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 50_000)
        with pytest.raises(Invalid) as raised:
            index.add(record(json_instance(instance().dataset | long)))
        assert raised.value.fault is Fault.TOO_LARGE
        assert index.add(record(instance())).outcome is Outcome.NEW

    def test_commits_reach_the_disk_before_they_are_answered(self, index: SqliteIndex) -> None:
        full = 2
        assert index._engine.connection.execute("PRAGMA synchronous").fetchone() == (full,)
        assert index._engine.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_errors_of_sqlite_carry_no_values(self) -> None:
        connection = sqlite3.connect(":memory:")
        with pytest.raises(Unavailable) as raised, translated():
            connection.execute("SELECT * FROM 'Wang^XiaoDong'")
        assert "Wang" not in str(raised.value)
        connection.close()

    def test_too_many_readers_are_exhausted(self, index: SqliteIndex, path: Path) -> None:
        readers = Readers(path, Statements(index._engine.flavour.dialect), most=1, wait_seconds=0.01)
        with readers.session(), pytest.raises(Exhausted), readers.session():
            pass
        with readers.session() as session:
            assert session.execute(_COUNT, {}).fetchone() == (0,)
        readers.close()


_COUNT = compile.Prepared("SELECT count(*) FROM studies", ())


@pytest.mark.parametrize("pattern", ["a[b]*", "[[", "]*[", "*[!x]?"])
def test_brackets_are_literal(pattern: str) -> None:
    connection = sqlite3.connect(":memory:")
    stored = pattern.replace("*", "zz").replace("?", "z")
    assert connection.execute("SELECT ? GLOB ?", (stored, glob(pattern))).fetchone() == (1,)
    assert (
        connection.execute("SELECT ? GLOB ?", ("b" + stored[1:], glob(pattern))).fetchone() == (0,) or pattern[0] == "*"
    )
    connection.close()


def test_statements_of_one_shape_are_compiled_once(index: SqliteIndex) -> None:
    flavour: Flavour = index._engine.flavour
    one = compile.search(ask(Level.STUDY, {"PatientID": "1"}), flavour)
    other = compile.search(ask(Level.STUDY, {"PatientID": "2"}), flavour)
    assert one.rows is other.rows and one.values != other.values


@pytest.mark.parametrize(("level", "name"), [(Level.INSTANCE, "SOPInstanceUID"), (Level.STUDY, "SOPClassesInStudy")])
def test_lists_of_uids_of_every_length_are_one_statement(index: SqliteIndex, level: Level, name: str) -> None:
    queries = [ask(level, {name: ",".join(f"1.{n}" for n in range(length))}) for length in (2, 3, 4096)]
    compiled = compile.steps if level is Level.INSTANCE else compile.search
    one, other, longest = (compiled(each, index._engine.flavour)[0] for each in queries)
    assert one is other is longest


def test_two_processes_add_to_one_new_study(path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from storage.index.sqlite import SqliteIndex\n"
        "from tests.contract.index_samples import instance, record\n"
        "made = [record(instance(1, 1 + n % 3, n)) for n in range(int(sys.argv[2]), 60, 2)]\n"
        "index = SqliteIndex(Path(sys.argv[1]))\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "[index.add(each) for each in made]\nindex.close()\n"
    )
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, path, str(n)], cwd=root, stdin=-1, stdout=-1, text=True)
        for n in (0, 1)
    ]
    for each in processes:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in processes:
        each.communicate("go\n", timeout=60)
    assert [each.returncode for each in processes] == [0, 0]
    index = SqliteIndex(path)
    [row] = index.search(ask(Level.STUDY)).rows
    assert (first(row, "NumberOfStudyRelatedSeries"), first(row, "NumberOfStudyRelatedInstances")) == (3, 60)
    assert [change.seq for change in index.changes(0, 100)] == list(range(1, 61))
    index.close()


class TestWhatWasDeleted:
    def test_is_overwritten_in_the_file_and_in_its_journal(self, index: SqliteIndex, path: Path) -> None:
        secret = b"Nobody^ShallRead"
        for number in range(1, 20):
            comments = f"{secret.decode()} {'long ' * 1000}" if number % 2 else "harmless"
            index.add(record(instance(1, 1, number, PatientComments=comments, PatientName=secret.decode())))
        index.add(record(instance(2, 1, 1)))
        index.remove(Scope(instance(1).identity.study_uid))
        assert secret in held(path), "or this test shows nothing"
        assert index.empty_journal()
        assert secret not in held(path)
        assert len(index.search(ask(Level.STUDY)).rows) == 1

    def test_is_left_for_later_while_somebody_reads(self, index: SqliteIndex, path: Path) -> None:
        index.add(record(instance()))
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM studies").fetchall()
        index.add(record(instance(2)))
        assert not index.empty_journal()
        reader.close()
        assert index.empty_journal()


def held(path: Path) -> bytes:
    """All bytes that the index has on disk."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))
