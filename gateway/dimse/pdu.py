"""Protocol data units of the DICOM upper layer but for A-ASSOCIATE (PS3.8 9.3), and how an association can fail."""

import struct
from enum import IntEnum

HEADER = struct.Struct(">BxI")  # PDU type, length of what follows
PDV_HEADER = struct.Struct(">IBB")  # length of what follows, presentation context ID, message control header
DATA_HEADER = struct.Struct(">BxIIBB")  # a P-DATA-TF that holds one PDV
PDV_OVERHEAD = PDV_HEADER.size

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
COMMAND, LAST = 1, 2  # bits of the message control header (PS3.8 E.2)

# What is left for an answer by whoever announces less is not worth an association.
MIN_PDU_BYTES = 128


class AbortReason(IntEnum):
    """Why the service provider aborts (PS3.8 9.3.8)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class UpperLayerError(Exception):
    """The association cannot go on. The text never holds what the peer sent."""


class ConnectionLost(UpperLayerError):
    """The peer closed the connection, or the network did."""


class TimedOut(UpperLayerError):
    """The peer did not send, or did not take, what was due in time."""


class Aborted(UpperLayerError):
    """The peer sent A-ABORT."""


class ProtocolError(UpperLayerError):
    """The peer broke the protocol; it is told by an A-ABORT with `reason`."""

    def __init__(self, message: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        super().__init__(message)
        self.reason = reason


def release_rq() -> bytes:
    """A-RELEASE-RQ (PS3.8 9.3.6)."""
    return HEADER.pack(RELEASE_RQ, 4) + bytes(4)


def release_rp() -> bytes:
    """A-RELEASE-RP (PS3.8 9.3.7)."""
    return HEADER.pack(RELEASE_RP, 4) + bytes(4)


def abort(reason: AbortReason = AbortReason.NOT_SPECIFIED, *, by_provider: bool = True) -> bytes:
    """A-ABORT (PS3.8 9.3.8); the reason means something only when the provider aborts."""
    source = 2 if by_provider else 0
    return HEADER.pack(ABORT, 4) + bytes((0, 0, source, reason if by_provider else 0))


def reject(result: int, source: int, reason: int) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return HEADER.pack(ASSOCIATE_RJ, 4) + bytes((0, result, source, reason))


def data_header(context_id: int, control: int, length: int) -> bytes:
    """What stands before `length` bytes of one fragment that has a P-DATA-TF to itself (PS3.8 9.3.5)."""
    return DATA_HEADER.pack(DATA_TF, length + 6, length + 2, context_id, control)
