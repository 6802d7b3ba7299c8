"""From the query string of a QIDO-RS request to a `Query` (PS3.18 8.3.4, 10.6.1)."""

import re
from dataclasses import dataclass, field

from gateway.config import Web
from gateway.web.errors import Refused
from gateway.web.parameters import parameters
from storage.dicom import query as matching
from storage.dicom import zones
from storage.dicom.attributes import TIMEZONE, is_supported, path_of
from storage.dicom.query import Key, Level, Query

MAX_OFFSET = 1 << 53
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(slots=True)
class _Reading:
    """What has been read of a query string so far."""

    level: Level
    limit: int
    max_results: int
    offset: int = 0
    include: set[str] = field(default_factory=set)
    include_all: bool = False
    fuzzy: bool = False
    empty: bool = False
    multiple: bool = False
    timezone: str | None = None
    given: list[tuple[str, str]] = field(default_factory=list)  # what may be keys; read when all parameters are known
    keys: dict[tuple[str, ...], Key | None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def read(
    raw: bytes, level: Level, settings: Web, *, study_uid: str | None = None, series_uid: str | None = None
) -> tuple[Query, list[str]]:
    """The query, and the warnings that its answer must carry.

    Parameters that mean nothing here are ignored (8.3). Raises Refused or Invalid (400) for one that does but has a
    value that is not valid, and for a key that is given twice (8.3.4.1).
    """
    reading = _Reading(level, settings.default_search_results, settings.max_search_results)
    for name, value in parameters(raw):
        control = _CONTROLS.get(name)
        if control is None:
            reading.given.append((name, value))
        elif name in reading.seen and name != "includefield":
            raise Refused(400, "query", f"the parameter {name} is given more than once")
        else:
            reading.seen.add(name)
            control(reading, name, value)
    for name, value in reading.given:
        _key(reading, name, value)
    query = Query(
        level,
        tuple(key for key in reading.keys.values() if key is not None),
        study_uid,
        series_uid,
        frozenset(reading.include),
        reading.include_all,
        reading.limit,
        reading.offset,
        match_unknown=settings.match_unknown,
        timezone=reading.timezone,
    )
    matching.check(query)
    return query, reading.warnings


def _key(reading: _Reading, name: str, value: str) -> None:
    path = path_of(name)
    if path is None:
        return  # no attribute: a parameter of somebody else's
    if path in reading.keys:
        raise Refused(400, "query", f"the attribute {'.'.join(path)} is given more than once")
    if is_supported(path, reading.level):
        reading.keys[path] = matching.key(
            path, value, fuzzy=reading.fuzzy, empty=reading.empty, multiple=reading.multiple
        )
    elif path == (TIMEZONE,):
        reading.keys[path] = None
        _timezone(reading, value)
    else:
        reading.keys[path] = None
        reading.warnings.append(f"The attribute {'.'.join(path)} is not matched here. It has been ignored.")


def _timezone(reading: _Reading, value: str) -> None:
    if not value:
        return  # it is returned in any case
    if zones.offset(value) is None:
        raise Refused(400, "query", "TimezoneOffsetFromUTC is a sign and four digits, for example +0800")
    reading.timezone = value


def _limit(reading: _Reading, name: str, value: str) -> None:
    reading.limit = min(_number(name, value), reading.max_results)


def _offset(reading: _Reading, name: str, value: str) -> None:
    reading.offset = min(_number(name, value), MAX_OFFSET)


def _include(reading: _Reading, _: str, value: str) -> None:
    for name in value.split(","):
        path = path_of(name.strip())
        if name.strip() == "all":
            reading.include_all = True
        elif path is not None:
            reading.include.add(".".join(path))


def _fuzzy(reading: _Reading, name: str, value: str) -> None:
    reading.fuzzy = _boolean(name, value)


def _empty(reading: _Reading, name: str, value: str) -> None:
    reading.empty = _boolean(name, value)


def _multiple(reading: _Reading, name: str, value: str) -> None:
    reading.multiple = _boolean(name, value)


def _ignored(_: _Reading, __: str, ___: str) -> None:
    """Read elsewhere, by content negotiation."""


_CONTROLS = {
    "limit": _limit,
    "offset": _offset,
    "includefield": _include,
    "fuzzymatching": _fuzzy,
    "emptyvaluematching": _empty,
    "multiplevaluematching": _multiple,
    "accept": _ignored,
}


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise Refused(400, "query", f"{name} is true or false")
    return value == "true"


def _number(name: str, value: str) -> int:
    if _NUMBER.fullmatch(value) is None:
        raise Refused(400, "query", f"{name} is a number from 0")
    return int(value)
