"""What a verification has to tell of an object."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is wrong with an object."""

    MISSING = "missing"  # the index names it, the store does not have it
    DAMAGED = "damaged"  # it is not what was stored, or cannot be read
    ORPHAN = "orphan"  # the store has it, nothing names it
    LOST = "lost"  # the index is empty, the stores are not


class Passed(StrEnum):
    """Why an object that nothing names was not looked at."""

    YOUNG = "young"  # it may be about to be named
    DOOMED = "doomed"  # it is to be deleted


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with the object `key` of a store, and `advice`: what was done about it, or is to do."""

    kind: Kind
    store: str
    key: str
    what: str
    advice: str
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """An object: how many bytes of it were read, and what was found; or why it was `passed` over, and the time (in
    microseconds since 1970) from which it is not any more.
    """

    key: str
    bytes: int = 0
    findings: tuple[Finding, ...] = ()
    passed: Passed | None = None
    again_at: int = 0
