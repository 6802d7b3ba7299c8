"""Reads loose instances for the sealer, some ahead of it when the spool is far away: one request for each."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from storage.index import LooseInstance
from storage.objects import Body, Buffer, Location, ObjectStore

_MAX_BYTES_EACH = 4 << 20  # larger ones are streamed when their turn comes
_PER_THREAD = 2  # instances that wait in memory


@dataclass(frozen=True, slots=True)
class Opened:
    """A loose instance and its bytes, to be read once."""

    loose: LooseInstance
    chunks: Callable[[], Iterator[Buffer]]


OpenedOnes = Generator[Opened, None, None]  # to be closed when they are not wanted to the end


def opened(loose: Iterable[LooseInstance], stores: Mapping[str, ObjectStore], *, threads: int = 0) -> OpenedOnes:
    """Each instance in turn. With `threads`, that many read ahead, within 8 MiB of memory for each.

    What cannot be read raises NotFound or Unavailable when its own chunks are asked for.
    """
    if threads:
        yield from _ahead(loose, stores, threads)
        return
    for one in loose:
        yield Opened(one, _Streamed(stores, one.location))


def _ahead(loose: Iterable[LooseInstance], stores: Mapping[str, ObjectStore], threads: int) -> OpenedOnes:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    begun: deque[Opened] = deque()  # and not handed out
    try:
        for one in loose:
            begun.append(Opened(one, _begun(pool, stores, one.location)))
            if len(begun) > threads * _PER_THREAD:
                yield begun.popleft()
        while begun:
            yield begun.popleft()
    finally:
        for unwanted in begun:
            if isinstance(unwanted.chunks, _Fetched):
                unwanted.chunks.data.cancel()
        pool.shutdown()


def _begun(pool: ThreadPoolExecutor, stores: Mapping[str, ObjectStore], location: Location) -> "_Fetched | _Streamed":
    if location.length > _MAX_BYTES_EACH:
        return _Streamed(stores, location)
    return _Fetched(pool.submit(_read, stores, location))


@dataclass(frozen=True, slots=True)
class _Streamed:
    stores: Mapping[str, ObjectStore]
    location: Location

    def __call__(self) -> Iterator[Buffer]:
        with _open(self.stores, self.location) as body:
            yield from body.chunks()


@dataclass(frozen=True, slots=True)
class _Fetched:
    data: "Future[bytes]"

    def __call__(self) -> Iterator[Buffer]:
        yield self.data.result()


def _read(stores: Mapping[str, ObjectStore], location: Location) -> bytes:
    with _open(stores, location) as body:
        return body.read()


def _open(stores: Mapping[str, ObjectStore], location: Location) -> Body:
    return stores[location.store].get(location.key, (location.offset, location.length))
