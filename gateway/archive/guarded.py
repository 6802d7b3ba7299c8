"""An archive behind policy and audit: who may not is Forbidden, and every act is recorded with what came of it."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from gateway.archive import AS_STORED, Archive, Expected, Found, Part, Receipt
from gateway.archive.incoming import Incoming
from gateway.security.audit import AuditLog, Event, Outcome
from gateway.security.caller import Caller
from gateway.security.policy import Forbidden, Policy, Verb
from storage.dicom.identity import Identity, Scope
from storage.dicom.query import Query
from storage.errors import Conflict, Invalid, NotAcceptable, NotFound
from storage.index import Removed

_T = TypeVar("_T")
_CALLERS_MISTAKE = (Invalid, NotFound, NotAcceptable, Conflict)


class GuardedArchive:
    """The Archive `inner` for callers that are checked and audited; the same in all else."""

    def __init__(self, inner: Archive, policy: Policy, audit: AuditLog) -> None:
        self._inner = inner
        self._policy = policy
        self._audit = audit

    def incoming(self) -> Incoming:
        """See `Archive`."""
        return self._inner.incoming()

    def store(self, incoming: Incoming, expected: Expected, *, by: Caller) -> Receipt:
        """See `Archive`; raises Forbidden."""
        announced = _announced(expected)
        receipt = self._guarded(Verb.STORE, announced, by, lambda: self._inner.store(incoming, expected, by=by))
        found = receipt.identity
        scope = Scope(found.study_uid, found.series_uid, found.sop_uid)
        self._audit.record(Event.of(Verb.STORE, Outcome.SUCCESS, by, scope, count=1, reason=receipt.outcome))
        return receipt

    def search(self, query: Query, *, by: Caller) -> Found:
        """See `ArchiveReader`; raises Forbidden. Rows that `by` may not see are not found."""
        scope = _bound(query)
        found = self._guarded(Verb.SEARCH, scope, by, lambda: self._inner.search(self._policy.narrow(by, query), by=by))
        self._audit.record(Event.of(Verb.SEARCH, Outcome.SUCCESS, by, scope, count=len(found.rows)))
        return found

    def metadata(self, scope: Scope, *, by: Caller) -> Iterator[tuple[Identity, bytes]]:
        """See `ArchiveReader`; raises Forbidden."""
        rows = self._guarded(Verb.METADATA, scope, by, lambda: self._inner.metadata(scope, by=by))
        self._audit.record(Event.of(Verb.METADATA, Outcome.SUCCESS, by, scope))
        return self._watched(rows, Verb.METADATA, scope, by)

    def retrieve(self, scope: Scope, *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`; raises Forbidden."""
        return self._parts(Verb.RETRIEVE, scope, by, lambda: self._inner.retrieve(scope, accept=accept, by=by))

    def frames(self, scope: Scope, numbers: Sequence[int], *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`; raises Forbidden."""
        return self._parts(
            Verb.FRAMES,
            scope,
            by,
            lambda: self._inner.frames(scope, numbers, accept=accept, by=by),
            count=len(numbers),
        )

    def bulk(self, scope: Scope, path: str, *, accept: Sequence[str] = (AS_STORED,), by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`; raises Forbidden."""
        return self._parts(Verb.BULK, scope, by, lambda: self._inner.bulk(scope, path, accept=accept, by=by))

    def delete(self, scope: Scope, *, by: Caller) -> Removed:
        """See `Archive`; raises Forbidden."""
        removed = self._guarded(Verb.DELETE, scope, by, lambda: self._inner.delete(scope, by=by))
        self._audit.record(Event.of(Verb.DELETE, Outcome.SUCCESS, by, scope, count=removed.instances))
        return removed

    def check(self) -> str:
        """See `Archive`."""
        return self._inner.check()

    def _guarded(self, verb: Verb, scope: Scope | None, by: Caller, act: Callable[[], _T]) -> _T:
        """What `act` gives if `by` may; a refusal or failure is recorded on its way up."""
        try:
            self._policy.check(by, verb, scope)
            return act()
        except Exception as error:
            self._record_failure(verb, scope, by, error)
            raise

    def _parts(
        self, verb: Verb, scope: Scope, by: Caller, act: Callable[[], Iterator[Part]], *, count: int | None = None
    ) -> Iterator[Part]:
        parts = self._guarded(verb, scope, by, act)
        self._audit.record(Event.of(verb, Outcome.SUCCESS, by, scope, count=count))

        def broke(error: Exception) -> None:
            self._record_failure(verb, scope, by, error)

        return _WatchedParts(parts, broke)

    def _watched(self, rows: Iterator[_T], verb: Verb, scope: Scope, by: Caller) -> Iterator[_T]:
        """`rows`, which are being sent already; that they break off is recorded too."""
        try:
            yield from rows
        except Exception as error:
            self._record_failure(verb, scope, by, error)
            raise

    def _record_failure(self, verb: Verb, scope: Scope | None, by: Caller, error: Exception) -> None:
        self._audit.record(Event.of(verb, _outcome(error), by, scope, reason=_reason(error)))


class _WatchedParts:
    """Parts whose failing, between two or within one, is told to `broke`; closing reaches the parts within."""

    def __init__(self, parts: Iterator[Part], broke: Callable[[Exception], None]) -> None:
        self._parts = parts
        self._broke = broke

    def __iter__(self) -> Iterator[Part]:
        return self

    def __next__(self) -> Part:
        try:
            return _WatchedPart(next(self._parts), self._broke)
        except StopIteration:
            raise
        except Exception as error:
            self._broke(error)
            raise

    def close(self) -> None:
        close = getattr(self._parts, "close", None)  # an iterator need not have it, a generator has
        if close is not None:
            close()


class _WatchedPart:
    def __init__(self, part: Part, broke: Callable[[Exception], None]) -> None:
        self._part = part
        self._broke = broke

    @property
    def identity(self) -> Identity:
        return self._part.identity

    @property
    def transfer_syntax(self) -> str:
        return self._part.transfer_syntax

    @property
    def place(self) -> str:
        return self._part.place

    @property
    def length(self) -> int:
        return self._part.length

    def chunks(self) -> Iterator[bytes]:
        try:
            yield from self._part.chunks()
        except Exception as error:
            self._broke(error)
            raise

    def close(self) -> None:
        self._part.close()


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, Forbidden):
        return Outcome.DENIED
    return Outcome.MINOR if isinstance(error, _CALLERS_MISTAKE) else Outcome.FAILURE


def _reason(error: Exception) -> str:
    name = type(error).__name__
    return f"{name}: {error.fault}" if isinstance(error, Invalid) else name


def _announced(expected: Expected) -> Scope | None:
    """The study that a store was announced for."""
    return Scope(expected.study_uid) if expected.study_uid is not None else None


def _bound(query: Query) -> Scope | None:
    """The study or series that the resource path of a search names; its keys are never recorded."""
    return Scope(query.study_uid, query.series_uid) if query.study_uid is not None else None
