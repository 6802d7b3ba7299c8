"""Runs what keeps the archive in shape: seals, compacts, copies, sweeps, each in a thread of its own.

When an object store or the index does not answer, a worker waits, longer each time, and goes on by itself afterwards.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Thread

from gateway import log, metrics
from gateway.archive.steps import Stopped
from storage.errors import StorageError

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Work that comes up again and again. `run` does some of it; whether there is more to be done at once."""

    act: str  # "seal", "compact", "copy", "sweep", ...
    run: Callable[[], bool]
    every_seconds: float


class Workers:
    """The jobs, each in a thread. `stop` is set when they are to end: the jobs look at it within what takes long."""

    def __init__(self, jobs: Sequence[Job], *, stop: Event) -> None:
        self._stop = stop
        self._wakes = [Event() for _ in jobs]
        self._threads = [
            Thread(target=self._work, args=(job, wake), name=job.act)
            for job, wake in zip(jobs, self._wakes, strict=True)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def nudge(self) -> None:
        """There is something to do: do not wait until the next look."""
        for wake in self._wakes:
            wake.set()

    def stop(self, timeout_seconds: float) -> bool:
        """Let each end after the step that it is at; whether all have ended in time. What is cut off is begun anew."""
        self._stop.set()
        self.nudge()
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        late = [thread.name for thread in self._threads if thread.is_alive()]
        if late:
            _log.warning("workers are still at a step while the gateway stops", acts=late)
        return not late

    def _work(self, job: Job, wake: Event) -> None:
        pause = since = 0.0
        while not self._stop.is_set():
            try:
                more = job.run()
            except Stopped:
                return
            except Exception as error:  # whatever it is, it must not end the sealing for good
                if not pause:
                    since = time.monotonic()
                    _tell(job.act, error)
                pause = min(max(pause * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
                metrics.upkeep_stalled(job.act, True)
                wake.wait(pause * random.uniform(0.5, 1.0))
                self._rest_after_trouble(wake)
                continue
            if pause:
                _log.info("going on", act=job.act, after_seconds=round(time.monotonic() - since))
            pause = 0.0
            metrics.upkeep_stalled(job.act, False)
            if not more:
                wake.wait(job.every_seconds * random.uniform(0.8, 1.0))
                wake.clear()

    def _rest_after_trouble(self, wake: Event) -> None:
        """A nudge ends a pause, but not all of it: who nudges often must not make us try often."""
        if wake.is_set():
            wake.clear()
            self._stop.wait(_FIRST_PAUSE_SECONDS)


def _tell(act: str, error: Exception) -> None:
    if isinstance(error, StorageError):
        _log.warning("waiting until it works again", act=act, why=str(error))
    else:
        _log.error("a worker failed and will try again", act=act, exc_info=error)
