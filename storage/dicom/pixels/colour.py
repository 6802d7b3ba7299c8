"""Colours as PS3.3 C.7.6.3.1.2 defines them, from luminance and colour differences to RGB."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import Fault, Invalid

_FULL = np.array([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]], np.float32)
_PARTIAL = np.array([[1.1644, 0.0, 1.5960], [1.1644, -0.3917, -0.8130], [1.1644, 2.0173, 0.0]], np.float32)
_ROWS_AT_ONCE = 256


def upsampled(flat: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Rows x columns x 3 of native cells that go Y Y Cb Cr for each two pixels; the differences are those of both.

    Raises Invalid (MALFORMED) when the columns are not even.
    """
    if columns % 2:
        raise Invalid(Fault.MALFORMED, "subsampled colours need an even number of Columns")
    pairs = flat.reshape(rows, columns // 2, 4)
    whole = np.empty((rows, columns // 2, 2, 3), flat.dtype)
    whole[..., 0] = pairs[..., :2]
    whole[..., 1] = pairs[..., 2:3]
    whole[..., 2] = pairs[..., 3:4]
    return whole.reshape(rows, columns, 3)


def rgb_of_ybr_full(array: NDArray[Any], stored: int = 8) -> NDArray[Any]:
    """YBR_FULL of `stored` bits as RGB."""
    return _converted(array, _FULL, (0, 1 << stored - 1, 1 << stored - 1), stored)


def rgb_of_ybr_partial(array: NDArray[Any], stored: int = 8) -> NDArray[Any]:
    """YBR_PARTIAL (black is 16, white 235, of 8 bits) as RGB."""
    return _converted(array, _PARTIAL, (1 << stored - 4, 1 << stored - 1, 1 << stored - 1), stored)


def _converted(array: NDArray[Any], matrix: NDArray[Any], zero: tuple[int, ...], stored: int) -> NDArray[Any]:
    """`array` of rows x columns x 3, less `zero`, through `matrix`; some rows at a time, to bound the memory."""
    result = np.empty_like(array)
    offset = np.array(zero, np.float32)
    for first in range(0, len(array), _ROWS_AT_ONCE):
        part = (array[first : first + _ROWS_AT_ONCE].astype(np.float32) - offset) @ matrix.T
        result[first : first + _ROWS_AT_ONCE] = np.clip(np.rint(part), 0, (1 << stored) - 1)
    return result
