"""Processes for work on pixels: it uses all cores, and what a codec does to its process stays there.

A job is a function of a module, called with arguments that pickle. A process that crashes, or hangs longer than a job
may take, is replaced, and only its job fails.
"""

import math
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import Empty, LifoQueue
from typing import Any, TypeVar, cast

from gateway import log
from gateway.pixel_process import Call, Failed
from storage.errors import Exhausted, Unavailable

T = TypeVar("T")

JOB_SECONDS = 60.0
_WAIT_SECONDS = 30.0  # for a process that is free
_WAITING_PER_PROCESS = 32
_START_SECONDS = 30.0  # a process may need beyond its first job, to import what that calls
_END_SECONDS = 5.0
_COMMAND = "import sys; from gateway.pixel_process import main; main(int(sys.argv[1]))"

_log = log.get(__name__)


class Pool:
    """At most `processes` at work, each started when it is first needed; so many callers as `waiting` wait for one.

    Safe under threads.
    """

    def __init__(
        self,
        processes: int,
        *,
        waiting: int | None = None,
        job_seconds: float = JOB_SECONDS,
        wait_seconds: float = _WAIT_SECONDS,
    ) -> None:
        self.processes = processes
        self._job_seconds = job_seconds
        self._wait_seconds = wait_seconds
        self._room = threading.BoundedSemaphore(
            processes + (_WAITING_PER_PROCESS * processes if waiting is None else waiting)
        )
        self._free: LifoQueue[_Process | None] = LifoQueue()  # the one used last is warm; None: not started
        for _ in range(processes):
            self._free.put(None)
        self._started: set[_Process] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """What the function of a module gives for these arguments, called in another process.

        Raises what it raises of StorageError; Exhausted when too many wait; Unavailable when its process died, hung
        or was stopped; RuntimeError naming any other error by its type and place.
        """
        if not self._room.acquire(blocking=False):
            raise Exhausted("as many requests as are allowed wait for work on pixels")
        try:
            answer = self._answer(Call(function.__module__, function.__name__, args, self._last_seconds))
        finally:
            self._room.release()
        if isinstance(answer, Failed):
            raise answer.error
        return cast(T, answer)

    @property
    def _last_seconds(self) -> int:
        return math.ceil(2 * self._job_seconds + _START_SECONDS)

    def _answer(self, call: Call) -> object:
        try:
            process = self._free.get(timeout=self._wait_seconds)
        except Empty:
            raise Exhausted("no process for work on pixels has become free; try again later") from None
        try:
            process = process if process is not None and process.is_alive() else self._start(process)
            answer = process.call(call, self._job_seconds)
        except BaseException:
            if process is not None:
                self._end(process)
            process = None
            raise
        finally:
            self._free.put(process)
        return answer

    def _start(self, before: "_Process | None") -> "_Process":
        if before is not None:
            self._end(before)
        with self._lock:
            if self._closed:
                raise Unavailable("the gateway is stopping")
            process = _Process(self._job_seconds)
            self._started.add(process)
        return process

    def _end(self, process: "_Process") -> None:
        with self._lock:
            self._started.discard(process)
        process.end()

    def close(self) -> None:
        """End all processes; jobs that are being done fail (Unavailable), and so do those that come."""
        with self._lock:
            self._closed = True
            started, self._started = self._started, set()
        for process in started:
            process.kill()  # whoever waits for it ends it
        for process in started:
            process.reap()


class _Process:
    """One process, for one caller at a time."""

    def __init__(self, job_seconds: float) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            bound = struct.pack("ll", math.ceil(job_seconds), 0)
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):  # of one read or write: a stopped process
                ours.setsockopt(socket.SOL_SOCKET, option, bound)
            path = os.pathsep.join(filter(None, sys.path))
            try:
                self._popen = subprocess.Popen(
                    [sys.executable, "-P", "-c", _COMMAND, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": path},
                )
            except OSError as error:
                ours.close()
                raise Unavailable(f"no process for work on pixels can be started: {error.strerror}") from error
        self._connection = Connection(ours.detach())
        self._is_new = True

    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def call(self, call: Call, seconds: float) -> object:
        """Raises Unavailable when no answer comes in time, or none any more."""
        deadline = time.monotonic() + seconds + (_START_SECONDS if self._is_new else 0)
        try:
            self._connection.send(call)
            if not self._connection.poll(max(0.0, deadline - time.monotonic())):
                raise self._lost(call, "took longer than it may")
            answer: object = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._lost(call, "came to no end, its process died") from error
        self._is_new = False
        return answer

    def _lost(self, call: Call, what: str) -> Unavailable:
        _log.error("work on pixels failed; its process is replaced", work=call.name, why=what)
        return Unavailable(f"work on the pixels of an instance {what}")

    def kill(self) -> None:
        self._popen.kill()

    def reap(self) -> None:
        try:
            self._popen.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:  # in the kernel's hands: it goes when what it waits for comes
            _log.warning("a process for work on pixels does not end", pid=self._popen.pid)

    def end(self) -> None:
        self.kill()
        self.reap()
        self._connection.close()
