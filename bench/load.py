"""Puts a load on a server and measures both: each job is a process of its own, all start at one moment.

A job is a generator function. It prepares itself, yields once when ready, then yields `Done` after each operation;
the time between two yields is the operation's latency. What it does after its last yield is not measured.
"""

import math
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from bench.server import Server
from bench.watch import Gone, Watch, load_cpu, machine_cpu

READY_SECONDS, RUN_SECONDS = 120, 900
FORK = multiprocessing.get_context("fork")


class Done(NamedTuple):
    """One operation: how many instances (or answers) it was about, and how many bytes it moved."""

    instances: int = 1
    length: int = 0


Running = Generator[Done | None, None, None]
Job = Callable[[], Running]


class Failed(Exception):
    """A job could not do its work; the message is its error."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition of one figure on one server. The server's own figures are missing when it cannot be watched."""

    seconds: float
    count: int
    length: int
    p50_ms: float
    p99_ms: float
    cpu_seconds: float | None
    peak_mib: float | None
    other_cores: float  # used by neither server nor load: noise

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    @property
    def mb_per_second(self) -> float:
        return self.length / self.seconds / 1e6

    @property
    def cpu_ms_each(self) -> float | None:
        return None if self.cpu_seconds is None else 1e3 * self.cpu_seconds / self.count

    @property
    def cpu_seconds_per_gb(self) -> float | None:
        return None if self.cpu_seconds is None or not self.length else self.cpu_seconds / (self.length / 1e9)


@dataclass(frozen=True, slots=True)
class _Outcome:
    started: float
    ended: float
    count: int
    length: int
    latencies: list[float]


def measure(server: Server, jobs: Sequence[Job], seconds: float = math.inf) -> Sample:
    """Run the jobs side by side, at most for `seconds`. Raises Failed."""
    go = FORK.Barrier(len(jobs) + 1)
    load_before, machine_before, began = load_cpu(), machine_cpu(), time.monotonic()
    workers = [_start(job, go, seconds) for job in jobs]
    watch = Watch(server.process)
    try:
        go.wait(READY_SECONDS)
        watch.start()
        outcomes = _collect(workers)
    except threading.BrokenBarrierError:
        outcomes = _collect(workers)  # raises what broke it
        raise Failed("the jobs did not become ready") from None
    finally:
        watch.stop()
        _end(workers)
    try:
        cpu = watch.settled_cpu()
    except Gone as error:
        raise Failed(str(error)) from error
    took = time.monotonic() - began
    others = machine_cpu() - machine_before - (load_cpu() - load_before) - (cpu or 0.0)
    return _sample(outcomes, cpu, watch.peak_mib, max(0.0, others / took))


def _sample(outcomes: Sequence[_Outcome], cpu: float | None, peak_mib: float | None, other_cores: float) -> Sample:
    latencies = sorted(latency for outcome in outcomes for latency in outcome.latencies)
    return Sample(
        seconds=max(o.ended for o in outcomes) - min(o.started for o in outcomes),
        count=sum(o.count for o in outcomes),
        length=sum(o.length for o in outcomes),
        p50_ms=1e3 * statistics.median(latencies),
        p99_ms=1e3 * latencies[math.ceil(0.99 * len(latencies)) - 1],
        cpu_seconds=cpu,
        peak_mib=peak_mib,
        other_cores=other_cores,
    )


def _start(job: Job, go: Any, seconds: float) -> tuple[Any, "Connection[Any, Any]"]:
    here, there = FORK.Pipe(duplex=False)
    worker = FORK.Process(target=_work, args=(job, go, seconds, there), daemon=True)
    worker.start()
    there.close()
    return worker, here


def _work(job: Job, go: Any, seconds: float, result: "Connection[Any, Any]") -> None:
    try:
        result.send(_timed(job, go, seconds))
    except threading.BrokenBarrierError:
        pass  # another job failed and says why
    except Exception as error:  # whatever it is, it is this job's result
        result.send(Failed(f"{type(error).__name__}: {error}"))
        go.abort()


def _timed(job: Job, go: Any, seconds: float) -> _Outcome:
    operations = job()
    next(operations)
    go.wait(READY_SECONDS)
    latencies, count, length = [], 0, 0
    started = last = time.monotonic()
    for done in operations:
        assert done is not None
        now = time.monotonic()
        latencies.append(now - last)
        last = now
        count += done.instances
        length += done.length
        if now - started > seconds:
            break
    assert latencies, "the job did nothing"
    return _Outcome(started, last, count, length, latencies)


def _collect(workers: Sequence[tuple[Any, "Connection[Any, Any]"]]) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    errors: list[Failed] = []
    deadline = time.monotonic() + RUN_SECONDS
    for _, pipe in workers:
        try:
            result = pipe.recv() if pipe.poll(max(0.0, deadline - time.monotonic())) else Failed("no result in time")
        except EOFError:
            continue  # it stopped because of another one, whose error is to come
        if isinstance(result, Failed):
            errors.append(result)
        else:
            outcomes.append(result)
    if errors:
        raise errors[0]
    if len(outcomes) < len(workers):
        raise Failed("a job ended without a result")
    return outcomes


def _end(workers: Sequence[tuple[Any, "Connection[Any, Any]"]]) -> None:
    for worker, pipe in workers:
        pipe.close()
        worker.join(5)
        if worker.is_alive():
            worker.kill()
            worker.join()
