"""Colours of 8 bits from whatever samples a frame has (PS3.3 C.7.6.3.1.2)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.dicom.pixels.description import Kind, PixelDescription
from storage.errors import NotAcceptable


def rgb_of_samples(array: NDArray[Any], description: PixelDescription) -> NDArray[np.uint8]:
    """Rows x columns x 3 of RGB or YBR_FULL; raises NotAcceptable for what nobody has told the meaning of."""
    if array.ndim != 3 or array.shape[2] != 3 or description.kind is not Kind.INTEGER or description.signed:
        raise NotAcceptable(f"pixels of {description.photometric} in this form cannot be rendered")
    octets = _octets(array, description)
    if description.photometric == "RGB":
        return octets
    if description.photometric in ("YBR_FULL", "YBR_FULL_422"):
        return np.asarray(Image.fromarray(octets, "YCbCr").convert("RGB"))
    raise NotAcceptable(f"pixels of {description.photometric} cannot be rendered")


def _octets(array: NDArray[Any], description: PixelDescription) -> NDArray[np.uint8]:
    if description.stored == 8 and array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if description.stored > 8:
        return np.asarray(array >> array.dtype.type(description.stored - 8), np.uint8)
    full = (1 << description.stored) - 1
    scaled = np.rint(array.astype(np.float32) * (255 / full))
    return np.asarray(scaled, np.uint8)
