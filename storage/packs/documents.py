"""The metadata of sealed instances, read from their packs and held in memory for as long as there is room."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

from storage.errors import Invalid, NotFound, Unavailable
from storage.objects import Body
from storage.packs import Blocks, Damaged, Pack
from storage.packs.flights import Flights
from storage.packs.metadata import documents_of

_DOCUMENT_BYTES = 64  # that each takes beside its text


class SpanReader(Protocol):
    """What reads verified spans of packs: a BlockReader."""

    def get(self, key: str, span: tuple[int, int], blocks: Blocks) -> Body: ...


class PackDocuments:
    """Gives the DICOM JSON of the instances of packs, by `readers`, one for each object store by its name.

    Up to `max_bytes` of what was used last stay in memory. Safe under threads; a pack is read once at a time.
    """

    def __init__(self, readers: Mapping[str, SpanReader], *, max_bytes: int = 64 << 20) -> None:
        self._readers = readers
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, str], list[bytes]] = OrderedDict()
        self._held_bytes = 0
        self._flights: Flights[tuple[str, str], list[bytes]] = Flights()

    def documents(self, pack: Pack) -> Sequence[bytes]:
        """The DICOM JSON of each of `pack.instances`, in their order. Raises Damaged, Unavailable."""
        name = (pack.location.store, pack.location.key)
        found = self._recent(name)
        if found is None:
            found = self._flights.join(name, lambda: self._recent(name) or self._held_from_now(name, self._read(pack)))
        return _left(found, pack)

    def _recent(self, name: tuple[str, str]) -> list[bytes] | None:
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
            return self._held.get(name)

    def _read(self, pack: Pack) -> list[bytes]:
        location = pack.location
        reader = self._readers.get(location.store)
        if reader is None:
            raise Unavailable("a pack lies in an object store that is not configured here")
        try:
            with reader.get(location.key, pack.metadata, pack.blocks) as body:
                return documents_of(body.read())
        except NotFound as error:
            raise Unavailable("the pack with the metadata of a series is not there") from error
        except (Invalid, ValueError) as error:
            raise Damaged("the metadata of a pack is not what was stored", key=location.key) from error

    def _held_from_now(self, name: tuple[str, str], documents: list[bytes]) -> list[bytes]:
        size = _size(documents)
        if size <= self._max_bytes:
            with self._lock:
                self._held[name] = documents
                self._held_bytes += size
                while self._held_bytes > self._max_bytes:
                    self._held_bytes -= _size(self._held.popitem(last=False)[1])
        return documents


def _left(documents: list[bytes], pack: Pack) -> Sequence[bytes]:
    """The documents of the instances that were not removed."""
    if pack.positions is None:
        chosen = documents
    else:
        if pack.positions and max(pack.positions) >= len(documents):
            raise Damaged("the metadata of a pack lacks instances", key=pack.location.key)
        chosen = [documents[position] for position in pack.positions]
    if len(chosen) != len(pack.instances):
        raise Damaged("the metadata of a pack is not of as many instances as the index says", key=pack.location.key)
    return chosen


def _size(documents: list[bytes]) -> int:
    return sum(map(len, documents)) + _DOCUMENT_BYTES * len(documents)
