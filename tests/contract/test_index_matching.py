"""SQL search against the plain oracle: random data sets, random queries, the same answers in the same order."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.dicom.attributes import BY_PATH, TABLE, Home, level_of, path_of
from storage.dicom.identity import Scope
from storage.dicom.instance import JsonDataset
from storage.dicom.matching import matches, ordered
from storage.dicom.query import Level, Query, key
from storage.errors import Invalid, NotFound
from storage.index import MetadataIndex, PackingIndex
from tests.contract.index_samples import json_instance, record
from tests.contract.pack_samples import KeptDocuments, seal

LETTERS = st.text("abAB王小é%_[]*?\\ ^=-'1", max_size=4)
DAYS = ["20260101", "20260102", "2026.01.03", "20260104", "not a day"]
TIMES = ["10", "1000", "100030", "100030.5", "10:00:30", "235959", "25"]
CODES = ["CT", "SR", "MR", "ct", "C"]
NAMES = ["Wang^Min", "wang^min", "WÁNG^Min^", "王^敏", "Wang", "Müller^Jörg", "[a]^b", "a_b%"]
NUMBERS: list[Any] = [1, 2, 10, "007", "2.0", "bad", str(2**70), -3]


def values(vr: str) -> st.SearchStrategy[Any]:
    if vr == "PN":
        group = st.sampled_from(NAMES) | LETTERS.map(lambda text: text.replace("=", ""))
        groups = st.dictionaries(st.sampled_from(["Alphabetic", "Ideographic", "Phonetic"]), group, min_size=1)
        return groups.map(lambda name: {key: value for key, value in name.items() if value} or None)
    return {
        "DA": st.sampled_from(DAYS),
        "TM": st.sampled_from(TIMES),
        "CS": st.sampled_from(CODES) | LETTERS,
        "IS": st.sampled_from(NUMBERS),
    }.get(vr, LETTERS | st.just("x" * 1100))


def elements(vr: str) -> st.SearchStrategy[JsonDataset]:
    several = st.lists(values(vr) | st.none(), max_size=3)
    return several.map(lambda found: {"vr": vr} | ({"Value": found} if found else {}))


def _matched(level: Level) -> list[str]:
    return [
        row.path[0]
        for row in TABLE
        if row.level is level
        and row.home is not Home.NOWHERE
        and len(row.path) == 1
        and not row.computed
        and row.vr != "UI"
    ]


def attributes(level: Level) -> st.SearchStrategy[JsonDataset]:
    return st.fixed_dictionaries({}, optional={tag: elements(BY_PATH[(tag,)].vr) for tag in _matched(level)})


def with_items(level: Level, sequence: str, vr: str, *tags: str) -> st.SearchStrategy[JsonDataset]:
    """The attributes of a level, with a sequence of up to two items."""
    items = st.lists(st.fixed_dictionaries({}, optional={tag: elements(vr) for tag in tags}), max_size=2)
    return st.builds(
        lambda own, items: own | ({sequence: {"vr": "SQ", "Value": items}} if items else {}), attributes(level), items
    )


SERIES = with_items(Level.SERIES, "00400275", "SH", "00400009", "00401001")
INSTANCES = st.tuples(attributes(Level.INSTANCE), st.sampled_from(["1.2.840.1", "1.2.840.2"]))
STUDIES = st.lists(
    st.tuples(
        with_items(Level.STUDY, "00101002", "LO", "00100020", "00100021"),
        st.lists(st.tuples(SERIES, st.lists(INSTANCES, min_size=1, max_size=2)), min_size=1, max_size=2),
    ),
    min_size=1,
    max_size=4,
)


def ui(value: str) -> JsonDataset:
    return {"vr": "UI", "Value": [value]}


def instances(studies: list[Any]) -> Iterator[JsonDataset]:
    """Data sets of which all in a study (series) agree on its attributes, so that the oracle need not know speakers."""
    for s, (study, all_series) in enumerate(studies):
        for e, (series, members) in enumerate(all_series):
            for i, (own, sop_class) in enumerate(members):
                uids = {"0020000D": ui(f"1.{s}"), "0020000E": ui(f"1.{s}.{e}"), "00080018": ui(f"1.{s}.{e}.{i}")}
                yield study | series | own | uids | {"00080016": ui(sop_class)}


def entities(datasets: list[JsonDataset], level: Level) -> list[JsonDataset]:
    """What the oracle sees at a level: attributes down to it, and the computed ones."""
    found: dict[str, JsonDataset] = {}
    for each in datasets:
        of_study = [other for other in datasets if other["0020000D"] == each["0020000D"]]
        modalities = [value for other in of_study for value in other.get("00080060", {}).get("Value", ())]
        computed = {
            "00080061": {"vr": "CS", "Value": modalities or ["OT"]},
            "00080062": {"vr": "UI", "Value": [other["00080016"]["Value"][0] for other in of_study]},
        }
        name = each[["", "0020000D", "0020000E", "00080018"][level]]["Value"][0]
        found.setdefault(name, {tag: element for tag, element in each.items() if level_of(tag) <= level} | computed)
    return list(found.values())


TEXT_KEYS = [
    "OtherPatientIDsSequence.PatientID",
    "OtherPatientIDsSequence.IssuerOfPatientID",
    "PatientID",
    "AccessionNumber",
    "PatientSex",
    "StudyDescription",
    "StudyID",
    "ModalitiesInStudy",
    "Modality",
    "SeriesDescription",
    "BodyPartExamined",
    "RequestAttributesSequence.00400009",
    "RequestAttributesSequence.00401001",
]
RANGES = st.tuples(st.sampled_from(["", *DAYS[:4]]), st.sampled_from(["", *DAYS[:4]])).map("-".join)
TIME_RANGES = st.tuples(st.sampled_from(["", *TIMES[:6]]), st.sampled_from(["", *TIMES[:6]])).map("-".join)
KEYS = st.one_of(
    st.tuples(st.sampled_from(TEXT_KEYS), LETTERS | st.sampled_from([*CODES, "C*", "?", "*a*", "?*", "x" * 512])),
    st.tuples(
        st.sampled_from(["PatientName", "ReferringPhysicianName"]),
        LETTERS
        | st.sampled_from(
            [*NAMES, "wang*", "敏", "wm", "min", "*=*", "王*", "Wang^Min=王^敏", "=王*", "?ang^*", "^", "="]
        ),
    ),
    st.tuples(
        st.sampled_from(["StudyDate", "PerformedProcedureStepStartDate", "PatientBirthDate"]),
        st.sampled_from(DAYS) | RANGES,
    ),
    st.tuples(st.sampled_from(["StudyTime", "PerformedProcedureStepStartTime"]), st.sampled_from(TIMES) | TIME_RANGES),
    st.tuples(st.sampled_from(["SeriesNumber", "InstanceNumber"]), st.sampled_from([*map(str, NUMBERS), "0"])),
    st.tuples(
        st.sampled_from(["SOPClassesInStudy", "SOPClassUID"]),
        st.sampled_from(["1.2.840.1", "1.2.840.2,1.9", "1.2.840.3"]),
    ),
    st.tuples(
        st.sampled_from(["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]),
        st.sampled_from(["1.0", "1.0,1.0.0,1.0.0.0", "1.0.0.0", "1.0.0.1,1.1.0.0,1.0.1.0"]),
    ),
)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    level = draw(st.sampled_from(Level))
    found = {}
    more = st.just("") | KEYS.map(lambda pair: "\\" + pair[1])
    for name, text in draw(st.lists(KEYS, max_size=3)):
        text = draw(st.just(text) | st.just('""') | more.map(text.__add__))
        path = path_of(name)
        assert path is not None
        if BY_PATH[path].level <= level:
            try:
                fuzzy, several = draw(st.booleans()), draw(st.booleans())
                found[path] = key(path, text, fuzzy=fuzzy, empty=True, multiple=several)
            except Invalid:
                continue
    parents = draw(st.sampled_from([(None, None), ("1.0", None), ("1.0", "1.0.0"), ("1.1", "1.0.0")]))
    series_uid = parents[1] if level is Level.INSTANCE else None
    combined = draw(st.booleans())
    return Query(
        level,
        tuple(found.values()),
        parents[0],
        series_uid,
        limit=1000,
        combined_datetime=combined,
        match_unknown=draw(st.booleans()),
    )


@pytest.fixture(scope="module")
def index(lasting_index: PackingIndex) -> PackingIndex:
    return lasting_index


@pytest.fixture(scope="module")
def documents(lasting_documents: KeptDocuments) -> KeptDocuments:
    return lasting_documents


_ATTEMPTS = itertools.count()


# What is done with a series: how many instances each pack takes, first to last, None all that are left.
SEALINGS = st.lists(st.sampled_from([[], [], [None], [1], [1, None]]), min_size=8, max_size=8)


def refill(index: PackingIndex, datasets: list[JsonDataset]) -> bytes:
    """Have these and nothing else; returns the digest of all, unlike that of any before."""
    for number in range(10):
        try:
            index.remove(Scope(f"1.{number}"))
        except NotFound:
            break
    attempt = f"-{next(_ATTEMPTS)}"  # what was removed is doomed: its name is not to be used again
    digest = attempt.encode().rjust(32, b"d")
    for each in datasets:
        index.add(record(json_instance(each, digest), attempt=attempt))
    return digest


def seal_some(
    index: PackingIndex, documents: KeptDocuments, datasets: list[JsonDataset], sealings: list[list[int | None]]
) -> None:
    names = dict.fromkeys((each["0020000D"]["Value"][0], each["0020000E"]["Value"][0]) for each in datasets)
    for (study_uid, series_uid), sealing in zip(names, sealings, strict=False):
        for most in sealing:
            if any(True for _ in index.loose(study_uid, series_uid)):
                seal(index, documents, study_uid, series_uid, most)


def replace_some(index: PackingIndex, datasets: list[JsonDataset], numbers: list[int], digest: bytes) -> None:
    """Store some anew with another number and class, so that older versions lie loose or in packs."""
    for number in numbers:
        if number < len(datasets):
            changed = {"00200013": {"vr": "IS", "Value": [number]}, "00080016": ui("1.2.840.3")}
            datasets[number] = datasets[number] | changed
            made = json_instance(datasets[number], digest[::-1])
            index.add(record(made, attempt=f"-{number}-{digest.hex()}"))


QUICK = {"postgresql": 15, "sqlite": 60}  # examples: statements that differ are tried on both, rows that differ on one


def test_sql_finds_what_the_oracle_finds(
    index: PackingIndex, documents: KeptDocuments, request: pytest.FixtureRequest
) -> None:
    ask_both(QUICK[request.node.callspec.params["lasting_index"]])(index, documents)


@pytest.mark.long
def test_sql_finds_what_the_oracle_finds_after_long(index: PackingIndex, documents: KeptDocuments) -> None:
    ask_both(400)(index, documents)


def ask_both(examples: int) -> Callable[[PackingIndex, KeptDocuments], None]:
    """A property test of so many examples."""
    asking = given(
        studies=STUDIES,
        sealings=SEALINGS,
        replaced=st.lists(st.integers(0, 5), max_size=2, unique=True),
        asked=st.lists(queries(), min_size=1, max_size=25),
        size=st.integers(1, 3),
    )(check_the_same_is_found)
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))(asking)


def check_the_same_is_found(
    index: PackingIndex,
    documents: KeptDocuments,
    studies: list[Any],
    sealings: list[list[int | None]],
    replaced: list[int],
    asked: list[Query],
    size: int,
) -> None:
    datasets = list(instances(studies))
    digest = refill(index, datasets)
    seal_some(index, documents, datasets, sealings)
    replace_some(index, datasets, replaced, digest)
    for query in asked:
        tag = ["", "0020000D", "0020000E", "00080018"][query.level]
        try:
            found = index.search(query).rows
        except Invalid:  # a range of times that runs over midnight: only both together can tell
            continue
        expected = [each for each in entities(datasets, query.level) if matches(each, query)]
        uids = [each[tag]["Value"][0] for each in ordered(expected, query.level)]
        assert [row[tag]["Value"][0] for row in found] == uids
        paged = _paged(index, query, size, tag)
        assert paged == uids


def _paged(index: MetadataIndex, query: Query, size: int, tag: str) -> list[str]:
    found: list[str] = []
    while True:
        page = index.search(replace(query, limit=size, offset=len(found)))
        found += [row[tag]["Value"][0] for row in page.rows]
        if not page.remaining:
            return found
        assert len(page.rows) == size
