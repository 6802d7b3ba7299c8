"""Frames transcoded in the pool, a few at a time, in the order in which they were given."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from gateway.archive.pool import Pool
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.pixels.frame_job import transcoded

Done = tuple[bytes, PixelDescription]


class Recoding(NamedTuple):
    """From what to what."""

    source: str
    target: str
    description: PixelDescription


class FrameWork:
    """Gives frames to the pool; its threads only wait for it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.at_once = pool.processes
        self._threads = ThreadPoolExecutor(2 * pool.processes, thread_name_prefix="frames")

    def begin(self, data: bytes, recoding: Recoding) -> "Future[Done]":
        """One frame, begun; its result raises what `Pool.run` does, and Invalid when it cannot be transcoded."""
        return self._threads.submit(self._pool.run, transcoded, data, *tuple(recoding))

    def in_order(self, frames: Iterable[bytes], recoding: Recoding) -> Iterator[Done]:
        """Each frame in its turn, while those that follow are worked on."""
        begun: deque[Future[Done]] = deque()
        try:
            for data in frames:
                begun.append(self.begin(data, recoding))
                if len(begun) > self.at_once:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for unwanted in begun:
                unwanted.cancel()

    def close(self) -> None:
        """Begin nothing more; call when the pool is closed."""
        self._threads.shutdown(cancel_futures=True)
