"""Dates and times by meaning: their normal form, and the interval that a value of less precision covers (PS3.5 6.2).

Normal forms are digits that sort as time does: YYYYMMDD, HHMMSS.FFFFFF, and for DT both in a row, in UTC.
"""

import re
from datetime import UTC, date, datetime, timedelta, timezone

Interval = tuple[str, str]  # the first and the last microsecond (for DA: day), both included, in normal form

_DATE = re.compile(r"(\d{4})(\.?)(\d\d)\2(\d\d)", re.ASCII)
_TIME = re.compile(r"(\d\d)(?:(:?)(\d\d)(?:\2(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DATETIME = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:\.(\d{1,6}))?([+-]\d{4})?", re.ASCII)
_UNITS = ("days", "hours", "minutes", "seconds")


def day(text: str) -> Interval | None:
    """The day that a DA value names, also in the form YYYY.MM.DD of old data; None when it is no date."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day_of_month = int(found[1]), int(found[3]), int(found[4])
    try:
        date(year, month, day_of_month)
    except ValueError:
        return None
    normal = f"{year:04}{month:02}{day_of_month:02}"
    return normal, normal


def time(text: str) -> Interval | None:
    """What a TM value covers: 2230 is 22:30:00 to 22:30:59.999999; None when it is no time. Colons of old data pass."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hour, minute, second, fraction = found[1], found[3], found[4], found[5] or ""
    if hour > "23" or (minute or "00") > "59" or (second or "00") > "60":
        return None
    first = f"{hour}{minute or '00'}{second or '00'}.{fraction:0<6}"
    last = f"{hour}{minute or '59'}{second or '59'}.{fraction:9<6}"
    return first, last


def moment(text: str) -> Interval | None:
    """What a DT value covers, in UTC; without an offset it counts as UTC. None when it is no date and time."""
    found = _DATETIME.fullmatch(text)
    if found is None:
        return None
    parts = [part for part in found.groups()[:6] if part is not None]
    fraction, offset = found[7], _offset(found[8])
    if offset is None or (fraction is not None and len(parts) < 6):
        return None
    try:
        first = datetime(*(int(part) for part in [*parts, "01", "01"][: max(3, len(parts))]), tzinfo=offset)  # type: ignore[misc,arg-type]
        first += timedelta(microseconds=int(f"{fraction or '':0<6}"))
        last = _next(first, len(parts), len(fraction or "")) - timedelta(microseconds=1)
        return _in_utc(first), _in_utc(last)
    except (ValueError, OverflowError):
        return None


def _offset(text: str | None) -> timezone | None:
    """The zone of an offset from -1200 to +1400; None for what is none."""
    if text is None:
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[3:])
    minutes = -minutes if text[0] == "-" else minutes
    return timezone(timedelta(minutes=minutes)) if int(text[3:]) < 60 and -720 <= minutes <= 840 else None


def _next(start: datetime, components: int, digits: int) -> datetime:
    """The moment after the last that a value with so many components and fractional digits covers."""
    if digits:
        return start + timedelta(microseconds=10 ** (6 - digits))
    if components == 1:
        return start.replace(year=start.year + 1)
    if components == 2:
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start + timedelta(**{_UNITS[components - 3]: 1})


def _in_utc(at: datetime) -> str:
    at = at.astimezone(UTC)
    return f"{at.year:04}{at:%m%d%H%M%S}.{at.microsecond:06}"
