"""What pydicom makes of the same pixels, as grey from 0 to 1 or RGB of 8 bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut, convert_color_space


def expected_grey(stored: NDArray[Any], ds: Dataset) -> NDArray[np.float64] | None:
    """Modality, VOI and MONOCHROME1 by pydicom; None when the data set has no VOI that pydicom takes."""
    meant = apply_modality_lut(stored.astype(np.int64), ds)  # in their own type differences would overflow
    if ds.get("VOILUTSequence"):
        item = ds.VOILUTSequence[0]
        grey = apply_voi_lut(meant, ds) / (2 ** item.LUTDescriptor[2] - 1)
    elif "WindowCenter" in ds:
        least, largest = _output_range(ds)
        with np.errstate(over="ignore"):
            grey = (apply_voi_lut(meant, ds) - least) / (largest - least)
    else:
        return None
    inverted = ds.PhotometricInterpretation == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE"
    return 1 - grey if inverted else np.asarray(grey, np.float64)


def _output_range(ds: Dataset) -> tuple[float, float]:
    """The values that pydicom windows to (PS3.3 C.11.2.1.2: the range of what may come in)."""
    if ds.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    least = -(2.0 ** (ds.BitsStored - 1)) if ds.PixelRepresentation else 0.0
    largest = least + 2.0**ds.BitsStored - 1
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    return least * slope + intercept, largest * slope + intercept


def expected_colour(stored: NDArray[Any], ds: Dataset, photometric: str) -> NDArray[np.uint8] | None:
    """RGB by pydicom; None for colours that it does not convert."""
    if photometric == "PALETTE COLOR":
        coloured = apply_color_lut(stored, ds)
        return np.asarray(coloured >> 8 if coloured.max() > 255 else coloured, np.uint8)
    if stored.dtype != np.uint8:
        return None
    if photometric == "RGB":
        return stored
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        return np.asarray(convert_color_space(stored, photometric, "RGB", per_frame=True))
    return None
