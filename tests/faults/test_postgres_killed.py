"""The PostgreSQL server is killed and comes back while instances are added: nothing acknowledged is lost or twice."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

from storage.dicom.identity import Scope
from storage.dicom.query import Level, Query
from storage.errors import Exhausted, Unavailable
from storage.index import Act, InstanceRecord, Outcome
from storage.index.postgres import PostgresIndex
from tests.contract.index_samples import first, instance, record
from tests.postgres import Postgres, postgres

GATEWAYS, THREADS, STUDIES, NUMBERS = 2, 3, 4, 60
WAIT_SECONDS = 100


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One of its own, to be killed."""
    with postgres() as server:
        yield server


class Sender(threading.Thread):
    """Adds as a modality does: what was not acknowledged is sent again."""

    def __init__(self, index: PostgresIndex, todo: "Iterator[InstanceRecord]", done: list[InstanceRecord]) -> None:
        super().__init__(daemon=True)
        self.index, self.todo, self.done = index, todo, done
        self.refused = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for one in self.todo:
                self.send(one)
                self.done.append(one)
        except Exception as error:
            self.error = error

    def send(self, one: InstanceRecord) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                assert self.index.add(one).outcome in (Outcome.NEW, Outcome.SAME)
                return
            except (Unavailable, Exhausted):
                assert time.monotonic() < deadline
                self.refused += 1
                time.sleep(0.02)


def test_nothing_acknowledged_is_lost_and_writing_goes_on_by_itself(server: Postgres) -> None:
    url = server.url(server.make_database())
    indexes = [PostgresIndex(url) for _ in range(GATEWAYS)]
    made = [record(instance(1 + number % STUDIES, 1, number)) for number in range(1, NUMBERS + 1)]
    done: list[InstanceRecord] = []
    todo = iter(_Shared(made))
    senders = [Sender(index, todo, done) for index, _ in itertools.product(indexes, range(THREADS))]
    for sender in senders:
        sender.start()
    for kill_after in (NUMBERS // 6, NUMBERS // 2):
        deadline = time.monotonic() + WAIT_SECONDS
        while len(done) < kill_after:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        server.kill()
        acknowledged = list(done)
        server.restart()
        with closing(PostgresIndex(url)) as reader:
            for one in acknowledged:
                assert reader.holds(one.instance.identity, one.instance.digest)
    for sender in senders:
        sender.join(WAIT_SECONDS)
        assert not sender.is_alive() and sender.error is None
    assert len(done) == NUMBERS
    changes = indexes[0].changes(0, 10 * NUMBERS)
    assert Counter(change.sop_uid for change in changes) == {one.instance.identity.sop_uid: 1 for one in made}
    assert {change.act for change in changes} == {Act.STORED}
    for row in indexes[1].search(Query(Level.STUDY)).rows:
        located = indexes[1].locate(Scope(first(row, "StudyInstanceUID")))
        assert first(row, "NumberOfStudyRelatedInstances") == len(located) == NUMBERS // STUDIES
    for index in indexes:
        index.close()


def test_while_it_is_away_every_call_says_so(server: Postgres) -> None:
    index = PostgresIndex(server.url(server.make_database()))
    made = record(instance())
    index.add(made)
    server.kill()
    scope = Scope(made.instance.identity.study_uid)
    for call in (index.check, lambda: index.add(made), lambda: index.locate(scope), lambda: index.changes(0, 1)):
        with pytest.raises(Unavailable):
            call()
    server.restart()
    index.check()
    assert index.add(made).outcome is Outcome.SAME
    assert len(index.locate(scope)) == 1
    index.close()


class _Shared:
    """Hands each record to one thread."""

    def __init__(self, records: list[InstanceRecord]) -> None:
        self._records = iter(records)
        self._lock = threading.Lock()

    def __iter__(self) -> "Iterator[InstanceRecord]":
        return self

    def __next__(self) -> InstanceRecord:
        with self._lock:
            return next(self._records)
