"""The pool of processes for pixels: what fails there fails alone, and nothing is left behind."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.archive.pool import Pool
from storage.errors import Exhausted, Fault, Invalid, Unavailable

PATIENCE = 60.0


def twice(number: int) -> tuple[int, int]:
    return 2 * number, os.getpid()


def refuse(text: str) -> None:
    raise Invalid(Fault.MALFORMED, text)


def stumble(secret: str) -> None:
    raise ValueError(secret)


def die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def wait_for(path: str) -> int:
    Path(path + ".begun").touch()
    while not Path(path).exists():
        time.sleep(0.01)
    return os.getpid()


def no_memory() -> None:
    raise MemoryError


def large(data: bytes) -> bytes:
    return data[::-1]


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(1)
    yield made
    made.close()


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition: "threading.Event | Path") -> None:
    deadline = time.monotonic() + PATIENCE
    while not (condition.is_set() if isinstance(condition, threading.Event) else condition.exists()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_jobs_run_in_one_process_that_is_kept(pool: Pool) -> None:
    (first, one), (second, other) = pool.run(twice, 1), pool.run(twice, 2)
    assert (first, second) == (2, 4)
    assert one == other != os.getpid()


def test_large_arguments_and_results(pool: Pool) -> None:
    data = os.urandom(8 << 20)
    assert pool.run(large, data) == data[::-1]


def test_what_a_job_raises_is_raised_here(pool: Pool) -> None:
    with pytest.raises(Invalid, match="the frame is damaged") as caught:
        pool.run(refuse, "the frame is damaged")
    assert caught.value.fault is Fault.MALFORMED
    with pytest.raises(Exhausted):
        pool.run(no_memory)


def test_an_unforeseen_error_is_told_without_what_it_says(pool: Pool) -> None:
    with pytest.raises(RuntimeError, match=r"stumble failed: ValueError in .*test_pool\.py, line") as caught:
        pool.run(stumble, "Wang^XiaoDong")
    assert "Wang" not in str(caught.value)


def test_a_process_that_dies_fails_its_job_alone_and_is_replaced(pool: Pool) -> None:
    with pytest.raises(Unavailable, match="died"):
        pool.run(die)
    assert pool.run(twice, 3)[0] == 6


def test_a_process_that_is_killed_while_idle_is_replaced(pool: Pool) -> None:
    _, pid = pool.run(twice, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    result, other = pool.run(twice, 2)
    assert (result, other != pid) == (4, True)


def test_a_job_that_hangs_is_given_up_and_its_process_ended() -> None:
    pool = Pool(1, job_seconds=1.0)
    try:
        pid = pool.run(sleep, 0)
        with pytest.raises(Unavailable, match="longer"):
            pool.run(sleep, PATIENCE)
        assert not is_there(pid)
        assert pool.run(twice, 4)[0] == 8
    finally:
        pool.close()


def test_who_comes_when_too_many_wait_is_refused(tmp_path: Path) -> None:
    pool = Pool(1, waiting=0)
    gate = tmp_path / "gate"
    try:
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(pool.run, wait_for, str(gate))
            until(tmp_path / "gate.begun")
            with pytest.raises(Exhausted):
                pool.run(twice, 1)
            gate.touch()
            assert running.result(PATIENCE)
        assert pool.run(twice, 1)[0] == 2
    finally:
        pool.close()


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    pool = Pool(1, wait_seconds=0.05)
    gate = tmp_path / "gate"
    try:
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(pool.run, wait_for, str(gate))
            until(tmp_path / "gate.begun")
            with pytest.raises(Exhausted, match="free"):
                pool.run(twice, 1)
            gate.touch()
            assert running.result(PATIENCE)
    finally:
        pool.close()


def test_many_at_once_share_the_processes() -> None:
    pool = Pool(2)
    try:
        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(lambda number: pool.run(twice, number), range(40)))
        assert [result for result, _ in results] == [2 * number for number in range(40)]
        assert len({pid for _, pid in results}) <= 2
    finally:
        pool.close()


def test_closing_ends_processes_and_what_they_do(tmp_path: Path) -> None:
    pool = Pool(1)
    pid = pool.run(twice, 1)[1]
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(pool.run, wait_for, str(tmp_path / "never"))
        until(tmp_path / "never.begun")
        pool.close()
        with pytest.raises(Unavailable):
            running.result(PATIENCE)
    assert not is_there(pid)
    with pytest.raises(Unavailable, match="stopping"):
        pool.run(twice, 1)
