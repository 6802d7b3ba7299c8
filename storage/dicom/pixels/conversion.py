"""Which transfer syntax pixels can go to, and what the data set must say afterwards; without loading a codec."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from storage.dicom.instance import JsonDataset
from storage.dicom.pixels.description import MAX_FRAME_BYTES, Kind, PixelDescription
from storage.dicom.pixels.syntaxes import KEEPING_CELLS, Coding, coding_of, is_encoded_here, is_the_same

_MAX_RLE_SEGMENTS = 15  # PS3.5 G.5
_COMPRESSED_BITS = (8, 16)  # allocated
_WITHOUT_SIGN = frozenset({Coding.JPEG_XL})
_ELEMENTS = (
    ("00280002", "US", "samples"),
    ("00280004", "CS", "photometric"),
    ("00280006", "US", "planar"),
    ("00280102", "US", "high_bit"),
)
_COLOURS = {
    Coding.JPEG_LOSSLESS: ("RGB", "YBR_FULL"),
    Coding.JPEG_LS: ("RGB", "YBR_FULL"),
    Coding.JPEG_2000: ("RGB", "YBR_FULL"),
    Coding.HTJ2K: ("RGB", "YBR_FULL"),
    Coding.JPEG_XL: ("RGB",),
}


def can(source: str, target: str, description: PixelDescription) -> bool:
    """Whether frames in the transfer syntax `source` can be had in `target`, with the same pixels.

    What is lossy in `source` stays so; nothing is ever lost on the way.
    """
    if is_the_same(source, target):
        return True
    coding, wanted = coding_of(source), coding_of(target)
    if coding is None or wanted is None or not is_encoded_here(target):
        return False
    if description.kind is not Kind.INTEGER or description.decoded_bytes > MAX_FRAME_BYTES:
        return False
    if description.has_embedded_overlays and wanted is not Coding.NATIVE:
        return False  # encapsulated pixel data must not have them (PS3.5 A.4)
    if coding in KEEPING_CELLS and wanted in KEEPING_CELLS and Coding.RLE not in (coding, wanted):
        return True
    if description.photometric == "YBR_PARTIAL_422":
        return False  # it would have to become something else, with rounding
    return _fits(coding, wanted, description)


def _fits(coding: Coding, wanted: Coding, description: PixelDescription) -> bool:
    """Whether what `coding` decodes to can be coded as `wanted`, all colours of a pixel together."""
    if Coding.RLE in (coding, wanted):
        segments = description.samples * description.allocated // 8
        if description.allocated == 1 or segments > _MAX_RLE_SEGMENTS:
            return False
    if wanted in KEEPING_CELLS:
        return True
    if description.allocated not in _COMPRESSED_BITS or (description.signed and wanted in _WITHOUT_SIGN):
        return False
    return description.samples == 1 or (
        decoded_photometric(coding, description.photometric, description.samples) in _COLOURS[wanted]
    )


def decoded_photometric(coding: Coding, named: str, samples: int) -> str:
    """What decoded pixels are when the data set names them so, unless the code stream says otherwise."""
    if samples != 3:
        return named
    if coding in (Coding.JPEG, Coding.JPEG_XL) or named in ("YBR_RCT", "YBR_ICT", "YBR_PARTIAL_422"):
        return "RGB"
    return "YBR_FULL" if named == "YBR_FULL_422" else named


def coded(decoded: PixelDescription, target: str) -> PixelDescription:
    """The description of decoded pixels after they were coded in the transfer syntax `target`."""
    coding = coding_of(target)
    if decoded.samples == 1:
        return decoded
    transformed = coding in (Coding.JPEG_2000, Coding.HTJ2K) and decoded.photometric == "RGB"
    return replace(
        decoded,
        photometric="YBR_RCT" if transformed else decoded.photometric,
        planar=1 if coding is Coding.RLE else 0,
    )


def changes(before: PixelDescription, after: PixelDescription) -> JsonDataset:
    """The elements (DICOM JSON) that a data set must have instead when its pixels are now as `after` says."""
    return dict(_changes(before, after))


def _changes(before: PixelDescription, after: PixelDescription) -> Iterator[tuple[str, Any]]:
    for key, vr, name in _ELEMENTS:
        value = getattr(after, name)
        if value != getattr(before, name):
            yield key, {"vr": vr, "Value": [value]}
    if after.lossy and not before.lossy:
        yield "00282110", {"vr": "CS", "Value": ["01"]}
