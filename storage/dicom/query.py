"""What a search asks for, whichever door it came through (PS3.4 C.2.2.2; PS3.18 8.3.4, 10.6)."""

import math
import re
import unicodedata
from dataclasses import dataclass, field

from storage.dicom import moments
from storage.dicom.attributes import BY_PATH, DATE_TIME_PAIRS, vr_of
from storage.dicom.identity import is_uid
from storage.dicom.level import Level as Level
from storage.dicom.name_tokens import is_of_characters, wanted
from storage.dicom.names import folded
from storage.errors import Fault, Invalid

MAX_TEXT = 512  # characters of a value that take part in matching: four bytes each fit an index entry of PostgreSQL
MAX_PATTERN_STARS = 16
MAX_UIDS = 4096
MAX_UID_LIST_TEXT = MAX_UIDS * 65
MAX_ALTERNATIVES = 64
EMPTY_VALUE = '""'
_PATTERN_VRS = frozenset(["AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"])
_INTERVALS = {"DA": moments.day, "TM": moments.time, "DT": moments.moment}
_LEADING_SPACES_COUNT = frozenset(["LT", "ST", "UC", "UR", "UT"])
_ONE_VALUE = frozenset(["LT", "ST", "UR", "UT", "UI"])  # a backslash is text, or UI, of which lists are known anyway
_INTEGER = re.compile(r"[+-]?\d{1,18}(\.0*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Single:
    """Equal to `value`, by the rules of the attribute's VR (PS3.4 C.2.2.2.1)."""

    value: str


@dataclass(frozen=True, slots=True)
class UidList:
    """Any of these UIDs (C.2.2.2.2)."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Universal:
    """Anything, also nothing; the attribute is to be returned (C.2.2.2.3)."""


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A pattern in which `*` stands for any characters and `?` for one; all others are literal (C.2.2.2.4)."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Range:
    """From `low` to `high`, both included, in normal form (see `normal`); None leaves an end open (C.2.2.2.5)."""

    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """A name one of whose tokens begins with `token` (see `name_tokens`): fuzzy semantic matching (PS3.18 8.3.4.2)."""

    token: str


@dataclass(frozen=True, slots=True)
class Empty:
    """No value, or none that is one of its VR (C.2.2.2.7): of an attribute in items, in none of them."""


Plain = Single | UidList | Universal | Wildcard | Range | Fuzzy | Empty


@dataclass(frozen=True, slots=True)
class AnyOf:
    """What matches any of these (C.2.2.2.8)."""

    alternatives: tuple[Single | Wildcard | Range | Fuzzy, ...]


Matching = Plain | AnyOf


@dataclass(frozen=True, slots=True)
class Key:
    """One matching key. `path` is a tag, or sequence tags ending in a tag, e.g. ("00400275", "00401001")."""

    path: tuple[str, ...]
    vr: str
    matching: Matching


@dataclass(frozen=True, slots=True)
class Query:
    """A search at one level.

    `study_uid` and `series_uid` bind the parent as the resource path does; they are not keys. `include` holds further
    tags to return (8 upper-case hexadecimal digits, or a dotted path); `include_all` asks for every attribute known
    at the level. Keys in one sequence must match in one and the same item. When StudyDate and StudyTime are both
    ranges, `combined_datetime` makes them one interval (QIDO), otherwise they are independent (C-FIND). With
    `match_unknown`, what has no value for a key matches it whatever it asks (PS3.4 C.2.2.1.2); keys of one sequence
    are unknown together. In `timezone`, an offset as `+0800`, are the dates with times of keys and of results.
    """

    level: Level
    keys: tuple[Key, ...] = ()
    study_uid: str | None = None
    series_uid: str | None = None
    include: frozenset[str] = field(default_factory=frozenset)
    include_all: bool = False
    limit: int = 100
    offset: int = 0
    combined_datetime: bool = True
    match_unknown: bool = False
    timezone: str | None = None


def key(path: tuple[str, ...], text: str, *, fuzzy: bool = False, empty: bool = False, multiple: bool = False) -> Key:
    """The matching that the text of a key asks for, by the VR of the attribute (PS3.4 C.2.2.2).

    With `fuzzy`, a name is matched by its tokens where the attribute has them, unless the text is a pattern that these
    cannot serve: then literally, as other attributes are. What matches literally matches fuzzily too. With `empty`, two
    quotation marks ask for no value; with `multiple`, backslashes separate values of which any will do.
    Raises Invalid (QUERY) for an unknown attribute and for text that is no valid key of its VR: a wild card where
    there are none, a date or time that is none, an empty item in a list of UIDs, a range that ends before it begins.
    """
    vr = vr_of(path)
    if vr is None:
        raise Invalid(Fault.QUERY, f"{'.'.join(path)} is not an attribute that can be a key")
    if empty and text.strip(" ") == EMPTY_VALUE:
        return Key(path, vr, Empty())
    tokens = fuzzy and is_fuzzy(path)
    if multiple and "\\" in text and vr not in _ONE_VALUE:
        return Key(path, vr, _any_of(path, vr, text.split("\\"), tokens))
    return Key(path, vr, _one(path, vr, text, tokens))


def _one(path: tuple[str, ...], vr: str, text: str, fuzzy: bool) -> Plain:
    matching = _matching(vr, text, ".".join(path))
    if fuzzy and not isinstance(matching, Universal):
        return _fuzzy(text.strip(" \0")) or matching
    return matching


def _any_of(path: tuple[str, ...], vr: str, texts: list[str], fuzzy: bool) -> Matching:
    name = ".".join(path)
    if len(texts) > MAX_ALTERNATIVES or not all(text.strip(" \0") for text in texts):
        raise Invalid(Fault.QUERY, f"the key {name} has an empty value in its list, or more than {MAX_ALTERNATIVES}")
    found = dict.fromkeys(_one(path, vr, text, fuzzy) for text in texts)
    if any(isinstance(each, Universal) for each in found):
        return Universal()
    return AnyOf(tuple(each for each in found if isinstance(each, Single | Wildcard | Range | Fuzzy)))


def alternatives(matching: Matching) -> tuple[Plain, ...]:
    """The matchings of which any will do."""
    return matching.alternatives if isinstance(matching, AnyOf) else (matching,)


def is_fuzzy(path: tuple[str, ...]) -> bool:
    """Whether names of this attribute can be matched fuzzily."""
    return path in BY_PATH and BY_PATH[path].tokens


def _fuzzy(text: str) -> Fuzzy | None:
    """A token's beginning is enough, with or without a star. One before it asks for what a name may have anywhere."""
    asked = text.strip("*")
    if "=" in asked or is_pattern(asked) or (text.startswith("*") and not is_of_characters(asked)):
        return None
    token = wanted(asked)
    return Fuzzy(token) if token else None


def _matching(vr: str, text: str, name: str) -> Plain:
    stripped = text.strip(" \0")
    if not stripped.strip("*"):
        return Universal()
    if len(stripped) > (MAX_UID_LIST_TEXT if vr == "UI" else MAX_TEXT) or not _is_clean(stripped):
        raise Invalid(Fault.QUERY, f"the key {name} is too long or has characters that no value can have")
    if vr == "UI":
        return _uids(stripped, name)
    if vr in _INTERVALS:
        return _moments(vr, stripped, name)
    if vr in _PATTERN_VRS:
        return _text(vr, text, name)
    value = normal(vr, stripped)
    if value is None:
        raise Invalid(Fault.QUERY, f"the key {name} is not a valid {vr} value")
    return Single(value)


def _is_clean(text: str) -> bool:
    """No control characters, and no half of a surrogate pair."""
    return not any(char < " " or "\ud800" <= char <= "\udfff" for char in text if not char.isprintable())


def _uids(text: str, name: str) -> Plain:
    uids = [uid.strip(" \0") for uid in text.replace("\\", ",").split(",")]
    if len(uids) > MAX_UIDS or not all(is_uid(uid) for uid in uids):
        raise Invalid(Fault.QUERY, f"the key {name} is not a UID or a list of UIDs, each 1 to 64 digits and dots")
    return Single(uids[0]) if len(uids) == 1 else UidList(tuple(dict.fromkeys(uids)))


def _text(vr: str, text: str, name: str) -> Plain:
    if not is_pattern(text):
        return Single(significant(vr, text))
    pattern = re.sub(r"\*+", "*", significant(vr, text))
    if pattern.count("*") > MAX_PATTERN_STARS:
        raise Invalid(Fault.QUERY, f"the key {name} has more than {MAX_PATTERN_STARS} wild cards")
    return Wildcard(pattern)


def _moments(vr: str, text: str, name: str) -> Plain:
    if (value := normal(vr, text)) is not None:
        return Single(value if vr == "DA" else text)
    for dash in (at for at, char in enumerate(text) if char == "-"):
        low, high = covered(vr, text[:dash]), covered(vr, text[dash + 1 :])
        if (low or not text[:dash]) and (high or not text[dash + 1 :]) and (low or high):
            if low and high and high[1] < low[0] and vr != "TM":
                raise Invalid(Fault.QUERY, f"the range of the key {name} ends before it begins")
            return Range(low and low[0], high and high[1])
    raise Invalid(Fault.QUERY, f"the key {name} is not a valid {vr} value or range")


def is_pattern(text: str) -> bool:
    """Whether `text` has a wild card."""
    return "*" in text or "?" in text


def covered(vr: str, text: str) -> moments.Interval | None:
    """What a DA, TM or DT value covers, from and to, both included; None when it is no such value."""
    return _INTERVALS[vr](text.strip(" \0"))


def normal(vr: str, text: str) -> str | None:
    """The form of one value in which values of this VR are compared; None when it is no value of this VR.

    DA is YYYYMMDD; TM is HHMMSS.FFFFFF and DT YYYYMMDDHHMMSS.FFFFFF in UTC, both as the first moment covered; IS and
    DS are plain numbers; text is as in `significant`, and one component group of PN is without case and accents.
    """
    if vr in _INTERVALS:
        interval = covered(vr, text)
        return interval and interval[0]
    if vr == "IS":
        return str(int(text.strip(" \0").partition(".")[0])) if _INTEGER.fullmatch(text.strip(" \0")) else None
    if vr == "DS":
        return _decimal(text)
    return folded(significant(vr, text))[:MAX_TEXT] if vr == "PN" else significant(vr, text)


def _decimal(text: str) -> str | None:
    try:
        number = float(text.strip(" \0"))
    except ValueError:
        return None
    return repr(number + 0.0) if math.isfinite(number) and "_" not in text else None


def significant(vr: str, text: str) -> str:
    """Text without its padding, composed (NFC), its first `MAX_TEXT` characters (PS3.5 6.2)."""
    text = text.replace("\0", "")
    text = text.rstrip(" ") if vr in _LEADING_SPACES_COUNT else text.strip(" ")
    return (text if text.isascii() else unicodedata.normalize("NFC", text))[:MAX_TEXT]


def combined(query: Query) -> list[tuple[Key, Key]]:
    """The pairs of date and time keys that are one interval together: ranges of the same form (PS3.18 8.3.4.1.1)."""
    keys = {key.path: key for key in query.keys}
    pairs = [(keys[date], keys[time]) for date, time in DATE_TIME_PAIRS if date in keys and time in keys]
    return [(date, time) for date, time in pairs if query.combined_datetime and _same_form(date, time)]


def _same_form(date: Key, time: Key) -> bool:
    one, other = date.matching, time.matching
    if not isinstance(one, Range) or not isinstance(other, Range):
        return False
    return (one.low is None, one.high is None) == (other.low is None, other.high is None)


def check(query: Query) -> None:
    """Raise Invalid (QUERY) for ranges that end before they begin, dates and times of one interval taken together.

    A range of times alone lies within one day (PS3.4 C.2.2.2.5); `key` cannot see whether a date goes with it.
    """
    pairs = combined(query)
    for date, time in pairs:
        from_date, to_date = _ends(date.matching)
        from_time, to_time = _ends(time.matching)
        if to_date and (to_date, to_time) < (from_date, from_time):
            raise Invalid(Fault.QUERY, f"the range of {date.path[-1]} with {time.path[-1]} ends before it begins")
    in_pairs = {key.path for pair in pairs for key in pair}
    for key in query.keys:
        ends = map(_ends, alternatives(key.matching))
        if key.path not in in_pairs and any(high and high < low for low, high in ends):
            raise Invalid(Fault.QUERY, f"the range of the key {'.'.join(key.path)} ends before it begins")


def _ends(matching: Matching) -> tuple[str, str]:
    return (matching.low or "", matching.high or "") if isinstance(matching, Range) else ("", "")
