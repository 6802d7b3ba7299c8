"""What a compressed frame says about itself, to be read before any decoder allocates memory for it."""

from dataclasses import dataclass

from storage.dicom.pixels.syntaxes import Coding
from storage.errors import Fault, Invalid


@dataclass(frozen=True, slots=True)
class CodeStream:
    """A code stream: its size, and how its samples are coded."""

    coding: Coding  # what it is, whatever the transfer syntax says
    rows: int
    columns: int
    components: int
    precision: int  # bits of a sample
    signed: bool = False
    reversible: bool = True  # what was coded comes out, bit for bit
    transformed: bool | None = None  # whether its colours are luminance and chrominance; None when it does not say
    is_whole: bool = True  # nothing is missing at its end


def damaged(what: str) -> Invalid:
    """The error for a frame whose bytes are not what they should be; `what` says why, without its content."""
    return Invalid(Fault.MALFORMED, f"the compressed frame is damaged: {what}")


def unsupported(what: str) -> Invalid:
    """The error for a frame that may be right, but in a form that nothing here can decode."""
    return Invalid(Fault.TRANSFER_SYNTAX, f"the compressed frame cannot be decoded: {what}")
