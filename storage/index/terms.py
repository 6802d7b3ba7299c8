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
    Empty,
    Fuzzy,
    Key,
    Matching,
    Plain,
    Query,
    Range,
    Single,
    UidList,
    Universal,
    Wildcard,
    alternatives,
    check,
    combined,
    covered,
    is_pattern,
    normal,
)
from storage.errors import Fault, Invalid
from storage.index.documents import name_token
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
    """Tests of a column of a level's own table, of which any will do."""

    attribute: Attribute
    tests: tuple[Test, ...]


class OnMoment(NamedTuple):
    """A date and a time column within one interval: four values, date and time of each end."""

    date: Attribute
    time: Attribute


class OnDateAlone(NamedTuple):
    """No time, and a date between two values."""

    date: Attribute
    time: Attribute


class OnNothing(NamedTuple):
    """No value of an attribute."""

    attribute: Attribute


class ValueTest(NamedTuple):
    """Tests of one row of values, of which any will do; `part` None for any component group."""

    path: str
    part: int | None
    tests: tuple[Test, ...]


class OnValues(NamedTuple):
    """Tests that rows of one entity with the same item number must pass, a row for each test."""

    level: Level
    selective: bool
    tests: tuple[ValueTest, ...]


class OnNames(NamedTuple):
    """A test of the tokens of names: the beginning of one, and what comes after all that begin so."""


class OnUids(NamedTuple):
    """Series with one of these instances: their UIDs, by which loose ones are known, and the hashes of sealed ones."""


class OnAny(NamedTuple):
    """Terms of which any will do."""

    terms: "tuple[Term, ...]"


class OnAll(NamedTuple):
    """Terms that must all be met, within `OnAny`."""

    terms: "tuple[Term, ...]"


Term = OnColumn | OnMoment | OnDateAlone | OnNothing | OnValues | OnNames | OnUids | OnAny | OnAll
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
        found.append(_moment_term(date, time, query.match_unknown, values))
    paired = {key.path for pair in pairs for key in pair}
    together: dict[tuple[str, ...], list[Key]] = defaultdict(list)  # by their sequence, others by themselves
    for key in query.keys:
        if key.path in paired or isinstance(key.matching, Universal):
            continue
        if BY_PATH[key.path].level is Level.INSTANCE:
            found += _series_with(key, values)
        elif isinstance(key.matching, Empty):
            found.append(OnNothing(BY_PATH[key.path]))
        else:
            together[key.path[:-1] or key.path].append(key)
    for keys in together.values():
        term = _term(keys, pattern, values)
        if query.match_unknown:
            nothing = tuple(OnNothing(BY_PATH[key.path]) for key in keys)
            term = OnAny((term, nothing[0] if len(nothing) == 1 else OnAll(nothing)))
        found.append(term)
    return tuple(found), values


def _moment_term(date: Key, time: Key, match_unknown: bool, values: Values) -> Term:
    attributes = BY_PATH[date.path], BY_PATH[time.path]
    ends = _interval(date, time)
    values += ends
    if not match_unknown:
        return OnMoment(*attributes)
    values += ends[::2]
    return OnAny((OnMoment(*attributes), OnDateAlone(*attributes), OnNothing(attributes[0])))


def _refuse_unsupported(query: Query) -> None:
    for key in query.keys:
        if not isinstance(key.matching, Universal) and not is_supported(key.path, query.level):
            raise Invalid(Fault.QUERY, f"{'.'.join(key.path)} cannot be matched at this level")


def _series_with(key: Key, values: Values) -> list[Term]:
    if key.path == INSTANCE_NUMBER:  # which of them has such a number is not known from outside
        return []
    uids = among(key.matching)
    if key.path == SOP_UID:
        values += [uids, tuple(map(uid_hash, uids))]
        return [OnUids()]
    values.append(uids)
    return [OnValues(Level.STUDY, False, (ValueTest(_SOP_CLASSES_IN_STUDY, None, (Test.AMONG,)),))]


def among(matching: Matching) -> tuple[str, ...]:
    """The UIDs that a key of an instance accepts; none are empty."""
    if isinstance(matching, Empty):
        return ()
    assert isinstance(matching, Single | UidList)
    return matching.values if isinstance(matching, UidList) else (matching.value,)


def numbers(matching: Matching) -> frozenset[int | None]:
    """The numbers that a key of an instance accepts; None stands for no number."""
    if isinstance(matching, Empty):
        return frozenset([None])
    return frozenset(int(each.value) for each in alternatives(matching) if isinstance(each, Single))


def _term(keys: list[Key], pattern: Callable[[str], str], values: Values) -> Term:
    """Of one key, or of all keys of one sequence."""
    attribute = BY_PATH[keys[0].path]
    if attribute.vr == "PN":
        found = [_name_term(attribute, matching, pattern, values) for matching in alternatives(keys[0].matching)]
        return found[0] if len(found) == 1 else OnAny(tuple(found))
    if attribute.home is Home.COLUMN:
        tests, asked = _tests(keys[0], pattern)
        values += [int(str(value)) for value in asked] if attribute.vr == "IS" else asked
        return OnColumn(attribute, tests)
    rows: list[ValueTest] = []
    for key in keys:
        tests, asked = _tests(key, pattern)
        rows.append(ValueTest(".".join(key.path), None, tests))
        values += asked
    return OnValues(attribute.level, any(BY_PATH[key.path].selective for key in keys), tuple(rows))


def _tests(key: Key, pattern: Callable[[str], str]) -> tuple[tuple[Test, ...], Values]:
    found = [_test(key.vr, matching, pattern) for matching in alternatives(key.matching)]
    return tuple(test for test, _ in found), [value for _, values in found for value in values]


def _test(vr: str, matching: Plain, pattern: Callable[[str], str]) -> tuple[Test, Values]:
    match matching:
        case Single(value) if vr in ("TM", "DT"):
            return Test.BETWEEN, list(covered(vr, value) or ("", ""))
        case Single(value):
            return Test.EQUAL, [normal(vr, value) or ""]
        case UidList(uids):
            return Test.AMONG, [uids]
        case Range(low, high):
            return Test.BETWEEN, [low or BEFORE_DIGITS, high or AFTER_DIGITS]
        case Wildcard(text):
            return _like(text, pattern)
    raise AssertionError("universal keys are no terms, nor are those for no value")


def _name_term(attribute: Attribute, matching: Plain, pattern: Callable[[str], str], values: Values) -> Term:
    if isinstance(matching, Fuzzy):
        token = name_token(attribute, matching.token)
        values += [token, _after(token)]
        return OnNames()
    rows = []
    for part, test, asked in _name_tests(matching, pattern):
        rows.append(ValueTest(".".join(attribute.path), part, (test,)))
        values += asked
    return OnValues(attribute.level, attribute.selective, tuple(rows))


def _name_tests(matching: Plain, pattern: Callable[[str], str]) -> list[tuple[int | None, Test, Values]]:
    """Any component group, or each group given when the key has `=` (PS3.4 C.2.2.2.1)."""
    assert isinstance(matching, Single | Wildcard)
    text = matching.value if isinstance(matching, Single) else matching.pattern
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
