"""From rows of a search to DICOM JSON: the attributes that a result carries (PS3.18 10.6.3.3), in ascending order."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from storage.dicom.attributes import BY_PATH, REQUEST_ATTRIBUTES, TIMEZONE, Returned, defaults, level_of
from storage.dicom.instance import JsonDataset
from storage.dicom.level import Level
from storage.dicom.query import Query
from storage.index.documents import without_bulk

Path = tuple[str, ...]
Row = tuple[Any, ...]
_SHARED_COLUMNS = 7  # of the study and the series, in all these rows
AVAILABILITY = "00080056"
_PARENT_UIDS = {Level.STUDY: [], Level.SERIES: ["0020000D"], Level.INSTANCE: ["0020000D", "0020000E"]}
_SUMMARY = frozenset(attribute.path[0] for attribute in defaults(Level.INSTANCE)) | {TIMEZONE}


class Selection(NamedTuple):
    """What results are to carry. `empty` tells the VR of what is there also without a value."""

    tags: tuple[str, ...]
    below: dict[str, frozenset[Path]]  # of a sequence: the paths in its items, when not all of it is wanted
    empty: dict[str, str]
    all_of: frozenset[Level]
    needs_metadata: bool


def selection(query: Query) -> Selection:
    """The default attributes of the level and, where no parent is named, of the levels above; keys; what is included.

    Attributes of a level below that of the query are left out (PS3.18 10.6.3.3.1).
    """
    levels = _levels(query)
    empty: dict[str, str] = {}
    paths: set[Path] = {(AVAILABILITY,), (TIMEZONE,)} | {(tag,) for tag in _PARENT_UIDS[query.level]}
    for attribute in (each for level in levels for each in defaults(level) if each.vr != "SQ"):
        paths.add(attribute.path)
        if attribute.returned is Returned.ALWAYS:
            empty[attribute.path[0]] = attribute.vr
    if Level.SERIES in levels:
        paths |= {path for path in BY_PATH if path[0] == REQUEST_ATTRIBUTES and len(path) > 1}
    included = {tuple(name.split(".")) for name in query.include} | {key.path for key in query.keys}
    included = {path for path in included if level_of(path[0]) <= query.level}
    empty |= {path[0]: BY_PATH[path[:1]].vr for path in included if path[:1] in BY_PATH}
    paths |= included
    tags = tuple(sorted({path[0] for path in paths}))
    below = {tag: frozenset(path[1:] for path in paths if path[0] == tag) for tag in tags}
    below = {tag: inner for tag, inner in below.items() if () not in inner}
    needs_metadata = query.level is Level.INSTANCE and (
        query.include_all or any(level_of(tag) is Level.INSTANCE and tag not in _SUMMARY for tag in tags)
    )
    return Selection(tags, below, empty, frozenset(levels if query.include_all else ()), needs_metadata)


def _levels(query: Query) -> list[Level]:
    """The levels whose attributes a result has unasked: its own, and those above that the resource does not name."""
    bound = Level.SERIES if query.series_uid is not None else Level.STUDY if query.study_uid is not None else 0
    return [level for level in Level if bound < level <= query.level or level is query.level]


def results(rows: Iterable[Row], level: Level, wanted: Selection) -> list[JsonDataset]:
    """The rows of `compile.search` or `instance_rows` as data sets. What neighbours have in common is read once."""
    found = []
    above: Row = ()
    shared: JsonDataset = {}
    for row in rows:
        if row[:_SHARED_COLUMNS] != above:
            above = row[:_SHARED_COLUMNS]
            shared = _study_and_series(above)
        known = shared if level < Level.INSTANCE else _with_instance(shared, row[_SHARED_COLUMNS:], wanted)
        found.append(_selected(known, wanted))
    return found


def _study_and_series(row: Row) -> JsonDataset:
    """Every attribute at hand of a study, or of a series and its study; those of a level from its speaker."""
    study, series_count, instance_count, modalities, sop_classes, *series = row
    known: JsonDataset = orjson.loads(study)
    if series:
        known = _below(known, orjson.loads(series[0]))
        known["00201209"] = {"vr": "IS", "Value": [series[1]]}
    known[AVAILABILITY] = {"vr": "CS", "Value": ["ONLINE"]}
    known["00080061"] = _listed("CS", modalities)
    known["00080062"] = _listed("UI", sop_classes)
    known["00201206"] = {"vr": "IS", "Value": [series_count]}
    known["00201208"] = {"vr": "IS", "Value": [instance_count]}
    return known


def _with_instance(shared: JsonDataset, row: Row, wanted: Selection) -> JsonDataset:
    if not wanted.needs_metadata:
        return _below(shared, orjson.loads(row[0]))
    own: JsonDataset = orjson.loads(row[1])
    return _below(shared, {tag: own[tag] for tag in own if tag == TIMEZONE or level_of(tag) is Level.INSTANCE})


def _below(known: JsonDataset, lower: JsonDataset) -> JsonDataset:
    """With the attributes of the next level; the time zone is each level's own."""
    joined = {**known, **lower}
    if TIMEZONE not in lower:
        joined.pop(TIMEZONE, None)
    return joined


def _selected(known: JsonDataset, wanted: Selection) -> JsonDataset:
    tags = wanted.tags
    if wanted.all_of:
        tags = tuple(sorted({*tags, *(tag for tag in known if level_of(tag) in wanted.all_of)}))
    found: JsonDataset = {}
    for tag in tags:
        element = known.get(tag)
        if element is None:
            if tag in wanted.empty:
                found[tag] = {"vr": wanted.empty[tag]}
        elif element["vr"] == "SQ":
            found[tag] = _sequence(element, wanted.below.get(tag) if not wanted.all_of else None)
        elif "BulkDataURI" not in element:
            found[tag] = element
    return found


def _listed(vr: str, joined: str) -> dict[str, Any]:
    return {"vr": vr, "Value": joined.split("\\")} if joined else {"vr": vr}


def _sequence(element: dict[str, Any], below: frozenset[Path] | None) -> dict[str, Any]:
    """The sequence whole, or with only the given paths in its items."""
    if below is None:
        return without_bulk(element)
    items = [_only(item, below) for item in element.get("Value", ())]
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def _only(item: JsonDataset, paths: frozenset[Path]) -> JsonDataset:
    kept: JsonDataset = {}
    for tag in sorted({path[0] for path in paths}):
        element = item.get(tag)
        if element is None or "BulkDataURI" in element:
            continue
        inner = frozenset(path[1:] for path in paths if path[0] == tag)
        kept[tag] = element if element["vr"] != "SQ" else _sequence(element, None if () in inner else inner)
    return kept
