"""From what went wrong with one instance to its Failure Reason and to an HTTP status (PS3.18 I.2.2, Table 10.5.3-1)."""

from dataclasses import dataclass

from storage.errors import Conflict, Exhausted, Fault, Invalid, Unavailable

PROCESSING = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
OTHER_STUDY_OR_INSTANCE = 0xA901
CANNOT_UNDERSTAND = 0xC000
MALFORMED, MISSING_UID, BAD_UID = 0xC001, 0xC002, 0xC003  # the same numbers as the statuses of a C-STORE
TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122

# The one reason for a warning that fits here: nothing is ever coerced (B000) or discarded (B006).
DATA_SET_ODD = 0xB007


@dataclass(frozen=True, slots=True)
class Failure:
    """How one instance's failure is reported: Failure Reason (0008,1197), and the status if none could be stored."""

    reason: int
    status: int


_FAULTS = {
    Fault.NOT_DICOM: Failure(CANNOT_UNDERSTAND, 400),
    Fault.MALFORMED: Failure(MALFORMED, 400),
    Fault.MISSING_UID: Failure(MISSING_UID, 400),
    Fault.BAD_UID: Failure(BAD_UID, 400),
    Fault.MISMATCH: Failure(OTHER_STUDY_OR_INSTANCE, 409),
    Fault.SOP_CLASS: Failure(SOP_CLASS_NOT_SUPPORTED, 409),
    Fault.TRANSFER_SYNTAX: Failure(TRANSFER_SYNTAX_NOT_SUPPORTED, 409),
    Fault.TOO_LARGE: Failure(OUT_OF_RESOURCES, 413),
    Fault.QUERY: Failure(PROCESSING, 400),
}
_ERRORS: dict[type[Exception], Failure] = {
    Conflict: Failure(PROCESSING, 409),
    Exhausted: Failure(OUT_OF_RESOURCES, 503),
    Unavailable: Failure(OUT_OF_RESOURCES, 503),
}
UNFORESEEN = Failure(PROCESSING, 500)


def of(error: Exception) -> Failure:
    """How this error of one instance is reported."""
    if isinstance(error, Invalid):
        return _FAULTS[error.fault]
    return next((failure for kind, failure in _ERRORS.items() if isinstance(error, kind)), UNFORESEEN)


def status(stored: int, warned: bool, failed: list[Failure]) -> int:
    """The status of a store with so many stored instances and these failures (PS3.18 Table 10.5.3-1).

    When none was stored, failures of one kind give their own status and mixed ones 409.
    """
    if stored:
        return 202 if failed or warned else 200
    statuses = {failure.status for failure in failed}
    return statuses.pop() if len(statuses) == 1 else 409 if statuses else 400
