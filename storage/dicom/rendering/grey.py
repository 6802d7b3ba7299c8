"""Grey values for a display from stored values: modality, VOI and presentation transformation (PS3.4 N.2.1)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.dicom.instance import JsonDataset
from storage.dicom.pixels.description import Kind, PixelDescription
from storage.dicom.rendering.attributes import Bulk, item, number, text
from storage.dicom.rendering.lut import Lut, blocks, lut_of, through_table
from storage.dicom.rendering.wish import VoiFunction, Window

_MODALITY_LUT, _VOI_LUT, _PRESENTATION_LUT = "00283000", "00283010", "20500010"
_INTERCEPT, _SLOPE = "00281052", "00281053"
_CENTER, _WIDTH, _FUNCTION = "00281050", "00281051", "00281056"
_PRESENTATION_LUT_SHAPE = "20500020"
_LEAST_SLOPE = 1e-15
Array = NDArray[Any]
Curve = Callable[[Array], NDArray[np.float64]]  # stored values to 0 (black) ... 1 (white)


class Range(NamedTuple):
    """The least and the largest stored value of a picture."""

    least: float
    largest: float


class Ramp(NamedTuple):
    """Grey in proportion between two stored values; beyond them, black and white. Black may be the larger one."""

    black: float
    white: float

    def inverted(self) -> "Ramp":
        return Ramp(self.white, self.black)

    def __call__(self, array: Array) -> NDArray[np.float64]:
        values = array.astype(np.float64)
        if self.black == self.white:
            return np.asarray(values > self.black, np.float64)
        return np.clip((values - self.black) / (self.white - self.black), 0.0, 1.0)


class Rescale(NamedTuple):
    """Stored values to those that the modality means (PS3.3 C.11.1.1.2)."""

    slope: float
    intercept: float

    def stored(self, value: float) -> float:
        return (value - self.intercept) / self.slope


Shades = Ramp | Curve


def shades(
    attributes: JsonDataset,
    description: PixelDescription,
    window: Window | None,
    bulk: Bulk,
    used: Callable[[], Range],
) -> Shades:
    """How stored values become grey: by `window` when asked, else by what the data set says, else from black to white
    over the values in use, which are asked for only then (padding left out).
    """
    modality = lut_of(item(attributes, _MODALITY_LUT), bulk, signed=description.signed) or _rescale(attributes)
    voi = window or _voi_lut(attributes, description, modality, bulk) or _window(attributes)
    if isinstance(voi, Lut):
        result: Shades = _through_lut(modality, voi)
    elif voi is not None:
        result = _windowed(modality, voi)
    else:
        result = _whole_range(modality, description, used)
    return _presented(result, attributes, description, bulk)


def _rescale(attributes: JsonDataset) -> Rescale:
    slope, intercept = number(attributes, _SLOPE) or 1.0, number(attributes, _INTERCEPT) or 0.0
    return Rescale(slope if abs(slope) > _LEAST_SLOPE else 1.0, intercept)  # one of 0 would leave nothing to see


def _voi_lut(attributes: JsonDataset, description: PixelDescription, modality: Lut | Rescale, bulk: Bulk) -> Lut | None:
    signed = isinstance(modality, Rescale) and (description.signed or modality.intercept < 0)
    return lut_of(item(attributes, _VOI_LUT), bulk, signed=signed)


def _window(attributes: JsonDataset) -> Window | None:
    """The first window of the data set; None without one, or when its width is impossible."""
    center, width = number(attributes, _CENTER), number(attributes, _WIDTH)
    if center is None or width is None:
        return None
    try:
        function = VoiFunction(text(attributes, _FUNCTION).lower().replace("_", "-") or VoiFunction.LINEAR)
    except ValueError:
        function = VoiFunction.LINEAR
    window = Window(center, width, function)
    return window if window.is_possible() else None


def _windowed(modality: Lut | Rescale, window: Window) -> Shades:
    """PS3.3 C.11.2.1.2.1 and C.11.2.1.3."""
    if window.function is VoiFunction.SIGMOID:
        return lambda array: _sigmoid(_meant(array, modality), window)
    ramp = _linear(window)
    if isinstance(modality, Lut):
        return lambda array: ramp(modality.looked_up(array))
    if ramp.black == ramp.white:
        return lambda array: ramp(_meant(array, modality))
    return Ramp(modality.stored(ramp.black), modality.stored(ramp.white))


def _linear(window: Window) -> Ramp:
    if window.function is VoiFunction.LINEAR_EXACT:
        return Ramp(window.center - window.width / 2, window.center + window.width / 2)
    middle, half = window.center - 0.5, (window.width - 1) / 2
    return Ramp(middle - half, middle + half)


def _sigmoid(values: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # of exp: far enough from the center grey is black or white
        return np.asarray(1.0 / (1.0 + np.exp(-4 * (values - window.center) / window.width)))


def _through_lut(modality: Lut | Rescale, voi: Lut) -> Curve:
    return lambda array: voi.looked_up(_meant(array, modality)) / voi.full


def _whole_range(modality: Lut | Rescale, description: PixelDescription, used: Callable[[], Range]) -> Shades:
    if isinstance(modality, Lut):
        meant = modality.looked_up(np.array(used()))
        ramp = Ramp(float(meant.min()), float(meant.max()))
        return lambda array: ramp(modality.looked_up(array))
    if modality == (1.0, 0.0) and _is_for_display(description):
        return Ramp(0, (1 << description.stored) - 1)
    least, largest = used()
    return Ramp(least, largest) if modality.slope > 0 else Ramp(largest, least)


def _is_for_display(description: PixelDescription) -> bool:
    """Pictures of 8 bits (screens, ultrasound, masks) were made to be looked at as they are."""
    return description.kind is Kind.INTEGER and description.stored <= 8 and not description.signed


def _meant(array: Array, modality: Lut | Rescale) -> NDArray[np.float64]:
    if isinstance(modality, Lut):
        return modality.looked_up(array).astype(np.float64)
    return array.astype(np.float64) * modality.slope + modality.intercept


def _presented(given: Shades, attributes: JsonDataset, description: PixelDescription, bulk: Bulk) -> Shades:
    """Presentation LUT, its shape, and MONOCHROME1, which says the same as INVERSE (PS3.3 C.7.6.3.1.2, C.11.6)."""
    lut = lut_of(item(attributes, _PRESENTATION_LUT), bulk, signed=False)
    if lut is not None:
        last, full = len(lut.data) - 1, lut.full
        return lambda array: lut.data[np.rint(given(array) * last).astype(np.intp)] / full
    is_inverse = text(attributes, _PRESENTATION_LUT_SHAPE).upper() == "INVERSE"
    if not is_inverse and description.photometric != "MONOCHROME1":
        return given
    if isinstance(given, Ramp) and given.black != given.white:
        return given.inverted()
    return lambda array: 1.0 - given(array)


def drawn(array: Array, by: Shades, bits: int = 8) -> Array:
    """Stored values as grey of 8 or 16 `bits`."""
    kind: type[np.uint8] | type[np.uint16] = np.uint8 if bits == 8 else np.uint16
    full = (1 << bits) - 1
    if array.dtype == kind and by == Ramp(0, full):
        return array
    is_small = array.dtype.itemsize == 1 or (array.dtype.itemsize == 2 and array.dtype.kind in "ui")
    if is_small and (array.dtype.itemsize == 1 or not isinstance(by, Ramp)):
        return through_table(array, _table(by, array.dtype, full, kind))
    return _in_blocks(array, by, full, kind)


def _table(by: Shades, dtype: np.dtype[Any], full: int, kind: type[Any]) -> Array:
    """The grey of every value that there can be, at the place of its bits."""
    every = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
    return np.rint(by(every) * full).astype(kind)


def _in_blocks(array: Array, by: Shades, full: int, kind: type[Any]) -> Array:
    result = np.empty(array.shape, kind)
    exact = full > 255 or array.dtype.itemsize > 4 or (array.dtype.kind in "ui" and array.dtype.itemsize > 2)
    for rows in blocks(array):
        values = _comparable(array[rows])
        if isinstance(by, Ramp) and by.black != by.white:
            result[rows] = _ramped(values, by, full, np.float64 if exact else np.float32)
        else:
            result[rows] = np.rint(by(values) * full)
    return result


def _comparable(array: Array) -> Array:
    """What is no number is less than any."""
    return np.nan_to_num(array, nan=-np.inf, posinf=np.inf, neginf=-np.inf) if array.dtype.kind == "f" else array


def _ramped(array: Array, ramp: Ramp, full: int, precision: type[Any]) -> Array:
    """Rounded when cut to whole numbers. In single precision, which is exact enough for 8 bits, a third of the time."""
    factor = full / (ramp.white - ramp.black)
    with np.errstate(over="ignore"):  # what overflows is far beyond black or white
        grey = np.subtract(array, precision(ramp.black), dtype=precision)
        grey *= precision(factor)
        grey += precision(0.5)
    return np.asarray(np.clip(grey, 0, full, out=grey))
