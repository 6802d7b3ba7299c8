"""An archive whose acts are counted and timed; the same in all else. Use it around everything, the guard included."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gateway import metrics
from gateway.archive import AS_STORED, Archive, Expected, Found, Part, Receipt
from gateway.archive.incoming import Incoming
from gateway.security.caller import Caller
from gateway.security.policy import Forbidden, Verb
from storage.dicom.identity import Identity, Scope
from storage.dicom.query import Query
from storage.errors import Conflict, Invalid, NotAcceptable, NotFound
from storage.index import Removed

_REFUSALS = (Forbidden, Invalid, NotFound, NotAcceptable, Conflict)


class MeteredArchive:
    """The Archive `inner`, seen by `gateway.metrics`. Reading is timed until the answer begins."""

    def __init__(self, inner: Archive) -> None:
        self._inner = inner

    def incoming(self) -> Incoming:
        """See `Archive`."""
        return self._inner.incoming()

    def store(self, incoming: Incoming, expected: Expected, *, by: Caller) -> Receipt:
        """See `Archive`."""
        length, outcome = len(incoming), "failed"
        try:
            with _timed(Verb.STORE, by):
                receipt = self._inner.store(incoming, expected, by=by)
            outcome = str(receipt.outcome)
            return receipt
        finally:
            metrics.stored(by.door, outcome, length)

    def search(self, query: Query, *, by: Caller) -> Found:
        """See `ArchiveReader`."""
        with _timed(Verb.SEARCH, by):
            return self._inner.search(query, by=by)

    def metadata(self, scope: Scope, *, by: Caller) -> Iterator[tuple[Identity, bytes]]:
        """See `ArchiveReader`."""
        with _timed(Verb.METADATA, by):
            return self._inner.metadata(scope, by=by)

    def retrieve(self, scope: Scope, *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`."""
        with _timed(Verb.RETRIEVE, by):
            return self._inner.retrieve(scope, accept=accept, by=by)

    def frames(self, scope: Scope, numbers: Sequence[int], *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`."""
        with _timed(Verb.FRAMES, by):
            return self._inner.frames(scope, numbers, accept=accept, by=by)

    def bulk(self, scope: Scope, path: str, *, accept: Sequence[str] = (AS_STORED,), by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`."""
        with _timed(Verb.BULK, by):
            return self._inner.bulk(scope, path, accept=accept, by=by)

    def delete(self, scope: Scope, *, by: Caller) -> Removed:
        """See `Archive`."""
        with _timed(Verb.DELETE, by):
            return self._inner.delete(scope, by=by)

    def check(self) -> str:
        """See `Archive`."""
        return self._inner.check()


@contextmanager
def _timed(verb: Verb, by: Caller) -> Iterator[None]:
    outcome = "failed"
    begun = time.perf_counter()
    try:
        yield
        outcome = "done"
    except _REFUSALS:
        outcome = "refused"
        raise
    finally:
        metrics.acted(verb, by.door, outcome, time.perf_counter() - begun)
