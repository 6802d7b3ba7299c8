"""Deletes doomed objects from their stores, and tells a store that is away from an object that it will not let go."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway import log, metrics
from gateway.archive.clock import SECOND
from storage.errors import Exhausted, StorageError
from storage.objects import Location, ObjectStore
from storage.objects.s3_errors import Passing

_FIRST_SECONDS, _LONGEST_SECONDS = 60, 3600
_MAX_KEPT = 100_000
_NAMED_AT_ONCE = 10

_log = log.get(__name__)


class _Name(NamedTuple):
    """An object, whatever else is known of where it lies."""

    store: str
    key: str

    @classmethod
    def of(cls, location: Location) -> "_Name":
        return cls(location.store, location.key)


@dataclass(frozen=True, slots=True)
class _Refusal:
    why: str
    times: int
    again_at: int


class Refusals:
    """What stores in order refuse to delete (locked objects), each to be tried again ever more rarely."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._kept: dict[_Name, _Refusal] = {}

    def rests(self, location: Location) -> bool:
        """Whether it is not to be tried now."""
        refusal = self._kept.get(_Name.of(location))
        return refusal is not None and refusal.again_at > self._clock()

    def why(self, location: Location) -> str:
        """What the store said, "" when it did not refuse."""
        refusal = self._kept.get(_Name.of(location))
        return "" if refusal is None else refusal.why

    def remember(self, location: Location, error: StorageError) -> None:
        """It was refused once more."""
        name = _Name.of(location)
        times = self._kept[name].times + 1 if name in self._kept else 1
        if name not in self._kept and len(self._kept) >= _MAX_KEPT:
            self._kept.pop(next(iter(self._kept)))
        seconds = min(_FIRST_SECONDS * 2 ** min(times - 1, 20), _LONGEST_SECONDS)
        self._kept[name] = _Refusal(str(error), times, self._clock() + seconds * SECOND)

    def forget(self, locations: Sequence[Location]) -> None:
        """These are gone."""
        for location in locations:
            self._kept.pop(_Name.of(location), None)


class Deleting:
    """One run over `stores`. `troubles` says which of them were away: these are asked no more."""

    def __init__(self, stores: Mapping[str, ObjectStore], refusals: Refusals) -> None:
        self._stores = stores
        self._refusals = refusals
        self._in_order: set[str] = set()
        self._refused: dict[str, list[str]] = {}
        self.troubles: dict[str, StorageError] = {}

    def delete(self, store: str, locations: Sequence[Location]) -> Sequence[Location]:
        """Delete objects of this store; those that are gone. When one is refused the others go all the same: they are
        halved until it is found.
        """
        if store in self.troubles:
            return ()
        try:
            self._stores[store].delete([location.key for location in locations])
        except StorageError as error:
            if self._is_away(store, error):
                metrics.upkeep_failed("sweep")
                self.troubles[store] = error
                return ()
            if len(locations) > 1:
                middle = len(locations) // 2
                return [*self.delete(store, locations[:middle]), *self.delete(store, locations[middle:])]
            metrics.upkeep_failed("sweep")
            self._refusals.remember(locations[0], error)
            self._refused.setdefault(store, []).append(locations[0].key)
            return ()
        self._refusals.forget(locations)
        return locations

    def _is_away(self, store: str, error: StorageError) -> bool:
        """Whether it would say the same of any object; it is looked at once a run."""
        if isinstance(error, Passing | Exhausted):
            return True
        if store not in self._in_order:
            try:
                self._stores[store].check()
            except StorageError:
                return True
            self._in_order.add(store)
        return False

    def tell(self) -> None:
        """Name in the log what was refused in this run."""
        for store, keys in self._refused.items():
            _log.warning("objects cannot be deleted", store=store, count=len(keys), keys=keys[:_NAMED_AT_ONCE])
