import threading
import time
from collections.abc import Callable, Sequence

import pytest

from storage.errors import Exhausted, Unavailable
from storage.index.writer import QUEUE_GROUPS, Writer


class Ledger:
    """Transactions over a list: what is committed stays, what is rolled back goes."""

    def __init__(self) -> None:
        self.committed: list[list[int]] = []
        self.keys: list[list[str]] = []
        self.open: list[int] | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.fail_begin: Exception | None = None
        self.fail_commit: Exception | None = None

    def begin(self, keys: Sequence[str]) -> None:
        self.keys.append(list(keys))
        assert self.open is None, "two transactions at once"
        if self.fail_begin is not None:
            raise self.fail_begin
        self.open = []

    def commit(self) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        if self.fail_commit is not None and self.open is not None and len(self.open) > 1:
            raise self.fail_commit
        assert self.open is not None
        self.committed.append(self.open)
        self.open = None

    def rollback(self) -> None:
        self.open = None

    @property
    def written(self) -> list[int]:
        return [number for group in self.committed for number in group]

    def write(self, number: int) -> Callable[[], int]:
        def work() -> int:
            assert self.open is not None
            self.open.append(number)
            return number * 10

        return work


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def in_threads(writer: Writer, works: list[Callable[[], int]]) -> tuple[list[threading.Thread], dict[int, object]]:
    answers: dict[int, object] = {}

    def run(number: int, work: Callable[[], int]) -> None:
        try:
            answers[number] = writer.run(work)
        except Exception as error:
            answers[number] = error

    threads = [threading.Thread(target=run, args=(number, work)) for number, work in enumerate(works)]
    for thread in threads:
        thread.start()
    return threads, answers


def waits(writer: Writer, count: int) -> None:
    deadline = time.monotonic() + 10
    while len(writer._waiting) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def joined(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_one_caller_writes_at_once_in_its_own_thread(ledger: Ledger) -> None:
    writer = Writer(ledger, group_max=4)
    ran_in: list[threading.Thread] = []
    assert writer.run(ledger.write(1)) == 10
    writer.run(lambda: ran_in.append(threading.current_thread()))
    assert ran_in == [threading.current_thread()]
    assert ledger.committed[0] == [1]


def test_those_who_come_during_a_commit_share_the_next(ledger: Ledger) -> None:
    writer = Writer(ledger, group_max=4)
    ledger.gate.clear()
    first, first_answers = in_threads(writer, [ledger.write(0)])
    assert ledger.entered.wait(10)
    others, answers = in_threads(writer, [ledger.write(number) for number in range(1, 7)])
    waits(writer, 6)
    assert not first_answers and not answers, "nobody is answered before the commit"
    ledger.gate.set()
    joined(first + others)
    assert [len(group) for group in ledger.committed] == [1, 4, 2]
    assert sorted(ledger.written) == list(range(7))
    assert first_answers == {0: 0}
    assert {number: answers[number] for number in range(6)} == {number: (number + 1) * 10 for number in range(6)}


def test_a_piece_of_work_that_fails_does_not_take_the_others_down(ledger: Ledger) -> None:
    def broken() -> int:
        raise ValueError("broken")

    writer = Writer(ledger, group_max=8)
    ledger.gate.clear()
    first, _ = in_threads(writer, [ledger.write(0)])
    assert ledger.entered.wait(10)
    others, answers = in_threads(writer, [ledger.write(1), broken, ledger.write(2)])
    waits(writer, 3)
    ledger.gate.set()
    joined(first + others)
    assert sorted(ledger.written) == [0, 1, 2]
    assert isinstance(answers.pop(1), ValueError)
    assert answers == {0: 10, 2: 20}


def test_a_commit_that_fails_is_answered_to_all_and_the_next_is_written(ledger: Ledger) -> None:
    writer = Writer(ledger, group_max=8)
    ledger.gate.clear()
    ledger.fail_commit = Exhausted("full")
    first, _ = in_threads(writer, [ledger.write(0)])
    assert ledger.entered.wait(10)
    others, answers = in_threads(writer, [ledger.write(1), ledger.write(2)])
    waits(writer, 2)
    ledger.gate.set()
    joined(first + others)
    assert ledger.committed == [[0]]
    assert [type(answer) for answer in answers.values()] == [Exhausted, Exhausted]
    assert writer.run(ledger.write(3)) == 30


def test_a_rollback_that_fails_blocks_nobody_for_ever(ledger: Ledger) -> None:
    def broken() -> int:
        raise ValueError("broken")

    def failing() -> None:
        raise Unavailable("the disk is gone")

    writer = Writer(ledger, group_max=8)
    ledger.rollback = failing  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="broken"):
        writer.run(broken)
    ledger.open = None  # as `begin` of a real transaction does
    assert writer.run(ledger.write(1)) == 10


def test_what_breaks_the_writing_off_is_never_taken_for_success(ledger: Ledger) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    writer = Writer(ledger, group_max=8)
    ledger.gate.clear()
    first, _ = in_threads(writer, [ledger.write(0)])
    assert ledger.entered.wait(10)
    second, answers = in_threads(writer, [ledger.write(1)])
    waits(writer, 1)
    ledger.gate.set()
    joined(first + second)
    assert answers == {0: 10}
    with pytest.raises(KeyboardInterrupt):
        writer.run(interrupted)
    ledger.open = None
    assert writer.run(ledger.write(2)) == 20


def test_after_a_failure_to_begin_the_next_is_written(ledger: Ledger) -> None:
    writer = Writer(ledger, group_max=8)
    ledger.fail_begin = Unavailable("locked")
    with pytest.raises(Unavailable, match="locked"):
        writer.run(ledger.write(1))
    ledger.fail_begin = None
    assert writer.run(ledger.write(2)) == 20


def test_the_queue_has_an_end(ledger: Ledger) -> None:
    writer = Writer(ledger, group_max=1, queue_seconds=0.05)
    ledger.gate.clear()
    threads, _ = in_threads(writer, [ledger.write(0)])
    assert ledger.entered.wait(10)
    more, _ = in_threads(writer, [ledger.write(number) for number in range(QUEUE_GROUPS)])
    waits(writer, QUEUE_GROUPS)
    with pytest.raises(Exhausted):
        writer.run(ledger.write(99))
    ledger.gate.set()
    joined(threads + more)
    assert [99] not in ledger.committed


def test_closing_waits_for_what_was_taken_and_takes_no_more(ledger: Ledger) -> None:
    writer = Writer(ledger, group_max=1)
    ledger.gate.clear()
    threads, answers = in_threads(writer, [ledger.write(number) for number in range(3)])
    assert ledger.entered.wait(10)
    waits(writer, 2)
    closing = threading.Thread(target=writer.close, args=(10,))
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    ledger.gate.set()
    joined([*threads, closing])
    assert len(answers) == 3 and sorted(ledger.written) == [0, 1, 2]
    with pytest.raises(Unavailable):
        writer.run(ledger.write(9))


def test_many_threads_lose_and_double_nothing(ledger: Ledger) -> None:
    writer = Writer(ledger, group_max=16)

    def many(lane: int) -> int:
        return sum(writer.run(ledger.write(lane * 1000 + number)) for number in range(200))

    results: list[int] = []
    threads = [threading.Thread(target=lambda lane=lane: results.append(many(lane))) for lane in range(12)]
    for thread in threads:
        thread.start()
    joined(threads)
    written = ledger.written
    assert len(written) == len(set(written)) == 2400
    assert sum(results) == sum(written) * 10


def test_a_transaction_is_told_what_its_group_is_about(ledger: Ledger) -> None:
    writer = Writer(ledger, group_max=8)
    writer.run(ledger.write(1), ["b", "a"])
    ledger.gate.clear()
    ledger.entered.clear()
    first, _ = in_threads(writer, [ledger.write(2)])
    assert ledger.entered.wait(10)
    names = [["d"], ["c", "d"]]
    more = [threading.Thread(target=writer.run, args=(ledger.write(3), each)) for each in names]
    for thread in more:
        thread.start()
    waits(writer, 2)
    ledger.gate.set()
    joined([*first, *more])
    assert ledger.keys == [["a", "b"], [], ["c", "d"]]
