"""`gateway serve --workers N`: processes that share the two ports, watched by one parent.

Each worker is a whole gateway on the same data folder; the kernel spreads connections over them (SO_REUSEPORT). The
first one also seals series and does what else keeps the archive in shape.
A worker that dies is started again; when the parent dies, the workers see their pipe close and stop in order.
"""

import multiprocessing
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Event, Thread
from typing import Any

from gateway import log, metrics
from gateway.compose import Role
from gateway.config import Config, host_and_port

RESTART_DELAY_SECONDS = 1.0
START_TIMEOUT_SECONDS = 60.0
AFTER_DOORS_SECONDS = 6.0  # for what a worker still does after its doors are closed
Run = Callable[..., None]
Announce = Callable[[Config, tuple[str, int] | None, tuple[str, int] | None], None]


class WorkersError(Exception):
    """The workers cannot start; the message says why."""


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection


def supervise(settings: Config, only: Role | None, *, run: Run, announce: Announce) -> None:
    """Run `settings.workers` workers until SIGTERM or SIGINT. Raises WorkersError, or OSError for a port in use."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as reserved:
        web = _reserve(settings.web.listen, reserved) if only is not Role.DIMSE else None
        dimse = _reserve(settings.dimse.listen, reserved) if only in (None, Role.DIMSE) else None
        settings = _bound_to(settings, web, dimse)
        team = [_start(settings, only, run, first=number == 0) for number in range(settings.workers)]
        try:
            problem = _first_problem(team, stop)
            if problem is not None:
                raise WorkersError(problem)
            announce(settings, web, dimse)
            _watch(team, settings, only, run, stop)
        finally:
            _stop(team, settings.shutdown_seconds)


def _reserve(listen: str, keep: ExitStack) -> tuple[str, int]:
    """Make sure that nobody else has the port, then hold it so that only processes of ours can share it."""
    host, port = host_and_port(listen)
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror}") from error
        port = probe.getsockname()[1]
    held = keep.enter_context(socket.socket(family, socket.SOCK_STREAM))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, port))
    return host, port


def _bound_to(settings: Config, web: tuple[str, int] | None, dimse: tuple[str, int] | None) -> Config:
    changes: dict[str, Any] = {}
    if web is not None:
        changes["web"] = settings.web.model_copy(update={"listen": f"{web[0]}:{web[1]}"})
    if dimse is not None:
        changes["dimse"] = settings.dimse.model_copy(update={"listen": f"{dimse[0]}:{dimse[1]}"})
    return settings.model_copy(update=changes)


def _start(settings: Config, only: Role | None, run: Run, *, first: bool) -> _Worker:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(settings, only, run, theirs, first))
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(settings: Config, only: Role | None, run: Run, pipe: Connection, first: bool) -> None:
    """One worker process: says "" on the pipe when it is ready, or what went wrong."""
    log.configure(settings.log.level, settings.log.format)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Thread(target=_stop_with_parent, args=(pipe, stop), daemon=True).start()
    try:
        run(
            settings,
            only,
            stop,
            ready=lambda _: pipe.send(""),
            reuse_port=True,
            with_workers=first or only is Role.WORKERS,
        )
    except Exception as error:
        pipe.send(str(error))
        raise


def _stop_with_parent(pipe: Connection, stop: Event) -> None:
    try:
        pipe.recv()
    except (EOFError, OSError):
        stop.set()


def _first_problem(team: list[_Worker], stop: Event) -> str | None:
    """Wait until every worker is ready; None, or what kept one from it."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    for worker in team:
        while not worker.pipe.poll(0.1):
            if stop.is_set():
                return None
            if not worker.process.is_alive() and not worker.pipe.poll(0):
                return f"a worker ended with status {worker.process.exitcode}"
            if time.monotonic() > deadline:
                return f"a worker is not ready after {START_TIMEOUT_SECONDS:.0f} s"
        try:
            message: str = worker.pipe.recv()
        except EOFError:
            return f"a worker ended with status {worker.process.exitcode}"
        if message:
            return message
    return None


def _watch(team: list[_Worker], settings: Config, only: Role | None, run: Run, stop: Event) -> None:
    """Until `stop`: replace workers that ended."""
    logger = log.get("gateway.workers")
    while not stop.is_set():
        wait([worker.process.sentinel for worker in team], timeout=0.2)
        for number, worker in enumerate(team):
            if worker.process.is_alive() or stop.is_set():
                continue
            logger.error("worker ended, starting another", status=worker.process.exitcode)
            if worker.process.pid is not None:
                metrics.process_ended(worker.process.pid)
            worker.pipe.close()
            stop.wait(RESTART_DELAY_SECONDS)
            team[number] = _start(settings, only, run, first=number == 0)


def _stop(team: list[_Worker], timeout_seconds: float) -> None:
    for worker in team:
        if worker.process.is_alive():
            worker.process.terminate()
    deadline = time.monotonic() + timeout_seconds + AFTER_DOORS_SECONDS
    for worker in team:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()
