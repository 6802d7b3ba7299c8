"""The CPU and memory of a server's processes, and of everything else on the machine, while a load is on it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import psutil

SAMPLE_SECONDS = 0.1
SETTLE_SECONDS, IDLE_SECONDS = 10.0, 0.5


class Gone(Exception):
    """The server's process has ended."""


class Watch(threading.Thread):
    """The CPU and the peak memory of a server's processes while a load is on it; all None without a process."""

    def __init__(self, process: int | None) -> None:
        super().__init__(daemon=True)
        self._root = None if process is None else psutil.Process(process)
        self._cpu_before = self._cpu()
        self._over = threading.Event()
        self.peak_mib: float | None = None

    def run(self) -> None:
        while self._root is not None and self._root.is_running():
            self.peak_mib = max(self.peak_mib or 0.0, self._memory_mib())
            if self._over.wait(SAMPLE_SECONDS):
                return

    def stop(self) -> None:
        self._over.set()
        if self.is_alive():
            self.join()

    def settled_cpu(self) -> float | None:
        """CPU seconds since the start, once the server is idle: work put off past its answers counts too."""
        if self._root is None:
            return None
        deadline = time.monotonic() + SETTLE_SECONDS
        last = self._cpu()
        while time.monotonic() < deadline:
            time.sleep(IDLE_SECONDS)
            now = self._cpu()
            if now - last < 0.02:
                break
            last = now
        return self._cpu() - self._cpu_before

    def _tree(self) -> list[psutil.Process]:
        if self._root is None:
            return []
        if not self._root.is_running():
            raise Gone("the server's process has ended")
        return [self._root, *self._root.children(recursive=True)]

    def _cpu(self) -> float:
        return sum(_of_living(lambda process: sum(process.cpu_times()[:4]), self._tree()))

    def _memory_mib(self) -> float:
        """Proportional set size: pages shared by the processes count once."""
        return sum(_of_living(lambda process: process.memory_full_info().pss, self._tree())) / (1 << 20)


def _of_living(measure: Callable[[psutil.Process], float], processes: Iterable[psutil.Process]) -> Iterator[float]:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # a server may have helpers that come and go
            yield float(measure(process))


def machine_cpu() -> float:
    """CPU seconds that the machine has been busy."""
    times = psutil.cpu_times()
    return float(sum(times[:8]) - times.idle - times.iowait)


def load_cpu() -> float:
    """CPU seconds that this process and those it has waited for have used."""
    return float(sum(psutil.Process().cpu_times()[:4]))
