"""UIDs and what they name: an instance's identity, and the scope of a request."""

import re
from dataclasses import dataclass

from storage.errors import Fault, Invalid

# Components with leading zeros break PS3.5 9.1 but are common in real archives and harmless; empty ones (".."),
# letters and separators are not let through, so that a UID can be part of a storage key.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
_PADDING = " \0"
MAX_UID_LENGTH = 64


def is_uid(value: str) -> bool:
    """Whether `value` can be used as a UID here (PS3.5 9.1, leading zeros tolerated)."""
    return len(value) <= MAX_UID_LENGTH and _UID.fullmatch(value) is not None


def uid(value: str, what: str) -> str:
    """`value` without padding, or Invalid (MISSING_UID, BAD_UID) naming `what`, e.g. "Study Instance UID"."""
    value = value.strip(_PADDING)
    if not value:
        raise Invalid(Fault.MISSING_UID, f"{what} is missing or empty")
    if not is_uid(value):
        raise Invalid(Fault.BAD_UID, f"{what} is not a valid UID: up to 64 characters, digits and single dots")
    return value


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """The four UIDs that make an instance what it is; always taken from the top level of its data set."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str


@dataclass(frozen=True, slots=True)
class Scope:
    """A study, one of its series, or one instance of that series. UIDs that do not belong together name nothing."""

    study_uid: str
    series_uid: str | None = None
    sop_uid: str | None = None

    def __post_init__(self) -> None:
        if self.sop_uid is not None and self.series_uid is None:
            raise ValueError("an instance is named by study, series and SOP Instance UID together")
