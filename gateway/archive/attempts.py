"""Tries one piece of work after another; what failed is tried again later, ever more rarely, and holds up nothing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from gateway import log
from gateway.archive.leases import Busy
from gateway.archive.steps import Stopped
from storage.errors import Conflict, Exhausted, NotFound, StorageError, Unavailable
from storage.packs import Damaged

_T = TypeVar("_T")

_SECOND = 1_000_000
_RARELY_SECONDS = 3600
_LONGEST_SECONDS = {Damaged: _RARELY_SECONDS, NotFound: 600, Conflict: 300, Exhausted: 60}
_FIRST_SECONDS = 5
_OUTAGE_SECONDS = 10  # always: that a store or the index is away says nothing of the work
_MAX_KEPT = 10_000
_IN_SUCCESSION = 3  # so many unavailable ones one after another: it is not their fault

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of one run."""

    done: int = 0
    failed: int = 0
    busy: int = 0


@dataclass(slots=True)
class _Failure:
    times: int
    not_before: int
    outage: str = ""  # why, when it was one


class Attempts:
    """Remembers what failed how often. `act` names the work in the log; `failed` is told of each failure."""

    def __init__(self, act: str, *, clock: Callable[[], int], failed: Callable[[], None]) -> None:
        self._act = act
        self._clock = clock
        self._failed = failed
        self._failures: dict[str, _Failure] = {}

    @property
    def waiting(self) -> int:
        """How many are not to be tried now: ask the index for so many more, that they hide no others."""
        return len(self.names_waiting)

    @property
    def names_waiting(self) -> frozenset[str]:
        """What is not to be tried now, by key."""
        now = self._clock()
        return frozenset(name for name, failure in self._failures.items() if failure.not_before > now)

    def run(self, work: Iterable[_T], *, key: Callable[[_T], str], do: Callable[[_T], object]) -> Tally:
        """Try each whose time has come.

        Raises Stopped at once, and Unavailable when that stopped several in succession: then it is not they that are at
        fault, and the caller is to wait. What there is no room for holds up nothing smaller; when nothing was done for
        want of room, Exhausted is raised in the end. So is Unavailable when nothing was done and something waits
        because of an outage: it goes on until something comes of a run.
        """
        done = failed = busy = unavailable = 0
        no_room: Exhausted | None = None
        begun: list[str] = []  # outages
        for one in work:
            if self._is_waiting(key(one)):
                continue
            try:
                do(one)
            except Busy:
                busy += 1
            except Stopped:
                raise
            except Exhausted as error:
                no_room = error
                failed += 1
                self._remember(key(one), error)
            except Exception as error:  # whatever is wrong with this one must not hold up the others
                failed += 1
                if _is_outage(error) and not self._waits_for(key(one)):
                    begun.append(key(one))
                self._remember(key(one), error)
                unavailable = unavailable + 1 if _is_outage(error) else 0
                if unavailable == _IN_SUCCESSION:
                    raise
            else:
                done += 1
                unavailable = 0
                self._failures.pop(key(one), None)
        if not done:
            if no_room is not None:
                raise no_room
            self._raise_outage()
        for name in begun:  # else who waits for the end of the outage tells of it
            _log.warning(f"cannot {self._act} it now", key=name, why=self._waits_for(name))
        return Tally(done, failed, busy)

    def _raise_outage(self) -> None:
        waiting = self.names_waiting
        outage = next((failure.outage for name, failure in self._failures.items() if name in waiting), "")
        if outage:
            raise Unavailable(outage)

    def _waits_for(self, name: str) -> str:
        """The outage that it waits for the end of; "" when it does not."""
        return self._failures[name].outage if name in self._failures else ""

    def _is_waiting(self, name: str) -> bool:
        failure = self._failures.get(name)
        return failure is not None and failure.not_before > self._clock()

    def _remember(self, name: str, error: Exception) -> None:
        self._failed()
        times = self._failures[name].times if name in self._failures else 0
        if _is_outage(error):
            pause = _OUTAGE_SECONDS
        else:
            times += 1
            kinds = _LONGEST_SECONDS.items()
            longest = next((each for kind, each in kinds if isinstance(error, kind)), _RARELY_SECONDS)
            pause = min(_FIRST_SECONDS * 2 ** min(times - 1, 20), longest)
        if name not in self._failures and len(self._failures) >= _MAX_KEPT:
            self._failures.pop(next(iter(self._failures)))
        outage = str(error) if _is_outage(error) else ""
        self._failures[name] = _Failure(times, self._clock() + pause * _SECOND, outage)
        if not outage:
            self._tell(error, key=name, failures=times, again_in_seconds=pause)

    def _tell(self, error: Exception, **about: object) -> None:
        event = f"cannot {self._act} it now"
        if not isinstance(error, StorageError):
            _log.error(event, exc_info=error, **about)
            return
        is_passing = isinstance(error, Exhausted)
        tell = _log.info if isinstance(error, Conflict) else _log.warning if is_passing else _log.error
        tell(event, why=str(error), **about)


def _is_outage(error: Exception) -> bool:
    return isinstance(error, Unavailable) and not isinstance(error, Damaged)
