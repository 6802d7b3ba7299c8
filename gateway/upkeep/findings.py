"""What a verification has to tell of an object."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is wrong with an object."""

    MISSING = "missing"  # the index names it, the store does not have it
    DAMAGED = "damaged"  # it is not what was stored, or cannot be read
    ORPHAN = "orphan"  # the store has it, nothing names it


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
    """An object that was looked at: how many bytes of it were read, and what was found."""

    key: str
    bytes: int = 0
    findings: tuple[Finding, ...] = ()
