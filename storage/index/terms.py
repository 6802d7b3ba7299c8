"""What a query's keys ask of tables, in two halves: terms, which have no values, and the values in their order.

All rules of matching are applied here; `compile` turns terms into SQL, once for each combination of them.
"""

from collections import defaultdict
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from storage.dicom.attributes import BY_PATH, Attribute, Home, is_supported
from storage.dicom.level import Level
from storage.dicom.names import groups
from storage.dicom.query import (
    Fuzzy,
    Key,
    Matching,
    Query,
    Range,
    Single,
    UidList,
    Universal,
    Wildcard,
    check,
    combined,
    covered,
    is_pattern,
    normal,
)
from storage.errors import Fault, Invalid
from storage.index.packed import uid_hash

SOP_CLASS, SOP_UID, INSTANCE_NUMBER = ("00080016",), ("00080018",), ("00200013",)
_SOP_CLASSES_IN_STUDY = "00080062"
BEFORE_DIGITS, AFTER_DIGITS = "0", ":"  # bounds of an open range: normal forms of dates and times start with a digit
_LAST = "\U0010ffff"


class Test(Enum):
    """How a value is compared; each takes its own number of values."""

    EQUAL = "equal"
    AMONG = "among"  # a list, as one value
    BETWEEN = "between"  # both ends included
    LIKE = "like"  # a pattern
    LIKE_FROM = "like from"  # a pattern, its literal beginning, and what comes after all that begin so


class OnColumn(NamedTuple):
    """A test of a column of a level's own table."""

    attribute: Attribute
    test: Test


class OnMoment(NamedTuple):
    """A date and a time column within one interval: four values, date and time of each end."""

    date: Attribute
    time: Attribute


class ValueTest(NamedTuple):
    """A test of one row of values; `part` None for any component group."""

    path: str
    part: int | None
    test: Test


class OnValues(NamedTuple):
    """Tests that rows of one entity with the same item number must pass, a row for each test."""

    level: Level
    selective: bool
    tests: tuple[ValueTest, ...]


class OnNames(NamedTuple):
    """A test of the tokens of the patient's names: the beginning of one, and what comes after all that begin so."""


class OnUids(NamedTuple):
    """Series with one of these instances: their UIDs, by which loose ones are known, and the hashes of sealed ones."""


Term = OnColumn | OnMoment | OnValues | OnNames | OnUids
Value = str | int | tuple[str, ...] | tuple[int, ...]
Values = list[Value]


def terms(query: Query, pattern: Callable[[str], str]) -> tuple[tuple[Term, ...], Values]:
    """The terms of all keys and their values; `pattern` spells a wildcard pattern as the database wants it.

    Of keys of instances they only say which series may have such; `walk` looks at the instances themselves.
    Raises Invalid (QUERY) for a key that cannot be matched at the query's level.
    """
    check(query)
    _refuse_unsupported(query)
    found: list[Term] = []
    values: Values = []
    pairs = combined(query)
    for date, time in pairs:
        found.append(OnMoment(BY_PATH[date.path], BY_PATH[time.path]))
        values += _interval(date, time)
    paired = {key.path for pair in pairs for key in pair}
    in_items: dict[tuple[str, ...], list[Key]] = defaultdict(list)
    for key in query.keys:
        if key.path in paired or isinstance(key.matching, Universal):
            continue
        if BY_PATH[key.path].level is Level.INSTANCE:
            found += _series_with(key, values)
        elif isinstance(key.matching, Fuzzy):
            found.append(OnNames())
            values += [key.matching.token, _after(key.matching.token)]
        elif len(key.path) > 1:
            in_items[key.path[:-1]].append(key)
        else:
            found.append(_term([key], pattern, values))
    found += [_term(keys, pattern, values) for keys in in_items.values()]
    return tuple(found), values


def _refuse_unsupported(query: Query) -> None:
    for key in query.keys:
        if not isinstance(key.matching, Universal) and not is_supported(key.path, query.level):
            raise Invalid(Fault.QUERY, f"{'.'.join(key.path)} cannot be matched at this level")


def _series_with(key: Key, values: Values) -> list[Term]:
    uids = among(key.matching)
    if key.path == SOP_UID:
        values += [uids, tuple(map(uid_hash, uids))]
        return [OnUids()]
    if key.path == SOP_CLASS:
        values.append(uids)
        return [OnValues(Level.STUDY, False, (ValueTest(_SOP_CLASSES_IN_STUDY, None, Test.AMONG),))]
    return []


def among(matching: Matching) -> tuple[str, ...]:
    """The values that a key of an instance accepts; there are no patterns and ranges among them."""
    assert isinstance(matching, Single | UidList)
    return matching.values if isinstance(matching, UidList) else (matching.value,)


def _term(keys: list[Key], pattern: Callable[[str], str], values: Values) -> Term:
    attribute = BY_PATH[keys[0].path]
    if attribute.home is Home.COLUMN:
        test, found = _test(keys[0], pattern)
        values += [int(str(value)) for value in found] if attribute.vr == "IS" else found
        return OnColumn(attribute, test)
    tests: list[ValueTest] = []
    for key in keys:
        for part, test, found in _name_tests(key, pattern) if key.vr == "PN" else [(None, *_test(key, pattern))]:
            tests.append(ValueTest(".".join(key.path), part, test))
            values += found
    return OnValues(attribute.level, any(BY_PATH[key.path].selective for key in keys), tuple(tests))


def _test(key: Key, pattern: Callable[[str], str]) -> tuple[Test, Values]:
    match key.matching:
        case Single(value) if key.vr in ("TM", "DT"):
            return Test.BETWEEN, list(covered(key.vr, value) or ("", ""))
        case Single(value):
            return Test.EQUAL, [normal(key.vr, value) or ""]
        case UidList(uids):
            return Test.AMONG, [uids]
        case Range(low, high):
            return Test.BETWEEN, [low or BEFORE_DIGITS, high or AFTER_DIGITS]
        case Wildcard(text):
            return _like(text, pattern)
    raise AssertionError("universal keys are no terms")


def _name_tests(key: Key, pattern: Callable[[str], str]) -> list[tuple[int | None, Test, Values]]:
    """Any component group, or each group given when the key has `=` (PS3.4 C.2.2.2.1)."""
    assert isinstance(key.matching, Single | Wildcard)
    text = key.matching.value if isinstance(key.matching, Single) else key.matching.pattern
    asked = [normal("PN", group) or "" for group in groups(text)]
    if "=" not in text:
        return [(None, *_like(asked[0], pattern))]
    given: list[tuple[int | None, Test, Values]] = [
        (part, *_like(group, pattern)) for part, group in enumerate(asked) if group
    ]
    return given or [(None, Test.EQUAL, [""])]  # nothing but delimiters: nothing is equal to that


def _like(text: str, pattern: Callable[[str], str]) -> tuple[Test, Values]:
    if not is_pattern(text):
        return Test.EQUAL, [text]
    start = text[: min(at for at in (text.find("*"), text.find("?")) if at >= 0)]
    after = _after(start)
    return (Test.LIKE_FROM, [pattern(text), start, after]) if after else (Test.LIKE, [pattern(text)])


def _after(start: str) -> str:
    """The first text, by code point, that comes after all that begin with `start`; "" when there is none."""
    start = start.rstrip(_LAST)
    if not start:
        return ""
    following = ord(start[-1]) + 1
    return start[:-1] + chr(0xE000 if following == 0xD800 else following)


def _interval(date: Key, time: Key) -> Values:
    assert isinstance(date.matching, Range) and isinstance(time.matching, Range)
    low = [date.matching.low or BEFORE_DIGITS, time.matching.low or BEFORE_DIGITS]
    high = [date.matching.high or AFTER_DIGITS, time.matching.high or AFTER_DIGITS]
    return [*low, *high]
