"""Arrays to frames, never with a loss (PS3.5 8.2, A.4)."""

import imagecodecs
import numpy as np

from storage.dicom.pixels import rle
from storage.dicom.pixels.codecs import ENCODERS, WITH_SIGN
from storage.dicom.pixels.codestream import unsupported
from storage.dicom.pixels.conversion import can
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.pixels.native import Pixels, packed, shape, unsigned, value_type
from storage.dicom.pixels.syntaxes import KEEPING_CELLS, Coding, coding_of
from storage.dicom.syntax import EXPLICIT_LITTLE
from storage.errors import Fault, Invalid

_DEFLATE_LEVEL = 6


def encode(array: Pixels, description: PixelDescription, transfer_syntax: str) -> bytes:
    """One frame of `array`, which `description` is true to, as the value of a fragment or native frame.

    The data set must say what `conversion.coded` gives. A length may be odd: who puts it into a data set pads it.
    Raises Invalid (TRANSFER_SYNTAX) when such pixels cannot be coded so, MALFORMED when array and description differ.
    """
    coding = coding_of(transfer_syntax)
    if coding is None or not can(EXPLICIT_LITTLE, transfer_syntax, description):
        raise unsupported(f"such pixels cannot be had in the transfer syntax {transfer_syntax}")
    expected = shape(description), value_type(description)
    if (array.shape, array.dtype) != expected:
        raise Invalid(Fault.MALFORMED, f"the pixels are {array.shape} of {array.dtype} instead of {expected}")
    if coding in KEEPING_CELLS:
        return encode_cells(array, coding, description)
    plain = array if coding in WITH_SIGN else unsigned(array, description.stored)
    width = 1 if description.stored <= 8 else plain.dtype.itemsize
    plain = np.array(plain, np.dtype(f"{plain.dtype.kind}{width}"), order="C")
    is_rgb = description.samples == 3 and description.photometric == "RGB"
    return ENCODERS[coding](plain, description.stored, is_rgb)


def encode_cells(array: Pixels, coding: Coding, description: PixelDescription) -> bytes:
    """One frame of cells, colour by pixel, in a coding that keeps every bit of them."""
    if coding is Coding.RLE:
        return rle.encoded(array, description)
    return wrapped(packed(array, description), coding)


def wrapped(native: bytes, coding: Coding) -> bytes:
    """A native frame in a coding that keeps it whole."""
    if coding is not Coding.DEFLATED:
        return native
    return bytes(imagecodecs.deflate_encode(native, _DEFLATE_LEVEL, raw=True))
