"""Several gateways on one PostgreSQL: nothing twice, counts exact, the feed in order, nobody stuck."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from storage.dicom.identity import Scope
from storage.dicom.query import Level, Query
from storage.errors import NotFound, Unavailable
from storage.index import Act, Added, Change, Outcome, PackingIndex
from storage.index.postgres import PostgresIndex
from tests.contract import gateways
from tests.contract.index_samples import ask, first, instance, record, scope_of
from tests.postgres import Postgres

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.empty_index()


@pytest.fixture
def opened(url: str) -> Iterator[list[PostgresIndex]]:
    found = [PostgresIndex(url) for _ in range(2)]
    yield found
    for index in found:
        index.close()


class Follower(threading.Thread):
    """Follows the change feed as its consumers do: what it has passed over, it never sees."""

    def __init__(self, index: PackingIndex) -> None:
        super().__init__()
        self.index = index
        self.seen: list[Change] = []
        self.over = threading.Event()

    def run(self) -> None:
        last = False
        while not last:
            last = self.over.is_set()  # before the read, so that one whole read follows what came before it
            while found := self.index.changes(self.seen[-1].seq if self.seen else 0, 50):
                self.seen += found

    def finish(self) -> list[Change]:
        self.over.set()
        self.join()
        return self.seen


def test_gateways_that_add_and_remove_at_once(url: str, opened: list[PostgresIndex]) -> None:
    """Two in processes of their own and two here, on the same few studies."""
    command = [sys.executable, "-m", "tests.contract.gateways", url]
    processes = [
        subprocess.Popen([*command, str(seed)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for seed in (3, 4)
    ]
    with closing(PostgresIndex(url)) as followed, ThreadPoolExecutor(2) as pool:
        follower = Follower(followed)
        follower.start()
        told = list(pool.map(gateways.act, opened, (1, 2)))
        outputs = [process.communicate(timeout=100)[0] for process in processes]
        changes = follower.finish()
    assert [process.returncode for process in processes] == [0, 0]
    told += [Counter({name: int(times) for name, times in map(str.split, output.splitlines())}) for output in outputs]
    outcomes = sum(told, Counter[str]())
    assert changes == list(opened[0].changes(0, 10_000))
    acts = Counter(change.act for change in changes)
    assert acts == {
        act: outcomes[name]
        for act, name in ((Act.STORED, "new"), (Act.VERSION, "version"), (Act.DELETED, "removed"))
        if outcomes[name]
    }
    _is_what_the_feed_says(opened[1], changes)


def _is_what_the_feed_says(index: PackingIndex, changes: list[Change]) -> None:
    """The changes in their order make the instances and revisions that are there; so do the counts."""
    there: dict[tuple[str, str, str], int] = {}
    for change in changes:
        named = (change.study_uid, change.series_uid, change.sop_uid)
        if change.act is Act.DELETED:
            gone = tuple(uid for uid in named if uid)
            there = {each: revision for each, revision in there.items() if each[: len(gone)] != gone}
        else:
            assert change.revision == there.get(named, 0) + 1
            there[named] = change.revision
    rows = index.search(Query(Level.STUDY, limit=100)).rows
    assert {first(row, "StudyInstanceUID") for row in rows} == {study for study, _, _ in there}
    for row in rows:
        study = first(row, "StudyInstanceUID")
        located = {
            (each.identity.study_uid, each.identity.series_uid, each.identity.sop_uid): each.revision
            for each in index.locate(Scope(study))
        }
        assert located == {each: revision for each, revision in there.items() if each[0] == study}
        assert first(row, "NumberOfStudyRelatedInstances") == len(located)
        assert first(row, "NumberOfStudyRelatedSeries") == len({series for _, series, _ in located})
        assert len(list(index.metadata(Scope(study)))) == len(located)
        in_series = Counter(series for _, series, _ in located)
        for each in index.search(Query(Level.SERIES, study_uid=study, limit=100)).rows:
            series = first(each, "SeriesInstanceUID")
            assert first(each, "NumberOfSeriesRelatedInstances") == in_series.pop(series)
        assert not in_series


def test_of_the_same_instance_at_once_one_is_new(opened: list[PostgresIndex]) -> None:
    made = [record(instance(number=number)) for number in range(1, 9)]
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda job: job[0].add(job[1]), [(index, each) for each in made for index in opened]))
    assert Counter(told) == {Added(Outcome.NEW, 1): 8, Added(Outcome.SAME, 1): 8}


def test_one_study_does_not_wait_for_another(url: str, opened: list[PostgresIndex]) -> None:
    """Somebody who holds one study for long holds up that study alone."""
    slow, quick = opened
    slow.add(record(instance(1)))
    release = threading.Event()
    entered = threading.Event()

    def hold(_session: object) -> None:
        entered.set()
        assert release.wait(60)

    holder = threading.Thread(
        target=lambda: slow._engine.write(hold, studies=[instance(1).identity.study_uid]), daemon=True
    )
    holder.start()
    assert entered.wait(60)
    waiting = threading.Thread(target=lambda: quick.add(record(instance(1, number=2))), daemon=True)
    other = PostgresIndex(url)
    assert other.add(record(instance(2))) == Added(Outcome.NEW, 1)
    waiting.start()
    assert [first(row, "NumberOfStudyRelatedInstances") for row in other.search(ask(Level.STUDY)).rows] == [1, 1]
    release.set()
    holder.join(60)
    waiting.join(60)
    assert len(other.locate(Scope(instance(1).identity.study_uid))) == 2
    other.close()


def test_a_commit_of_which_nobody_knows_is_no_success(
    postgres: Postgres, url: str, opened: list[PostgresIndex]
) -> None:
    """The connection breaks in the commit itself."""
    database = url.rpartition("/")[2]
    postgres.run(
        """CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER break_off AFTER INSERT ON studies DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION break_off()""",
        database,
    )
    made = instance()
    try:
        with pytest.raises(Unavailable):
            opened[0].add(record(made))
    finally:
        postgres.run("DROP FUNCTION break_off CASCADE", database)
    with pytest.raises(NotFound):
        opened[1].locate(scope_of(made))
    assert opened[0].add(record(made)) == Added(Outcome.NEW, 1)


def test_a_gateway_that_dies_in_its_work_holds_nothing_up(url: str, opened: list[PostgresIndex]) -> None:
    code = (
        "import os, sys\n"
        "from storage.index.postgres import PostgresIndex\n"
        "index = PostgresIndex(sys.argv[1])\n"
        "index._engine.write(lambda session: os.kill(os.getpid(), 9), studies=[sys.argv[2]])\n"
    )
    made = instance()
    process = subprocess.run([sys.executable, "-c", code, url, made.identity.study_uid], cwd=ROOT, timeout=100)
    assert process.returncode == -9
    assert opened[0].add(record(made)) == Added(Outcome.NEW, 1)
