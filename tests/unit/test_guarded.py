"""The guard: nobody does what they may not, and the audit tells every act with what came of it."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.archive import AS_STORED, Expected
from gateway.archive.guarded import GuardedArchive
from gateway.archive.metered import MeteredArchive
from gateway.security.audit import Event, Outcome
from gateway.security.caller import Caller, Right
from gateway.security.policy import Forbidden, RightsPolicy, Verb
from storage.dicom.identity import Scope
from storage.dicom.query import Key, Level, Query, Single
from storage.errors import Invalid, NotFound, StorageError, Unavailable
from tests import samples
from tests.unit.fakes import KeptAudit
from tests.unit.test_local_archive import ONE, House

DATA = samples.part10(samples.ct())
ALL = Caller("admin", "10.0.0.7", "web", frozenset(Right))
NOBODY = Caller("nobody", "10.0.0.8", "web")
STUDY = Scope(ONE.study_uid)
SECRET = Query(Level.STUDY, (Key(("00100010",), "PN", Single("王^小东")),), study_uid=ONE.study_uid)
Acts = dict[Verb, Callable[[GuardedArchive, Caller], Any]]


def store(archive: GuardedArchive, by: Caller, data: bytes = DATA, expected: Expected | None = None) -> Any:
    with archive.incoming() as incoming:
        incoming.write(data)
        return archive.store(incoming, expected or Expected(study_uid=ONE.study_uid), by=by)


ACTS: Acts = {
    Verb.STORE: store,
    Verb.SEARCH: lambda archive, by: archive.search(SECRET, by=by),
    Verb.METADATA: lambda archive, by: archive.metadata(STUDY, by=by),
    Verb.RETRIEVE: lambda archive, by: archive.retrieve(STUDY, accept=[AS_STORED], by=by),
    Verb.FRAMES: lambda archive, by: archive.frames(ONE, [1, 1], accept=[AS_STORED], by=by),
    Verb.BULK: lambda archive, by: archive.bulk(ONE, "7FE00010", by=by),
    Verb.DELETE: lambda archive, by: archive.delete(ONE, by=by),
}
NEEDED = dict.fromkeys(Verb, Right.READ) | {Verb.STORE: Right.STORE, Verb.DELETE: Right.DELETE}


class Guard:
    def __init__(self, folder: Path) -> None:
        self.house = House(folder)
        self.audit = KeptAudit()
        self.archive = GuardedArchive(self.house.archive, RightsPolicy(), self.audit)

    @property
    def last(self) -> Event:
        return self.audit.events[-1]


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    found = Guard(tmp_path)
    found.house.store(DATA)
    yield found
    assert all("王" not in str(event) for event in found.audit.events)


@pytest.mark.parametrize("verb", Verb)
def test_every_act_needs_its_right_and_a_refusal_is_recorded(guard: Guard, verb: Verb) -> None:
    others = dataclasses.replace(NOBODY, rights=frozenset(Right) - {NEEDED[verb]})
    before = guard.house.keys
    for by in (NOBODY, others):
        with pytest.raises(Forbidden, match=NEEDED[verb]):
            ACTS[verb](guard.archive, by)
    assert guard.house.keys == before
    assert [(event.act, event.outcome, event.reason) for event in guard.audit.events] == [
        (verb, Outcome.DENIED, "Forbidden")
    ] * 2
    assert guard.last.study_uid == ONE.study_uid


@pytest.mark.parametrize("verb", Verb)
def test_every_act_that_is_allowed_is_recorded_once(guard: Guard, verb: Verb) -> None:
    by = dataclasses.replace(ALL, rights=frozenset({NEEDED[verb]}))
    ACTS[verb](guard.archive, by)
    [event] = guard.audit.events
    assert (event.act, event.outcome, event.identity, event.address) == (verb, Outcome.SUCCESS, "admin", "10.0.0.7")
    assert event.study_uid == ONE.study_uid


def test_counts_and_identities(guard: Guard) -> None:
    store(guard.archive, ALL, samples.part10(samples.ct(number=2)), Expected())
    assert (guard.last.sop_uid, guard.last.count, guard.last.reason) == (f"{samples.ROOT}.1.1.2", 1, "new")
    guard.archive.search(Query(Level.STUDY), by=ALL)
    assert (guard.last.count, guard.last.study_uid) == (2, None)
    guard.archive.frames(ONE, [1, 1, 1], accept=[AS_STORED], by=ALL)
    assert guard.last.count == 3
    guard.archive.delete(STUDY, by=ALL)
    assert guard.last.count == 2


@pytest.mark.parametrize(
    ("act", "error", "outcome", "reason"),
    [
        (lambda a: a.metadata(Scope("1.2.3"), by=ALL), NotFound, Outcome.MINOR, "NotFound"),
        (lambda a: a.frames(ONE, [9], accept=[AS_STORED], by=ALL), NotFound, Outcome.MINOR, "NotFound"),
        (lambda a: store(a, ALL, b"garbage"), Invalid, Outcome.MINOR, "Invalid: not-dicom"),
        (lambda a: store(a, ALL, expected=Expected(study_uid="9")), Invalid, Outcome.MINOR, "Invalid: mismatch"),
    ],
)
def test_what_went_wrong_is_recorded_by_its_class(
    guard: Guard, act: Callable[[GuardedArchive], Any], error: type[StorageError], outcome: Outcome, reason: str
) -> None:
    with pytest.raises(error):
        act(guard.archive)
    assert (guard.last.outcome, guard.last.reason) == (outcome, reason)


def test_our_own_failures_and_defects_are_failures(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (Unavailable("down"), RuntimeError("王")):
        monkeypatch.setattr(guard.house.index, "search", lambda query, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(type(error)):
            guard.archive.search(SECRET, by=ALL)
        assert (guard.last.outcome, guard.last.reason) == (Outcome.FAILURE, type(error).__name__)


def test_parts_pass_through_as_they_are(guard: Guard) -> None:
    [part] = guard.archive.retrieve(STUDY, accept=[AS_STORED], by=ALL)
    assert (part.identity.sop_uid, part.transfer_syntax, part.place) == (ONE.sop_uid, "1.2.840.10008.1.2.1", "")
    assert (part.length, b"".join(part.chunks())) == (len(DATA), DATA)
    part.close()
    assert [document for _, document in guard.archive.metadata(STUDY, by=ALL)]
    assert len(guard.audit.events) == 2


def test_an_answer_that_breaks_off_is_recorded_again(guard: Guard) -> None:
    guard.house.store(samples.part10(samples.ct(number=2)))
    first, second = guard.archive.retrieve(STUDY, accept=[AS_STORED], by=ALL)
    assert b"".join(first.chunks()) == DATA
    guard.house.disk.delete(guard.house.keys)
    with pytest.raises(Unavailable):
        b"".join(second.chunks())
    assert [event.outcome for event in guard.audit.events] == [Outcome.SUCCESS, Outcome.FAILURE]
    assert guard.last.reason == "Damaged"


@pytest.mark.parametrize("verb", [Verb.METADATA, Verb.RETRIEVE])
def test_breaking_off_between_two_is_recorded_too(guard: Guard, verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> Iterator[Any]:
        yield from ()
        raise Unavailable("gone")

    monkeypatch.setattr(guard.house.archive, verb, broken)
    with pytest.raises(Unavailable):
        list(ACTS[verb](guard.archive, ALL))
    assert [event.outcome for event in guard.audit.events] == [Outcome.SUCCESS, Outcome.FAILURE]


def test_an_answer_given_up_reaches_what_is_within(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = guard.archive.retrieve(STUDY, accept=[AS_STORED], by=ALL)
    parts.close()  # type: ignore[attr-defined]
    assert list(parts) == []


def test_a_policy_narrows_searches_and_sees_scopes(guard: Guard) -> None:
    seen: list[tuple[Verb, Scope | None]] = []

    class OwnRows(RightsPolicy):
        def check(self, by: Caller, verb: Verb, scope: Scope | None) -> None:
            seen.append((verb, scope))

        def narrow(self, by: Caller, query: Query) -> Query:
            return dataclasses.replace(query, limit=0)

    archive = GuardedArchive(guard.house.archive, OwnRows(), guard.audit)
    assert archive.search(Query(Level.STUDY), by=NOBODY).rows == []
    archive.bulk(ONE, "7FE00010", by=NOBODY)
    assert seen == [(Verb.SEARCH, None), (Verb.BULK, ONE)]


def test_the_meter_changes_nothing(guard: Guard) -> None:
    metered = MeteredArchive(guard.archive)
    for verb, act in ACTS.items():
        act(metered, ALL)  # type: ignore[arg-type]
        with pytest.raises(Forbidden):
            act(metered, NOBODY)  # type: ignore[arg-type]
        assert guard.last.act == verb
    metered.check()
