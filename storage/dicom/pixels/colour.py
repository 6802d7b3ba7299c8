"""Colours as PS3.3 C.7.6.3.1.2 defines them, from luminance and colour differences to RGB."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import Fault, Invalid

_Weights = tuple[tuple[float, float, float], ...]  # of Y, Cb and Cr, for each of red, green and blue
_FULL: _Weights = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))
_PARTIAL: _Weights = ((1.1644, 0.0, 1.5960), (1.1644, -0.3917, -0.8130), (1.1644, 2.0173, 0.0))
_ROWS_AT_ONCE = 32


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


def _converted(array: NDArray[Any], weights: _Weights, zero: tuple[int, ...], stored: int) -> NDArray[Any]:
    """`array` of rows x columns x 3, less `zero`, by the weights of each colour; in strips that stay in the cache."""
    result = np.empty_like(array)
    for first in range(0, len(array), _ROWS_AT_ONCE):
        strip = array[first : first + _ROWS_AT_ONCE]
        planes = [strip[..., number].astype(np.float32) - np.float32(zero[number]) for number in range(3)]
        for colour, (first_weight, *others) in enumerate(weights):
            total = planes[0] * np.float32(first_weight) + np.float32(0.5)
            for plane, weight in zip(planes[1:], others, strict=True):
                if weight:
                    total += plane * np.float32(weight)
            result[first : first + _ROWS_AT_ONCE, :, colour] = np.clip(total, 0, (1 << stored) - 1, out=total)
    return result
