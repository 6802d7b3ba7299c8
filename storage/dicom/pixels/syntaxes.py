"""Transfer syntaxes by how they code pixel data: which can be decoded and encoded here (PS3.5 8.2, A.4)."""

from enum import StrEnum

from storage.dicom import syntax

ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
DEFLATED_FRAME = "1.2.840.10008.1.2.8.1"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
JPEG_XL_LOSSLESS = "1.2.840.10008.1.2.4.110"
JPEG_XL_RECOMPRESSION = "1.2.840.10008.1.2.4.111"
JPEG_XL = "1.2.840.10008.1.2.4.112"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"


class Coding(StrEnum):
    """What makes bytes of pixels."""

    NATIVE = "native"
    ENCAPSULATED = "encapsulated uncompressed"
    DEFLATED = "deflated image frame"
    RLE = "RLE"
    JPEG = "JPEG"  # with a discrete cosine transform
    JPEG_LOSSLESS = "JPEG lossless"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"
    HTJ2K = "HTJ2K"
    JPEG_XL = "JPEG XL"


# These keep each pixel cell as it is, with whatever bits lie above High Bit.
KEEPING_CELLS = frozenset({Coding.NATIVE, Coding.ENCAPSULATED, Coding.DEFLATED, Coding.RLE})
_RETIRED_JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(52, 57))
_CODINGS = {
    ENCAPSULATED_UNCOMPRESSED: Coding.ENCAPSULATED,
    DEFLATED_FRAME: Coding.DEFLATED,
    syntax.RLE: Coding.RLE,
    JPEG_BASELINE: Coding.JPEG,
    JPEG_EXTENDED: Coding.JPEG,
    **dict.fromkeys(_RETIRED_JPEG, Coding.JPEG),
    JPEG_LOSSLESS: Coding.JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1: Coding.JPEG_LOSSLESS,
    JPEG_LS_LOSSLESS: Coding.JPEG_LS,
    JPEG_LS_NEAR_LOSSLESS: Coding.JPEG_LS,
    JPEG_2000_LOSSLESS: Coding.JPEG_2000,
    JPEG_2000: Coding.JPEG_2000,
    HTJ2K_LOSSLESS: Coding.HTJ2K,
    HTJ2K_LOSSLESS_RPCL: Coding.HTJ2K,
    HTJ2K: Coding.HTJ2K,
    JPEG_XL_LOSSLESS: Coding.JPEG_XL,
    JPEG_XL_RECOMPRESSION: Coding.JPEG_XL,
    JPEG_XL: Coding.JPEG_XL,
}
_NATIVE = frozenset({syntax.EXPLICIT_LITTLE, syntax.DEFLATED})
_DECODED_ONLY = frozenset({JPEG_BASELINE, JPEG_EXTENDED, *_RETIRED_JPEG, JPEG_XL_RECOMPRESSION})
# A stream of the first is one of the others as it is.
_ALSO = {
    JPEG_LOSSLESS_SV1: {JPEG_LOSSLESS},
    JPEG_LS_LOSSLESS: {JPEG_LS_NEAR_LOSSLESS},
    JPEG_2000_LOSSLESS: {JPEG_2000},
    HTJ2K_LOSSLESS: {HTJ2K},
    HTJ2K_LOSSLESS_RPCL: {HTJ2K_LOSSLESS, HTJ2K},
    JPEG_XL_LOSSLESS: {JPEG_XL},
    JPEG_XL_RECOMPRESSION: {JPEG_XL},
}


def coding_of(transfer_syntax: str) -> Coding | None:
    """How pixel data is coded; None when that cannot be decoded here (video, JPIP, private ones)."""
    return Coding.NATIVE if syntax.is_native(transfer_syntax) else _CODINGS.get(transfer_syntax)


def is_encoded_here(transfer_syntax: str) -> bool:
    """Whether frames can be made in this syntax, always without loss."""
    return transfer_syntax in _NATIVE or transfer_syntax in _CODINGS.keys() - _DECODED_ONLY


def is_the_same(source: str, target: str) -> bool:
    """Whether each frame in `source` is one in `target` without a change of its bytes."""
    return source == target or target in _ALSO.get(source, ()) or (syntax.is_native(source) and target in _NATIVE)
