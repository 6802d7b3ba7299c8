"""Dates with their times in another time zone (Timezone Offset From UTC; PS3.18 8.3.4.1.1; PS3.3 C.12.1.1.8)."""

import re
from datetime import datetime, timedelta
from typing import Any

from storage.dicom.attributes import TIMEZONE
from storage.dicom.instance import JsonDataset

# Study, Series, Acquisition, Content, Instance Creation, Performed Procedure Step Start and End Date and Time.
PAIRS = (
    ("00080020", "00080030"),
    ("00080021", "00080031"),
    ("00080022", "00080032"),
    ("00080023", "00080033"),
    ("00080012", "00080013"),
    ("00400244", "00400245"),
    ("00400250", "00400251"),
)
_OFFSET = re.compile(r"([+-])(0[0-9]|1[0-4])([0-5][0-9])", re.ASCII)
_DATE = re.compile(r"(\d{4})\.?(\d\d)\.?(\d\d)", re.ASCII)
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d(?:\.\d{1,6})?))?)?", re.ASCII)


def offset(text: str) -> timedelta | None:
    """What `+0800` is ahead of UTC; None for what is no offset from it."""
    found = _OFFSET.fullmatch(text.strip(" \0"))
    if found is None:
        return None
    ahead = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return -ahead if found[1] == "-" else ahead


def in_zone(dataset: JsonDataset, zone: str) -> JsonDataset:
    """The data set with the dates and times of its top level as they are in `zone`, which then is its own.

    Without a time zone it is unchanged, and so is a date without a time: what they are elsewhere nobody knows.
    """
    own, asked = offset(_first(dataset, TIMEZONE)), offset(zone)
    if own is None or asked is None or own == asked:
        return dataset
    moved = {**dataset, TIMEZONE: {"vr": "SH", "Value": [zone]}}
    for date, time in PAIRS:
        shifted = _shifted(_first(dataset, date), _first(dataset, time), asked - own)
        if shifted is not None:
            moved[date], moved[time] = {"vr": "DA", "Value": [shifted[0]]}, {"vr": "TM", "Value": [shifted[1]]}
    return moved


def _first(dataset: JsonDataset, tag: str) -> str:
    values: list[Any] = dataset.get(tag, {}).get("Value") or [""]
    return values[0] if isinstance(values[0], str) else ""


def _shifted(date: str, time: str, by: timedelta) -> tuple[str, str] | None:
    """Both later by that much, as precise as before; None when they are no date and time."""
    day, clock = _DATE.fullmatch(date.strip(" \0")), _TIME.fullmatch(time.strip(" \0"))
    if day is None or clock is None:
        return None
    try:
        at = datetime(int(day[1]), int(day[2]), int(day[3]), int(clock[1]), int(clock[2] or 0)) + by
    except (ValueError, OverflowError):
        return None
    minutes = f"{at:%M}" if clock[2] or at.minute else ""
    return f"{at.year:04}{at:%m%d}", f"{at:%H}{minutes}{clock[3] or ''}"
