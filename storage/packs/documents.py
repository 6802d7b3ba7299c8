"""The metadata of sealed instances, read from their packs and held in memory for as long as there is room."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from storage.errors import Exhausted, Invalid, NotFound, Unavailable
from storage.objects import Body
from storage.packs import Blocks, Damaged, Pack
from storage.packs.flights import Flights
from storage.packs.metadata import documents_of

_DOCUMENT_BYTES = 64  # that each takes beside its text
_INFLATING = 4  # packs at once: while it is inflated the metadata of a pack takes twice its room


class SpanReader(Protocol):
    """What reads verified spans of packs: a BlockReader."""

    def get(self, key: str, span: tuple[int, int], blocks: Blocks) -> Body: ...


class _Documents(list[bytes]):
    """The DICOM JSON of all instances in a pack; a list of its own kind, as others cannot be referred to weakly."""

    __slots__ = ("__weakref__", "size")

    def __init__(self, documents: list[bytes]) -> None:
        super().__init__(documents)
        self.size = sum(map(len, documents)) + _DOCUMENT_BYTES * len(documents)


class PackDocuments:
    """Gives the DICOM JSON of the instances of packs, by `readers`, one for each object store by its name.

    Up to `max_bytes` of what was used last stay in memory, and what somebody still reads from, however long that takes:
    it is shared with all who come meanwhile, and is `max_in_use_bytes` at most. Safe under threads; a pack is read once
    at a time.
    """

    def __init__(
        self, readers: Mapping[str, SpanReader], *, max_bytes: int = 64 << 20, max_in_use_bytes: int = 512 << 20
    ) -> None:
        self._readers = readers
        self._max_bytes = max_bytes
        self._max_in_use_bytes = max_in_use_bytes
        self._lock = threading.Lock()
        self._inflating = threading.Semaphore(_INFLATING)
        self._in_use: WeakValueDictionary[tuple[str, str], _Documents] = WeakValueDictionary()
        self._held: OrderedDict[tuple[str, str], _Documents] = OrderedDict()
        self._held_bytes = 0
        self._flights: Flights[tuple[str, str], _Documents] = Flights()

    def documents(self, pack: Pack) -> Sequence[bytes]:
        """The DICOM JSON of each of `pack.instances`, in their order.

        Raises Damaged, Unavailable; Exhausted when too much is being read from others at once.
        """
        name = (pack.location.store, pack.location.key)
        found = self._recent(name)
        if found is None:
            found = self._flights.join(name, lambda: self._recent(name) or self._held_from_now(name, self._read(pack)))
        return _left(found, pack)

    def _recent(self, name: tuple[str, str]) -> _Documents | None:
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
            return self._in_use.get(name)

    def _read(self, pack: Pack) -> _Documents:
        location = pack.location
        reader = self._readers.get(location.store)
        if reader is None:
            raise Unavailable("a pack lies in an object store that is not configured here")
        try:
            with reader.get(location.key, pack.metadata, pack.blocks) as body:
                compressed = body.read()
            with self._inflating:
                return _Documents(documents_of(compressed))
        except NotFound as error:
            raise Damaged("the pack with the metadata of a series is not there", key=location.key) from error
        except (Invalid, ValueError) as error:
            raise Damaged("the metadata of a pack is not what was stored", key=location.key) from error

    def _held_from_now(self, name: tuple[str, str], documents: _Documents) -> _Documents:
        with self._lock:
            if not self._is_room(documents.size):
                self._make_room(0)
                if not self._is_room(documents.size):
                    raise Exhausted("the metadata of too many packs is being read at once; try again later")
            self._in_use[name] = documents
            if documents.size <= self._max_bytes:
                self._make_room(self._max_bytes - documents.size)
                self._held[name] = documents
                self._held_bytes += documents.size
        return documents

    def _is_room(self, size: int) -> bool:
        return sum(one.size for one in self._in_use.values()) + size <= self._max_in_use_bytes

    def _make_room(self, most: int) -> None:
        """Hold no more than so much that nobody may be reading from."""
        while self._held and self._held_bytes > most:
            self._held_bytes -= self._held.popitem(last=False)[1].size


def _left(documents: _Documents, pack: Pack) -> Sequence[bytes]:
    """The documents of the instances that were not removed."""
    chosen: list[bytes]
    if pack.positions is None:
        chosen = documents
    else:
        if pack.positions and max(pack.positions) >= len(documents):
            raise Damaged("the metadata of a pack lacks instances", key=pack.location.key)
        chosen = [documents[position] for position in pack.positions]
    if len(chosen) != len(pack.instances):
        raise Damaged("the metadata of a pack is not of as many instances as the index says", key=pack.location.key)
    return chosen
