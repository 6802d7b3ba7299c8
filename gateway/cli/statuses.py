"""What the status of a C-STORE and the Failure Reason of a STOW-RS say; both use the same numbers."""

OUT_OF_RESOURCES = range(0xA700, 0xA800)

# PS3.7 Annex C; PS3.4 Table B.2-1; PS3.18 I.2.2. Ranges first to last.
_MEANINGS = (
    (0xA700, 0xA7FF, "out of resources"),
    (0xA900, 0xA9FF, "the data set does not match its SOP class"),
    (0xC001, 0xC001, "the data set is malformed or cut short"),
    (0xC002, 0xC002, "a UID that identifies the instance is missing"),
    (0xC003, 0xC003, "a UID that identifies the instance is not valid"),
    (0xC122, 0xC122, "the transfer syntax is not supported"),
    (0xC000, 0xCFFF, "the data set cannot be understood"),
    (0x0110, 0x0110, "processing failure"),
    (0x0111, 0x0111, "duplicate SOP instance"),
    (0x0117, 0x0117, "the SOP Instance UID is not valid"),
    (0x0122, 0x0122, "the SOP class is not supported"),
    (0x0124, 0x0124, "not authorized"),
)


def is_success(status: int) -> bool:
    """Success, or stored with a warning (Bxxx)."""
    return status == 0 or status >> 12 == 0xB


def is_temporary(status: int) -> bool:
    """Whether the same instance may be taken later."""
    return status in OUT_OF_RESOURCES


def describe(status: int) -> str:
    """The status in words and as the standard writes it, e.g. "out of resources (A700H)"."""
    meaning = next((text for first, last, text in _MEANINGS if first <= status <= last), "failure")
    return f"{meaning} ({status:04X}H)"
