"""Leases in the index, so that of many gateways one alone seals, compacts, copies or sweeps the packs of a series."""

import os
import secrets
import socket
from threading import Event, Thread
from types import TracebackType
from typing import Self

from gateway import log
from storage.errors import Conflict, StorageError
from storage.index import PackingIndex

LEASE_SECONDS = 60.0
_RENEWALS = 4  # within the time of a lease
_log = log.get(__name__)


class Busy(Conflict):
    """Another worker has the lease; it is seeing to it."""


class SeriesLease:
    """The right to change the pack objects of a series, renewed by a thread of its own while the context lasts.

    Entering raises Busy when another has it, Unavailable when the index does not answer.
    """

    def __init__(self, index: PackingIndex, study_uid: str, series_uid: str, *, seconds: float = LEASE_SECONDS) -> None:
        self._index = index
        self._name = f"seal/{study_uid}/{series_uid}"
        self._holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(8)}"
        self._seconds = seconds
        self._ended = Event()
        self._lost = Event()
        self._renewing = Thread(target=self._renew, name="lease")

    def check(self) -> None:
        """Make sure of the lease before a step that cannot be taken back. Raises Busy when it is ours no more; whoever
        had it in between may have changed everything, so it is never taken anew.
        """
        if self._lost.is_set() or not self._index.renew(self._name, self._holder, self._seconds):
            raise Busy("the work took so long that another worker has taken it over")

    def __enter__(self) -> Self:
        if not self._index.lease(self._name, self._holder, self._seconds):
            raise Busy("another worker is at this series")
        self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._renewing.join()
        try:
            self._index.release(self._name, self._holder)
        except StorageError as problem:  # it runs out by itself
            _log.warning("a lease could not be given back", why=str(problem))

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / _RENEWALS):
            try:
                if not self._index.renew(self._name, self._holder, self._seconds):
                    self._lost.set()
                    return
            except StorageError as problem:  # `check` tells whether it is still ours
                _log.warning("a lease could not be renewed", why=str(problem))
