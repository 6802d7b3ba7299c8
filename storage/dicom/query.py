"""What a search asks for, whichever door it came through (PS3.4 C.2.2.2; PS3.18 8.3.4, 10.6)."""

from dataclasses import dataclass, field
from enum import IntEnum


class Level(IntEnum):
    """The levels of the Query/Retrieve information model used here; lower is larger."""

    STUDY = 1
    SERIES = 2
    INSTANCE = 3


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


Matching = Single | UidList | Universal | Wildcard | Range


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
    ranges, `combined_datetime` makes them one interval (QIDO), otherwise they are independent (C-FIND).
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
