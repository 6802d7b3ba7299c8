"""High-throughput JPEG 2000, lossless, in the form for progressive display (ISO 15444-15; PS3.5 10.18)."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import imagecodecs
import numpy as np

from storage.dicom.pixels.codestream import damaged
from storage.dicom.pixels.native import Pixels

_THUMBNAIL_PIXELS = 64  # of the smallest resolution, at most
_MIN_RESOLUTIONS = 5
_SIZ_DEPTH = 42  # where the precision of the first component stands in a raw code stream
_SIZ_STEP = 3
_SIGNED = 0x80
_hook = threading.Lock()


def decoded(data: bytes) -> Pixels:
    """The samples of a code stream; raises Invalid (MALFORMED) when it breaks off within, and errors of the codec."""
    with _no_silent_failure():
        return imagecodecs.htj2k_decode(data, planar=False)


@contextmanager
def _no_silent_failure() -> Iterator[None]:
    """Raise when the decoder meets an error among the samples, which the library only reports as unraisable.

    What it returns then is memory that nothing was written to.
    """
    failures: list[str] = []

    def note(unraisable: "sys.UnraisableHookArgs") -> None:
        if "htj2k" in str(unraisable.object):
            failures.append(type(unraisable.exc_value).__name__)
        else:
            before(unraisable)

    with _hook:
        before = sys.unraisablehook
        sys.unraisablehook = note
        try:
            yield
        finally:
            sys.unraisablehook = before
    if failures:
        raise damaged("its samples cannot be decoded")


def encoded(array: Pixels, bits: int, is_rgb: bool) -> bytes:
    """Reversible, by resolutions (RPCL) down to a thumbnail, with the lengths of the tile-parts (TLM)."""
    if bits == 8 * array.dtype.itemsize:
        return _encoded(array, is_rgb)
    # The encoder takes all bits of a cell to be precision. So shift the level as the standard does it for the true
    # precision, code that as signed, and write the true precision and sign into the header.
    is_signed = array.dtype.kind == "i"
    level = 0 if is_signed else 1 << bits - 1
    shifted = (array.astype(np.int32) - level).astype(f"i{array.dtype.itemsize}")
    coded = bytearray(_encoded(shifted, is_rgb))
    for component in range(1 if array.ndim == 2 else array.shape[2]):
        coded[_SIZ_DEPTH + _SIZ_STEP * component] = (bits - 1) | (_SIGNED if is_signed else 0)
    return bytes(coded)


def _encoded(array: Pixels, is_rgb: bool) -> bytes:
    colours = None if array.ndim == 2 else is_rgb
    levels = max(_MIN_RESOLUTIONS, (max(array.shape[:2]) // _THUMBNAIL_PIXELS).bit_length())
    return bytes(imagecodecs.htj2k_encode(array, reversible=True, tlm=True, resolutions=levels, rgb=colours))
