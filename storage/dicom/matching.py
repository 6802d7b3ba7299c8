"""Attribute matching in plain words over DICOM JSON (PS3.4 C.2.2.2): the oracle that SQL search is tested against.

Slow and obvious on purpose. An empty value is not known, and matches no key but a universal one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from storage.dicom.attributes import BY_PATH, Home
from storage.dicom.instance import JsonDataset
from storage.dicom.level import Level
from storage.dicom.name_tokens import tokens
from storage.dicom.names import groups
from storage.dicom.query import (
    Empty,
    Fuzzy,
    Key,
    Plain,
    Query,
    Range,
    Single,
    UidList,
    Universal,
    Wildcard,
    alternatives,
    combined,
    covered,
    normal,
)

_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
STUDY_UID, SERIES_UID, SOP_UID = "0020000D", "0020000E", "00080018"
STUDY_DATE, STUDY_TIME, SERIES_NUMBER, INSTANCE_NUMBER = "00080020", "00080030", "00200011", "00200013"


def matches(entity: JsonDataset, query: Query) -> bool:
    """Whether a study, series or instance matches all keys of `query` and lies below the parents that it names.

    `entity` holds the attributes of its own level, of the levels above, and the computed ones (ModalitiesInStudy).
    """
    if query.study_uid is not None and texts(entity, STUDY_UID) != [query.study_uid]:
        return False
    if query.series_uid is not None and texts(entity, SERIES_UID) != [query.series_uid]:
        return False
    pairs = combined(query)
    if not all(_in_one_interval(entity, date, time, query.match_unknown) for date, time in pairs):
        return False
    paired = {key.path for pair in pairs for key in pair}
    by_sequence: dict[tuple[str, ...], list[Key]] = defaultdict(list)
    for key in query.keys:
        if isinstance(key.matching, Empty):
            if _is_known(entity, key):
                return False
        elif key.path not in paired and not isinstance(key.matching, Universal):
            by_sequence[key.path[:-1] if len(key.path) > 1 else key.path].append(key)
    return all(_keys_match(entity, keys, query.match_unknown) for keys in by_sequence.values())


def _keys_match(entity: JsonDataset, keys: list[Key], match_unknown: bool) -> bool:
    """Whether one key at the top level matches, or all keys of one sequence in one and the same item."""
    if match_unknown and not any(_is_known(entity, key) for key in keys):
        return True
    sequence = keys[0].path[:-1]
    return any(all(_key_matches(item, key) for key in keys) for item in items(entity, sequence))


def _is_known(entity: JsonDataset, key: Key) -> bool:
    """Whether the attribute has a value, in any item."""
    found = [text for item in items(entity, key.path[:-1]) for text in _compared(item, key)]
    if key.vr == "PN":
        return any(normal("PN", group) for text in found for group in groups(text))
    return any(normal(key.vr, text) for text in found)


def ordered(entities: Iterable[JsonDataset], level: Level) -> list[JsonDataset]:
    """The one total order of search results.

    Studies with the latest first (an unknown date or time last), then series by number, then instances by number; a
    missing number comes last, and UIDs decide what is left.
    """
    found = sorted(entities, key=lambda entity: _order_below_study(entity, level))
    found.sort(key=lambda entity: first(entity, STUDY_UID, "UI"))
    found.sort(key=lambda entity: first(entity, STUDY_TIME, "TM"), reverse=True)
    found.sort(key=lambda entity: first(entity, STUDY_DATE, "DA"), reverse=True)
    return found


def _order_below_study(entity: JsonDataset, level: Level) -> tuple[Any, ...]:
    series = (*_number(entity, SERIES_NUMBER), first(entity, SERIES_UID, "UI"))
    instance = (*_number(entity, INSTANCE_NUMBER), first(entity, SOP_UID, "UI"))
    return {Level.STUDY: (), Level.SERIES: series, Level.INSTANCE: series + instance}[level]


def _number(entity: JsonDataset, tag: str) -> tuple[bool, int]:
    text = first(entity, tag, "IS")
    return not text, int(text or 0)


def first(entity: JsonDataset, tag: str, vr: str) -> str:
    """The first value in normal form, "" when there is none or it is not of its VR."""
    return next((normal(vr, text) or "" for text in texts(entity, tag)), "")


def texts(dataset: JsonDataset, tag: str) -> list[str]:
    """The values of a top-level attribute as text, without empty ones; a PN value with its groups separated by `=`."""
    values = dataset.get(tag, {}).get("Value", ())
    return [text for text in map(_text, values) if text]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "=".join(str(value.get(group, "")) for group in _GROUPS).rstrip("=")
    return str(value) if isinstance(value, int | float) else ""


def items(dataset: JsonDataset, sequence: tuple[str, ...]) -> Iterator[JsonDataset]:
    """The items of a sequence, which may itself be in items of another; the data set itself for no sequence.

    None of an attribute that was sent with another VR than SQ: its values are no items.
    """
    if not sequence:
        yield dataset
        return
    element = dataset.get(sequence[0], {})
    for item in element.get("Value", ()) if element.get("vr") == "SQ" else ():
        yield from items(item, sequence[1:])


def _compared(dataset: JsonDataset, key: Key) -> list[str]:
    """The values that take part in matching."""
    values = texts(dataset, key.path[-1])
    attribute = BY_PATH.get(key.path)
    if attribute is not None and attribute.home is Home.COLUMN:  # of value multiplicity 1: more would be an error
        return values[:1]
    return values


def _key_matches(dataset: JsonDataset, key: Key) -> bool:
    values = _compared(dataset, key)
    return any(_one_matches(values, key.vr, matching) for matching in alternatives(key.matching))


def _one_matches(values: list[str], vr: str, matching: Plain) -> bool:
    if isinstance(matching, Fuzzy):
        return any(token.startswith(matching.token) for token in tokens(values))
    if vr == "PN":
        return any(_name_matches(value, matching) for value in values)
    return any(_value_matches(value, vr, matching) for value in values)


def _value_matches(text: str, vr: str, matching: Plain) -> bool:
    value = normal(vr, text)
    if not value:
        return False
    match matching:
        case Single(asked) if interval := covered(vr, asked) if vr in ("DA", "TM", "DT") else None:
            return interval[0] <= value <= interval[1]
        case Single(asked):
            return value == normal(vr, asked)
        case UidList(uids):
            return value in uids
        case Wildcard(pattern):
            return like(value, pattern)
        case Range(low, high):
            return (low is None or low <= value) and (high is None or value <= high)
    return True


def _name_matches(name: str, matching: Plain) -> bool:
    """Without `=`, one component group must match the key; with it, each group that the key gives its counterpart."""
    assert isinstance(matching, Single | Wildcard)
    asked = matching.value if isinstance(matching, Single) else matching.pattern
    patterns = [normal("PN", group) or "" for group in groups(asked)]
    values = [normal("PN", group) or "" for group in groups(name)]
    if "=" not in asked:
        return any(value and like(value, patterns[0]) for value in values)
    pairs = [(value, pattern) for value, pattern in zip(values, patterns, strict=True) if pattern]
    return bool(pairs) and all(value and like(value, pattern) for value, pattern in pairs)


def _in_one_interval(entity: JsonDataset, date: Key, time: Key, match_unknown: bool) -> bool:
    """Of an unknown date nothing is known, and of a date alone that it is one of these days."""
    assert isinstance(date.matching, Range) and isinstance(time.matching, Range)
    moment = first(entity, date.path[0], "DA"), first(entity, time.path[0], "TM")
    if not all(moment):
        return match_unknown and (not moment[0] or _value_matches(moment[0], "DA", date.matching))
    low, high = (date.matching.low, time.matching.low), (date.matching.high, time.matching.high)
    return (None in low or low <= moment) and (None in high or moment <= high)


def like(text: str, pattern: str) -> bool:
    """Whether all of `text` fits `pattern`, where `*` is any characters and `?` is one (PS3.4 C.2.2.2.4)."""
    at = anchor = 0
    star = -1
    index = 0
    while at < len(text):
        if index < len(pattern) and pattern[index] == "*":
            star, anchor = index, at
            index += 1
        elif index < len(pattern) and pattern[index] in ("?", text[at]):
            index += 1
            at += 1
        elif star >= 0:  # let the last star take one character more
            anchor += 1
            at, index = anchor, star + 1
        else:
            return False
    return not pattern[index:].strip("*")
