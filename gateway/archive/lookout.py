"""An eye on an object store that the gateway can do without for a while."""

import threading
import time
from collections.abc import Callable

from gateway import log
from storage.errors import StorageError

EVERY_SECONDS = 15.0

_log = log.get(__name__)


class Lookout:
    """Looks every 15 seconds, in a thread of its own, and remembers what was wrong at the last look.

    A look may take long when a network is down: nobody waits for it.
    """

    def __init__(
        self,
        check: Callable[[], None],
        name: str,
        *,
        every_seconds: float = EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check = check
        self._name = name
        self._every_seconds = every_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = threading.Event()  # once at least
        self._ended = threading.Event()
        self._error: Exception | None = None
        self._trouble = ""
        self._since = 0.0
        self._thread = threading.Thread(target=self._watch, name=f"look at the {name}", daemon=True)

    def start(self) -> None:
        """Begin to look, at once."""
        self._thread.start()

    def first(self, within_seconds: float) -> bool:
        """Wait for the first look; whether it was over in time. Raises what was wrong then."""
        if self._looked.wait(within_seconds):
            if self._error is not None:
                raise self._error
            return True
        self._saw(f"{self._name}: does not answer", unless=self._looked.is_set)
        return False

    def trouble(self) -> str:
        """What was wrong at the last look, "" when nothing was."""
        return self._trouble

    def stop(self) -> None:
        """Look no more. A look that is going on is not waited for, and what it sees is not told."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._error = self._look()
            self._looked.set()
            self._ended.wait(self._every_seconds)

    def _look(self) -> Exception | None:
        try:
            self._check()
        except StorageError as error:
            self._saw(f"{self._name}: {error}")
            return error
        except Exception as error:  # nobody foresaw it: that is trouble too, and the next look is not to be the last
            if not self._ended.is_set():
                _log.error("unexpected error", exc_info=error)
            self._saw(f"{self._name}: cannot be looked at")
            return error
        self._saw("")
        return None

    def _saw(self, trouble: str, unless: Callable[[], bool] = lambda: False) -> None:
        with self._lock:
            if self._ended.is_set() or unless():
                return
            before, self._trouble = self._trouble, trouble
            if trouble and not before:
                self._since = self._clock()
        if trouble and trouble != before:
            _log.warning("out of order", what=trouble)
        elif before and not trouble:
            _log.info("in order again", what=self._name, after_seconds=round(self._clock() - self._since))
