"""The one table from errors to DIMSE status codes (PS3.4 B.2.3, PS3.7 Annex C), and what is said beside them."""

from dataclasses import dataclass

from gateway.security.policy import Forbidden
from storage.errors import Conflict, Exhausted, Fault, Invalid, Unavailable

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORIZED = 0x0124
UNRECOGNIZED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212
OUT_OF_RESOURCES = 0xA700
DATA_SET_DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

_BY_FAULT = {
    Fault.NOT_DICOM: CANNOT_UNDERSTAND,
    Fault.MALFORMED: 0xC001,
    Fault.MISSING_UID: 0xC002,
    Fault.BAD_UID: 0xC003,
    Fault.TRANSFER_SYNTAX: 0xC122,  # as in STOW-RS (PS3.18 I.2.2): referenced transfer syntax not supported
    Fault.QUERY: MISTYPED_ARGUMENT,
    Fault.MISMATCH: DATA_SET_DOES_NOT_MATCH,
    Fault.SOP_CLASS: SOP_CLASS_NOT_SUPPORTED,
    Fault.TOO_LARGE: 0xA701,
}
_BY_ERROR: tuple[tuple[type[Exception], int], ...] = (
    (Exhausted, OUT_OF_RESOURCES),
    (Unavailable, OUT_OF_RESOURCES),
    (Conflict, OUT_OF_RESOURCES),  # two senders of one instance at once: the other one won; send it again
    (Forbidden, NOT_AUTHORIZED),
)


@dataclass(frozen=True, slots=True)
class Status:
    """What a response says: status code, Error Comment (0000,0902), Offending Element (0000,0901)."""

    code: int
    comment: str = ""
    offending: int | None = None


DONE = Status(SUCCESS)


def of(error: Exception) -> Status:
    """The status that `error` becomes. Only errors whose text is safe to show put it into the Error Comment."""
    if isinstance(error, Invalid):
        return Status(_BY_FAULT[error.fault], str(error))
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return Status(code, str(error))
    return Status(PROCESSING_FAILURE, "unexpected failure; the gateway's log has the cause")
