"""One thread that writes: it takes what waits, up to a bound, and makes one transaction of it (group commit).

Callers get their answer after the commit. A piece of work that fails does not take the others down with it.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from storage.errors import Exhausted, Unavailable

Result = TypeVar("Result")
QUEUE_GROUPS = 4  # how many groups may wait
QUEUE_SECONDS = 30.0  # how long a caller waits for its place in the queue


class Transaction(Protocol):
    """How the writer begins and ends transactions; `begin` and `commit` raise StorageError when they cannot."""

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...


class _Job:
    __slots__ = ("done", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.done: Future[Any] = Future()


class Writer:
    """Runs work, given from any thread, in transactions of one thread of its own."""

    def __init__(self, transaction: Transaction, *, group_max: int, queue_seconds: float = QUEUE_SECONDS) -> None:
        self._transaction = transaction
        self._group_max = group_max
        self._waiting_max = group_max * QUEUE_GROUPS
        self._queue_seconds = queue_seconds
        self._waiting: deque[_Job] = deque()
        self._closed = False
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        self._room = threading.Condition(lock)
        self._thread = threading.Thread(target=self._write, name="index-writer", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, once it is committed. Raises what it raises, after undoing what it did.

        Raises Exhausted when too much waits already, Unavailable when the writer is closed or cannot commit.
        """
        job = _Job(work)
        with self._work:
            if not self._room.wait_for(self._has_room, self._queue_seconds):
                raise Exhausted("the index has more to write than it can keep up with; try again later")
            if self._closed:
                raise Unavailable("the index is closed")
            self._waiting.append(job)
            self._work.notify()
        result: Result = job.done.result()
        return result

    def close(self) -> None:
        """Write what was accepted, then end the thread."""
        with self._work:
            self._closed = True
            self._work.notify_all()
            self._room.notify_all()
        self._thread.join()

    def _has_room(self) -> bool:
        return self._closed or len(self._waiting) < self._waiting_max

    def _has_work(self) -> bool:
        return self._closed or bool(self._waiting)

    def _write(self) -> None:
        while group := self._next_group():
            self._write_group(group)

    def _next_group(self) -> list[_Job]:
        """What waits, at least one; nothing once the writer is closed and has written all."""
        with self._work:
            self._work.wait_for(self._has_work)
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._group_max))]
            self._room.notify(len(group))
        return group

    def _write_group(self, group: list[_Job]) -> None:
        try:
            self._transaction.begin()
        except Exception as error:  # nobody can write now: say so to all at once, rather than to one after another
            for job in group:
                job.done.set_exception(error)
            return
        try:
            results = [job.work() for job in group]
            self._transaction.commit()
        except Exception as error:
            self._transaction.rollback()
            if len(group) == 1:
                group[0].done.set_exception(error)
            else:
                for job in group:
                    self._write_group([job])
            return
        for job, result in zip(group, results, strict=True):
            job.done.set_result(result)
