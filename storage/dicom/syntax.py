"""Transfer syntaxes: what each means for reading a data set, and which one bytes are really in (PS3.5 10, annex A)."""

from pydicom.uid import UID

from storage.dicom.elements import HEADER_BYTES, Encoding, leads_on, spells_length
from storage.dicom.values import BY_CODE

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
_GE_PRIVATE = "1.2.840.113619.5.2"  # implicit VR little endian but for the pixel data, which is big endian
_JPIP_DEFLATED = frozenset({"1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
_REFERENCED = frozenset({"1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.204", *_JPIP_DEFLATED})
_NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED, _GE_PRIVATE})
_ENCODINGS = {
    IMPLICIT_LITTLE: Encoding.IMPLICIT_LITTLE,
    _GE_PRIVATE: Encoding.IMPLICIT_LITTLE,
    EXPLICIT_BIG: Encoding.EXPLICIT_BIG,
}
_PLAIN = {
    Encoding.IMPLICIT_LITTLE: IMPLICIT_LITTLE,
    Encoding.EXPLICIT_LITTLE: EXPLICIT_LITTLE,
    Encoding.EXPLICIT_BIG: EXPLICIT_BIG,
}
# MPEG-2, MPEG-4 AVC/H.264 and HEVC/H.265, each with its fragmentable form ("....100.1").
_STREAMS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))
_MAX_FIRST_GROUP = 0x0008  # no instance is without its SOP Class UID (0008,0016)


def encoding_of(transfer_syntax: str) -> Encoding:
    """How the elements are written; all but a few syntaxes, private ones too, are explicit VR little endian."""
    return _ENCODINGS.get(transfer_syntax, Encoding.EXPLICIT_LITTLE)


def plain_syntax(encoding: Encoding) -> str:
    """The transfer syntax of a data set in this encoding with native pixel data."""
    return _PLAIN[encoding]


def is_known(transfer_syntax: str) -> bool:
    """Whether the standard, or a table here, says how to read it."""
    return transfer_syntax in _ENCODINGS or UID(transfer_syntax).type == "Transfer Syntax"


def is_deflated(transfer_syntax: str) -> bool:
    """Whether the whole data set is deflated (PS3.5 A.5)."""
    return transfer_syntax == DEFLATED or transfer_syntax in _JPIP_DEFLATED


def is_referenced(transfer_syntax: str) -> bool:
    """Whether the pixel data lies elsewhere, where its provider may change or remove it (PS3.5 A.6, A.7; JPIP)."""
    return transfer_syntax in _REFERENCED


def is_native(transfer_syntax: str) -> bool:
    """Whether pixel data is not encapsulated."""
    return transfer_syntax in _NATIVE


def has_big_pixels(transfer_syntax: str) -> bool:
    """Whether native pixel data is big endian, though the elements are not."""
    return transfer_syntax == _GE_PRIVATE


def is_stream(transfer_syntax: str) -> bool:
    """Whether pixel data is a video whose frames cannot be had one by one (PS3.5 8.2.5 to 8.2.11)."""
    return transfer_syntax.removesuffix(".1") in _STREAMS


def detect(view: memoryview, position: int, end: int) -> Encoding | None:
    """The encoding in which a data set evidently begins at `position`, or None when nothing is evident."""
    if end - position < HEADER_BYTES:
        return None
    head = view[position : position + HEADER_BYTES].tobytes()
    little, big = int.from_bytes(head[:2], "little"), int.from_bytes(head[:2], "big")
    if head[4:6] in BY_CODE:
        if little <= _MAX_FIRST_GROUP:
            is_length = little and spells_length(view, position, end)
            return Encoding.IMPLICIT_LITTLE if is_length else Encoding.EXPLICIT_LITTLE
        return Encoding.EXPLICIT_BIG if big <= _MAX_FIRST_GROUP else None
    if 0 < little <= _MAX_FIRST_GROUP:
        header = Encoding.IMPLICIT_LITTLE.header(view, position, end)
        if leads_on(view, header, end, "<"):
            return Encoding.IMPLICIT_LITTLE
    return None
