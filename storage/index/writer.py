"""Group commit without a thread of its own: whoever comes first writes, for all who came meanwhile.

Callers get their answer after the commit. A piece of work that fails does not take the others down with it. One caller
alone pays for no change of threads; many share a transaction.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from storage.errors import Exhausted, StorageError, Unavailable

Result = TypeVar("Result")
QUEUE_GROUPS = 4  # how many groups may wait
QUEUE_SECONDS = 30.0  # how long a caller waits for its place in the queue


class Transaction(Protocol):
    """How transactions begin and end; all raise StorageError when they cannot. `begin` first undoes one left open."""

    def begin(self, keys: Sequence[str]) -> None:
        """`keys` name, sorted, all that the work of the group is about, for databases that lock by it."""

    def commit(self) -> None: ...

    def rollback(self) -> None: ...


class _Job:
    """A piece of work; `turn` is set when it is finished, or when its caller is to write the next group."""

    __slots__ = ("error", "finished", "keys", "result", "turn", "work")

    def __init__(self, work: Callable[[], Any], keys: Sequence[str]) -> None:
        self.work = work
        self.keys = keys
        self.turn = threading.Event()
        self.finished = False
        self.result: Any = None
        self.error: BaseException | None = None

    def finish(self, result: Any = None, error: BaseException | None = None) -> None:
        self.result, self.error, self.finished = result, error, True


class Writer:
    """Runs work, given from any thread, in transactions one after another."""

    def __init__(self, transaction: Transaction, *, group_max: int, queue_seconds: float = QUEUE_SECONDS) -> None:
        self._transaction = transaction
        self._group_max = group_max
        self._waiting_max = group_max * QUEUE_GROUPS
        self._queue_seconds = queue_seconds
        self._waiting: deque[_Job] = deque()
        self._writing = False  # somebody writes a group, or has been told to
        self._closed = False
        lock = threading.Lock()
        self._room = threading.Condition(lock)
        self._idle = threading.Condition(lock)

    def run(self, work: Callable[[], Result], keys: Sequence[str] = ()) -> Result:
        """What `work` returns, once it is committed. Raises what it raises, after undoing what it did.

        `keys`: see `Transaction.begin`.

        Raises Exhausted when too much waits already, Unavailable when the writer is closed or cannot commit.
        """
        job = _Job(work, keys)
        if not self._takes_the_lead(job):
            job.turn.wait()
        if not job.finished:
            self._lead()
        if job.error is not None:
            raise job.error
        result: Result = job.result
        return result

    def close(self, within_seconds: float) -> bool:
        """Take no more work; whether what was taken is written within the time."""
        with self._idle:
            self._closed = True
            self._room.notify_all()
            return self._idle.wait_for(lambda: not self._writing, within_seconds)

    def _takes_the_lead(self, job: _Job) -> bool:
        """Put the job in the queue; whether its caller has to write, because nobody else does."""
        with self._room:
            if not self._room.wait_for(self._has_room, self._queue_seconds):
                raise Exhausted("the index has more to write than it can keep up with; try again later")
            if self._closed:
                raise Unavailable("the index is closed")
            self._waiting.append(job)
            leads = not self._writing
            self._writing = True
        return leads

    def _has_room(self) -> bool:
        return self._closed or len(self._waiting) < self._waiting_max

    def _lead(self) -> None:
        """Write one group, the caller's own job first in it; then let the next one lead, and answer the others."""
        with self._room:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._group_max))]
            self._room.notify(len(group))
        try:
            self._write_group(group)
        finally:
            for job in group:
                if not job.finished:  # whatever it was that broke off the writing: nobody may take it for success
                    job.finish(error=Unavailable("the index could not be written"))
            with self._idle:
                if self._waiting:
                    self._waiting[0].turn.set()
                else:
                    self._writing = False
                    self._idle.notify_all()
            for job in group:
                job.turn.set()

    def _write_group(self, group: list[_Job]) -> None:
        """Finish every job. One whose work fails is left out, and the others are written without it."""
        while group:
            try:
                self._transaction.begin(sorted({key for job in group for key in job.keys}))
                results = self._work(group)
                if results is not None:
                    self._transaction.commit()
            except Exception as error:  # nobody can write now: say so to all at once, rather than to one after another
                self._undo()
                for job in group:
                    job.finish(error=error)
                return
            if results is not None:
                for job, result in zip(group, results, strict=True):
                    job.finish(result)
                return
            self._undo()
            group = [job for job in group if not job.finished]

    def _work(self, group: list[_Job]) -> list[Any] | None:
        """The results of all, or None when one failed, which is finished with its error."""
        results = []
        for job in group:
            try:
                results.append(job.work())
            except Exception as error:
                job.finish(error=error)
                return None
        return results

    def _undo(self) -> None:
        with suppress(StorageError):  # `begin` undoes what is left open, and until that works nothing is written
            self._transaction.rollback()
