"""Who asks: made by a door from a token or an AE title, passed explicitly from the archive up."""

from dataclasses import dataclass
from enum import StrEnum


class Right(StrEnum):
    """What a caller may be allowed to do."""

    STORE = "store"
    READ = "read"  # search, metadata, retrieve, frames
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Caller:
    """Identity, organisation, role and purpose of whoever asks, and from which network address, through which door.

    `identity` names a system or token ("CT1", "radiology"), never a patient.
    """

    identity: str
    address: str
    door: str  # "dimse", "web", "command"
    rights: frozenset[Right] = frozenset()
    organisation: str = ""
    role: str = ""
    purpose: str = ""
