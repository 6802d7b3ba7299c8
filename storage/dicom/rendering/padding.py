"""The range of values in use, padding left out (PS3.3 C.7.5.1.1.2)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.dicom.instance import JsonDataset
from storage.dicom.pixels.description import Kind, PixelDescription
from storage.dicom.rendering.attributes import number
from storage.dicom.rendering.grey import Range
from storage.dicom.rendering.lut import blocks

_VALUE_AND_LIMIT = {
    Kind.INTEGER: ("00280120", "00280121"),
    Kind.FLOAT: ("00280122", "00280124"),
    Kind.DOUBLE: ("00280123", "00280125"),
}


def range_in_use(array: NDArray[Any], attributes: JsonDataset, description: PixelDescription) -> Range:
    """Of the stored values of one frame: neither padding nor, in floating point, what is no number."""
    padding = _padding(attributes, description)
    if padding is None and description.kind is Kind.INTEGER:
        return Range(float(array.min()), float(array.max()))
    least, largest = np.inf, -np.inf
    for rows in blocks(array):
        kept = _without(array[rows], padding)
        if kept.size:
            least, largest = min(least, kept.min()), max(largest, kept.max())
    if least <= largest:
        return Range(float(least), float(largest))
    return Range(padding.largest, padding.largest) if padding else Range(0.0, 0.0)  # there is nothing but padding


def _without(array: NDArray[Any], padding: Range | None) -> NDArray[Any]:
    kept = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return kept if padding is None else kept[(kept < padding.least) | (kept > padding.largest)]


def _padding(attributes: JsonDataset, description: PixelDescription) -> Range | None:
    value_key, limit_key = _VALUE_AND_LIMIT[description.kind]
    value, limit = number(attributes, value_key), number(attributes, limit_key)
    if value is None:
        return None
    value = _as_stored(value, description)
    limit = value if limit is None else _as_stored(limit, description)
    return Range(min(value, limit), max(value, limit))


def _as_stored(value: float, description: PixelDescription) -> float:
    """What was written under a VR of the other sign is the value with the same bits."""
    if description.kind is not Kind.INTEGER:
        return value
    span = 1 << description.allocated
    if description.signed:
        return value - span if value >= span / 2 else value
    return value + span if value < 0 else value
