"""How many associations there may be at once, in all and for each caller.

A rejection for a limit says nothing about who may do what: it is logged and counted, not audited.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from gateway.security.ae_rules import Rejected

# Rejected-transient, service-provider (presentation), local-limit-exceeded (PS3.8 9.3.4): try again later.
_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


class Limits:
    """Places for associations. Thread-safe."""

    def __init__(self, total: int, per_caller: int) -> None:
        self._total = total
        self._per_caller = per_caller
        self._taken: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """A place for `caller` while in the context. Raises Rejected (transient) when none is free."""
        with self._lock:
            if self._taken.total() >= self._total:
                raise Rejected(*_LOCAL_LIMIT_EXCEEDED, "too many associations")
            if self._taken[caller] >= self._per_caller:
                raise Rejected(*_LOCAL_LIMIT_EXCEEDED, "too many associations of this caller")
            self._taken[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[caller] -= 1
                if not self._taken[caller]:
                    del self._taken[caller]
