"""An eye on an object store that the gateway can do without for a while."""

import threading
import time
from collections.abc import Callable

from gateway import log
from storage.errors import StorageError

EVERY_SECONDS = 15.0

_log = log.get(__name__)


class Lookout:
    """Remembers what was wrong at the last look. Looking may take long when a network is down: nobody waits for it."""

    def __init__(self, check: Callable[[], None], name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._check = check
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._due = float("-inf")
        self._trouble = ""

    def trouble(self) -> str:
        """What was wrong at the last look, "" when nothing was. When that was long ago, another look begins."""
        with self._lock:
            due = self._clock() >= self._due
            if due:
                self._due = float("inf")  # until this look is over
        if due:
            threading.Thread(target=self._look, name=f"look at the {self._name}", daemon=True).start()
        return self._trouble

    def look(self, within_seconds: float) -> bool:
        """Look now; whether that was over in time. Raises what `check` raises; a look that takes longer goes on."""
        found: list[Exception | None] = []
        thread = threading.Thread(
            target=lambda: found.append(self._look()), name=f"look at the {self._name}", daemon=True
        )
        thread.start()
        thread.join(within_seconds)
        if not found:
            self._saw(f"{self._name}: does not answer")
            return False
        if found[0] is not None:
            raise found[0]
        return True

    def _look(self) -> Exception | None:
        try:
            self._check()
        except StorageError as error:
            self._saw(f"{self._name}: {error}")
            return error
        except Exception as error:  # nobody foresaw it: that is trouble too, and the next look is not to be the last
            _log.error("unexpected error", exc_info=error)
            self._saw(f"{self._name}: cannot be looked at")
            return error
        self._saw("")
        return None

    def _saw(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _log.warning("out of order", what=trouble)
        elif self._trouble and not trouble:
            _log.info("in order again", what=self._name)
        with self._lock:
            self._trouble = trouble
            self._due = self._clock() + EVERY_SECONDS
