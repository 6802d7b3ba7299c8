"""Whatever is sealed, removed, compacted and sent again: readers see what they see where all instances are loose."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.dicom.identity import Scope
from storage.dicom.instance import Instance
from storage.dicom.query import Level
from storage.errors import NotFound
from storage.index import PackingIndex
from storage.index.sqlite import SqliteIndex
from storage.packs import Pack
from tests.contract.conftest import ENGINES
from tests.contract.index_samples import ask, json_instance, record
from tests.contract.pack_samples import KeptDocuments, compact, merge, seal
from tests.contract.test_index_matching import ui

STUDY = "1.2"
SERIES = ("1.2.1", "1.2.2")
_ATTEMPTS = itertools.count()

series = st.sampled_from(SERIES)
members = st.integers(1, 4)
OPERATIONS = st.one_of(
    st.tuples(st.just("add"), series, members, st.integers(0, 2)),
    st.tuples(st.just("add"), series, members, st.integers(0, 2)),
    st.tuples(st.just("seal"), series, st.integers(1, 5)),
    st.tuples(st.just("remove"), series, members),
    st.tuples(st.just("remove series"), series),
    st.tuples(st.just("compact")),
    st.tuples(st.just("merge"), series, st.integers(0, 1)),
    st.tuples(st.just("rebuild")),
)


class Both:
    """An index that seals and one that does not, told the same."""

    def __init__(self, sealing: PackingIndex, plain: PackingIndex, documents: KeptDocuments) -> None:
        self.sealing = sealing
        self.plain = plain
        self.documents = documents

    def run(self, operation: tuple[Any, ...]) -> None:
        match operation:
            case ("add", series_uid, number, variant):
                made = record(made_instance(series_uid, number, variant), attempt=f"-{next(_ATTEMPTS)}")
                assert self.sealing.add(made) == self.plain.add(made)
            case ("seal", series_uid, most):
                if list(self.sealing.loose(STUDY, series_uid)):
                    seal(self.sealing, self.documents, STUDY, series_uid, most)
            case ("remove", series_uid, number):
                self.remove(Scope(STUDY, series_uid, f"{series_uid}.{number}"))
            case ("remove series", series_uid):
                self.remove(Scope(STUDY, series_uid))
            case ("compact",):
                for pack in self.sealing.wasteful(1):
                    compact(self.sealing, self.documents, pack)
            case ("merge", series_uid, left):
                self.merge(list(self.sealing.packs(Scope(STUDY, series_uid)))[left:])
            case ("rebuild",):
                self.rebuild()

    def remove(self, scope: Scope) -> None:
        gone = []
        for index in (self.sealing, self.plain):
            try:
                gone.append(index.remove(scope).instances)
            except NotFound:
                gone.append(0)
            self.sweep(index)
        assert gone[0] == gone[1]

    def merge(self, packs: list[Pack]) -> None:
        """As far as they share no version: a rebuild may have brought back one that was written anew."""
        versions = [(one.sop_uid, one.revision) for pack in packs for one in pack.instances]
        if len(packs) > 1 and len(versions) == len(set(versions)):
            merge(self.sealing, self.documents, packs)

    def rebuild(self) -> None:
        """From the packs alone, when nothing lies loose."""
        if self.sealing.backlog().instances:
            return
        packs = [(pack, list(self.documents.documents(pack))) for pack in self.sealing.packs()]
        if packs:
            self.sealing.remove(Scope(STUDY))
            self.sweep(self.sealing)
        for pack, documents in packs:
            self.sealing.adopt(pack, documents)

    def sweep(self, index: PackingIndex) -> None:
        index.forget(index.doomed(1 << 62, 1000))

    def clear(self) -> None:
        self.remove(Scope(STUDY))
        assert self.sealing.backlog().series == 0 and not list(self.sealing.packs())


def made_instance(series_uid: str, number: int, variant: int) -> Instance:
    own = {
        "00080016": ui(["1.2.840.1", "1.2.840.1", "1.2.840.2"][variant]),
        "00080018": ui(f"{series_uid}.{number}"),
        "00080060": {"vr": "CS", "Value": [["CT", "MR", "SR"][variant]]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": f"Wang^{number}{variant}"}]},
        "00100020": {"vr": "LO", "Value": [f"P{number}{variant}"]},
        "00104000": {"vr": "LT", "Value": [f"{series_uid} {number} {variant}"]},
        "0020000D": ui(STUDY),
        "0020000E": ui(series_uid),
        "00200011": {"vr": "IS", "Value": [number + variant]},
        "00200013": {"vr": "IS", "Value": [[5 - number], [number], []][variant]},
        "0008103E": {"vr": "LO", "Value": [f"S{number}{variant}"]},
    }
    return json_instance(own, digest=f"{series_uid} {number} {variant}".encode().ljust(32, b"."))


def answers(index: PackingIndex) -> dict[str, Any]:
    found: dict[str, Any] = {
        "studies": index.search(ask(Level.STUDY, include_all=True, include=frozenset({"00080062"}))).rows,
        "series": index.search(ask(Level.SERIES, include_all=True)).rows,
        "by name": index.search(ask(Level.STUDY, {"PatientName": "wang^2*"})).rows,
        "by modality": index.search(ask(Level.STUDY, {"ModalitiesInStudy": "SR"})).rows,
    }
    try:
        located = index.locate(Scope(STUDY))
    except NotFound:
        return found
    scopes = [Scope(each.identity.study_uid, each.identity.series_uid, each.identity.sop_uid) for each in located]
    found["located"] = [(each.identity, each.digest, each.revision, each.transfer_syntax) for each in located]
    found["metadata"] = list(index.metadata(Scope(STUDY)))
    found["one by one"] = [(index.locate(scope)[0].digest, list(index.metadata(scope))) for scope in scopes]
    found["contents"] = [index.contents(scope) for scope in scopes]
    found["held"] = [index.holds(each.identity, each.digest) for each in located]
    return found


@pytest.fixture(scope="module", params=sorted(ENGINES))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    documents = KeptDocuments()
    sealing = ENGINES[request.param](tmp_path_factory.mktemp("sealing"), request)(documents)
    plain = SqliteIndex(tmp_path_factory.mktemp("plain") / "index.sqlite")
    yield Both(sealing, plain, documents)
    for index in (sealing, plain):
        index.close()


QUICK = {"postgresql": 15, "sqlite": 40}  # examples


def test_readers_cannot_tell(both: Both, request: pytest.FixtureRequest) -> None:
    trying = given(operations=st.lists(OPERATIONS, min_size=3, max_size=25))(check_readers_cannot_tell)
    examples = QUICK[request.node.callspec.params["both"]]
    settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))(trying)(both)


def check_readers_cannot_tell(both: Both, operations: list[tuple[Any, ...]]) -> None:
    both.clear()
    for number, operation in enumerate(operations):
        both.run(operation)
        if number % 5 == 4:
            assert answers(both.sealing) == answers(both.plain)
    assert answers(both.sealing) == answers(both.plain)
    loose = sum(each.instances for each in both.sealing.unsealed(touched_before=1 << 62, bytes_from=0, limit=9))
    assert both.sealing.backlog().instances == loose
    assert loose == sum(len(list(both.sealing.loose(STUDY, series_uid))) for series_uid in SERIES)


@pytest.mark.long
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=st.lists(OPERATIONS, min_size=10, max_size=60))
def test_readers_cannot_tell_after_long(both: Both, operations: list[tuple[Any, ...]]) -> None:
    both.clear()
    for operation in operations:
        both.run(operation)
    assert answers(both.sealing) == answers(both.plain)
