"""Work on many things in a few threads, never further ahead than a few."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Thing = TypeVar("Thing")
Result = TypeVar("Result")
_AHEAD = 2  # of each thread, waiting to be begun or to be fetched


def each(work: Callable[[Thing], Result], things: Iterable[Thing], threads: int) -> Iterator[Result]:
    """`work(thing)` for each of `things`, in their order. What it raises ends it all; what was begun then finishes."""
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="upkeep") as pool:
        try:
            for thing in things:
                running.append(pool.submit(work, thing))
                if len(running) >= threads * _AHEAD:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
