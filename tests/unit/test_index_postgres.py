"""The parts of the PostgreSQL index that the contract does not see: its tables, connections and errors."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from storage.errors import Exhausted, Fault, Invalid, Unavailable
from storage.index import Outcome
from storage.index.postgres import PostgresIndex, like, lock_numbers
from storage.index.postgres_connections import Server
from storage.index.postgres_errors import Contended, meaning
from storage.index.schema import metadata
from tests.contract.index_samples import instance, record, scope_of
from tests.postgres import Postgres

WAIT_SECONDS = 60


@pytest.fixture
def index(postgres: Postgres) -> Iterator[PostgresIndex]:
    index = PostgresIndex(postgres.empty_index())
    yield index
    index.close()


class TestTables:
    def test_they_are_those_that_are_declared(self, postgres: Postgres, index: PostgresIndex) -> None:
        url = postgres.url(postgres.empty_index().rpartition("/")[2])
        engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)

        def kind(of: Any) -> str:
            return str(of.compile(engine.dialect)).replace('"', "")

        with engine.connect() as connection:
            found = inspect(connection)
            names = {name for name in found.get_table_names() if name in metadata.tables}
            assert names == set(metadata.tables)
            for name, table in metadata.tables.items():
                made = {each["name"]: (kind(each["type"]), each["nullable"]) for each in found.get_columns(name)}
                # Text is compared by code point, whatever the database's own order.
                declared = {
                    each.name: (kind(each.type).replace("TEXT", "TEXT COLLATE C"), each.nullable)
                    for each in table.columns
                }
                assert made == declared, name
                assert set(indexes_of(found, name)) == {
                    tuple(column.name for column in each.columns) for each in table.indexes
                }, name

    def test_the_growing_ones_are_spread_by_what_leads_or_ends_their_key(self, postgres: Postgres) -> None:
        database = postgres.empty_index().rpartition("/")[2]
        spread = postgres.run(
            "SELECT relname::text, pg_get_partkeydef(oid), "
            "(SELECT count(*) FROM pg_inherits WHERE inhparent = c.oid) FROM pg_class c "
            "WHERE relkind = 'p' ORDER BY relname",
            database,
        )
        by_study = ["packs", "series", "series_values", "study_names", "study_values"]
        assert spread == sorted(
            [(name, "HASH (study_id)", 16) for name in by_study] + [("sealed_uids", "HASH (uid_hash)", 16)]
        )

    def test_of_several_that_start_at_once_one_makes_them(self, postgres: Postgres) -> None:
        url = postgres.url(postgres.make_database())
        with ThreadPoolExecutor(4) as threads:
            opened = [threads.submit(PostgresIndex, url) for _ in range(4)]
        for one in opened:
            with closing(one.result()) as index:
                index.check()

    def test_a_form_that_is_not_known_is_left_alone(self, postgres: Postgres) -> None:
        database = postgres.make_database()
        PostgresIndex(postgres.url(database)).close()
        postgres.run("UPDATE alembic_version SET version_num = '9999'", database)
        with pytest.raises(Unavailable, match="form 9999"):
            PostgresIndex(postgres.url(database))

    def test_a_database_that_cannot_hold_all_names_is_refused(self, postgres: Postgres) -> None:
        postgres.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        with pytest.raises(Unavailable, match="UTF8"):
            PostgresIndex(postgres.url("latin"))


def indexes_of(found: Any, table: str) -> list[tuple[str, ...]]:
    return [tuple(each["column_names"]) for each in found.get_indexes(table) if "duplicates_constraint" not in each]


class TestServer:
    def test_nobody_answers(self) -> None:
        with pytest.raises(Unavailable, match="database imaging on 127") as caught:
            PostgresIndex("postgresql://gateway:secret@127.0.0.1:1/imaging")
        assert "secret" not in str(caught.value)

    def test_what_is_no_url(self) -> None:
        with pytest.raises(Unavailable, match="URL") as caught:
            PostgresIndex("postgresql://gateway:secret@127.0.0.1:1/imaging?sslmod=require")
        assert "secret" not in str(caught.value)

    def test_a_server_that_falls_silent_is_given_up(self, postgres: Postgres) -> None:
        connection = Server(postgres.url()).connect(answer_seconds=0.2)
        with pytest.raises(psycopg.OperationalError, match="does not answer"):
            connection.execute("SELECT pg_sleep(600)")
        assert connection.closed

    def test_commits_wait_for_the_disk_though_the_server_would_not(self, postgres: Postgres) -> None:
        database = postgres.make_database()
        postgres.run(f"ALTER DATABASE {database} SET synchronous_commit = off")
        connection = Server(postgres.url(database)).connect()
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        connection.close()

    def test_more_connections_than_it_takes(self, postgres: Postgres) -> None:
        database = postgres.make_database()
        postgres.run("CREATE ROLE guest LOGIN")
        postgres.run(f"ALTER DATABASE {database} CONNECTION LIMIT 1")
        url = postgres.url(database).replace("gateway@", "guest@")
        with psycopg.connect(url), pytest.raises(Exhausted, match="connections"):
            Server(url).connect()


class TestConnections:
    def test_those_that_the_server_closed_are_replaced(self, postgres: Postgres, index: PostgresIndex) -> None:
        made = instance()
        index.add(record(made))
        index.check()
        for number in range(2, 5):
            postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gateway'")
            assert index.add(record(instance(number=number))).outcome is Outcome.NEW
            assert index.holds(made.identity, made.digest)

    def test_as_many_readers_as_are_allowed(self, postgres: Postgres) -> None:
        index = PostgresIndex(postgres.empty_index(), readers=2)
        index.add(record(instance()))
        threads = [threading.Thread(target=lambda: index.locate(scope_of(instance()))) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = postgres.run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gateway'")
        assert found == [(3,)]
        index.close()

    def test_a_writer_that_stopped_does_not_hold_up_the_others_for_ever(
        self, postgres: Postgres, index: PostgresIndex
    ) -> None:
        """Another one holds the lock on the study; the server gives the wait up, and says so."""
        made = instance()
        [number] = lock_numbers([made.identity.study_uid])
        database = postgres.empty_index().rpartition("/")[2]
        with psycopg.connect(postgres.url(database)) as other:
            other.execute("SELECT pg_advisory_xact_lock(3356, %s)", (number,))
            index.check()  # the writer's connection
            postgres_lock_timeout(index, milliseconds=200)
            with pytest.raises(Unavailable, match="LockNotAvailable"):
                index.add(record(made))
        index.add(record(made))


def postgres_lock_timeout(index: PostgresIndex, milliseconds: int) -> None:
    index._engine._lent.execute(f"SET lock_timeout = {milliseconds}")  # type: ignore[attr-defined]


class TestContention:
    def test_work_that_was_undone_for_another_is_done_again(self, index: PostgresIndex) -> None:
        tries = []

        def work(_session: object) -> str:
            tries.append(time.monotonic())
            if len(tries) < 3:
                raise psycopg.errors.DeadlockDetected("deadlock detected")
            return "done"

        assert index._engine.write(work, studies=[]) == "done"
        assert len(tries) == 3

    def test_it_is_given_up_in_the_end(self, index: PostgresIndex) -> None:
        def work(_session: object) -> None:
            raise psycopg.errors.SerializationFailure("could not serialize")

        with pytest.raises(Contended):
            index._engine.write(work, studies=[])

    def test_locks_are_taken_in_one_order(self) -> None:
        uids = [f"1.2.{number}" for number in range(100)]
        assert lock_numbers(uids) == lock_numbers(list(reversed(uids))) == sorted(lock_numbers(uids))
        assert len(set(lock_numbers(uids))) == 100


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.DiskFull("x"), Exhausted),
        (psycopg.errors.TooManyConnections("x"), Exhausted),
        (psycopg.errors.OutOfMemory("x"), Exhausted),
        (psycopg.errors.DeadlockDetected("x"), Contended),
        (psycopg.errors.ProgramLimitExceeded("x"), Invalid),
        (psycopg.errors.AdminShutdown("x"), Unavailable),
        (psycopg.errors.ReadOnlySqlTransaction("x"), Unavailable),
        (psycopg.errors.UniqueViolation("Key (value)=(WANG) already exists"), Unavailable),
        (psycopg.OperationalError("FATAL:  sorry, too many clients already"), Exhausted),
    ],
)
def test_what_errors_mean(error: psycopg.Error, kind: type[Exception]) -> None:
    found = meaning(error, "in database imaging on db1")
    assert type(found) is kind
    assert "WANG" not in str(found)
    if isinstance(found, Invalid):
        assert found.fault is Fault.TOO_LARGE


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (psycopg.errors.InvalidCatalogName("x"), "make it"),
        (psycopg.errors.InsufficientPrivilege("x"), "own the database"),
        (psycopg.OperationalError('FATAL:  password authentication failed for user "WANG"'), "PGPASSWORD"),
        (psycopg.OperationalError("fe_sendauth: no password supplied"), "PGPASSWORD"),
        (psycopg.OperationalError('FATAL:  no pg_hba.conf entry for host "192.0.2.1"'), "pg_hba.conf"),
        (psycopg.OperationalError('FATAL:  permission denied for database "WANG"'), "own the database"),
        (psycopg.OperationalError("session is read-only"), "that takes writes"),
        (psycopg.OperationalError("connection refused"), "runs and is reachable"),
    ],
)
def test_the_mistakes_of_an_operator_are_answered_with_the_remedy(error: psycopg.Error, remedy: str) -> None:
    found = meaning(error, "in database imaging on db1")
    assert type(found) is Unavailable and remedy in str(found)
    assert "WANG" not in str(found)


def test_what_a_server_says_to_who_has_no_place_there_is_understood(postgres: Postgres) -> None:
    postgres.run("DROP ROLE IF EXISTS guest")
    postgres.run("CREATE ROLE guest LOGIN")
    as_nobody, as_guest = (postgres.url("postgres").replace("gateway@", f"{user}@") for user in ("nobody", "guest"))
    for url, remedy in (
        (postgres.url("not_there"), "make it"),
        (as_nobody, "the user is there"),
        (as_guest, "own the database"),
    ):
        with pytest.raises(Unavailable, match=remedy):
            PostgresIndex(url)


def test_wildcard_patterns() -> None:
    assert [like(text) for text in ("a*b?", "50%_\\", "[a]")] == ["a%b_", "50\\%\\_\\\\", "[a]"]
