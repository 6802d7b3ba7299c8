"""The few ways in which storage can say no. Each door maps them to its protocol in one table of its own."""

from enum import StrEnum


class StorageError(Exception):
    """Base of all errors below; `str(error)` is safe to show to a caller: it never holds patient data."""


class Fault(StrEnum):
    """What is wrong with bytes or values that a caller sent."""

    NOT_DICOM = "not-dicom"  # no DICOM data set could be recognised at all
    MALFORMED = "malformed"  # a data set that is cut short, contradicts its lengths or never ends
    MISSING_UID = "missing-uid"  # SOP Class, SOP Instance, Study or Series Instance UID absent or empty
    BAD_UID = "bad-uid"  # one of these is no UID (PS3.5 9.1)
    MISMATCH = "mismatch"  # not what was announced: other study, other SOP class or instance
    SOP_CLASS = "sop-class"  # a SOP class that is not stored here (a DICOMDIR)
    TRANSFER_SYNTAX = "transfer-syntax"  # a transfer syntax that cannot be read or does not fit the bytes
    TOO_LARGE = "too-large"  # over a configured limit
    QUERY = "query"  # a search key or parameter that is not valid


class Invalid(StorageError):
    """What the caller sent cannot be taken; sending it again does not help."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault

    def __reduce__(self) -> tuple[type["Invalid"], tuple[Fault, str]]:
        """For errors that come from another process."""
        return type(self), (self.fault, str(self))


class NotFound(StorageError):
    """There is no such study, series, instance, frame, bulk value or object."""


class NotAcceptable(StorageError):
    """It is here, but not in any of the forms that the caller accepts."""


class Conflict(StorageError):
    """Something else is already there under that name."""


class Unavailable(StorageError):
    """A part that is needed (object store, index) does not answer now; try again later."""


class Exhausted(StorageError):
    """A limit is reached (space, concurrency, memory); try again later, or elsewhere."""
