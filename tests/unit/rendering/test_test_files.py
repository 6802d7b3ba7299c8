"""Every test file of pydicom that both can decode is rendered as pydicom's transformations say."""

import io
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from storage.dicom.rendering.render import draw, render
from storage.dicom.rendering.wish import Viewport, Wish
from storage.errors import StorageError
from tests.samples import valid_files
from tests.unit.rendering.oracle import expected_colour, expected_grey
from tests.unit.rendering.shown import frame_of, opened

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
SMALL = 100_000  # bytes of a file, so that the decoders take seconds in all


@pytest.mark.parametrize(
    ("largest", "least_compared"),  # fewer files would mean that the comparison itself is broken
    [(SMALL, 60), pytest.param(1 << 30, 100, marks=pytest.mark.long)],
)
@pytest.mark.filterwarnings("ignore")  # pydicom warns of what is odd in its own files
def test_w_render_voi_and_color_of_all_test_files(largest: int, least_compared: int) -> None:
    compared = 0
    for path, data in valid_files():
        if len(data) > largest:
            continue
        ds = pydicom.dcmread(io.BytesIO(data))
        if not any(keyword in ds for keyword in PIXELS):
            continue
        try:
            frame, attributes, bulk = frame_of(data)
        except StorageError:
            continue  # what cannot be decoded is the pixels' affair
        picture = draw(frame, attributes, Wish(), bulk)
        assert picture.dtype == np.uint8, path.name
        assert picture.shape[:2] == (ds.Rows, ds.Columns), path.name
        thumbnail = render(frame, attributes, Wish(viewport=Viewport(32, 32)), bulk)
        assert max(opened(thumbnail.body).size) == 32, path.name
        want = expected(ds)
        if want is not None:
            assert np.abs(picture.astype(float) - want).max() <= 1, path.name
            compared += 1
    assert compared >= least_compared


def expected(ds: Dataset) -> Any:
    """The first frame by pydicom; None for what it cannot decode, transform, or has no VOI for."""
    try:
        pixels = ds.pixel_array
    except Exception:  # there is no one error for what its decoders do not take
        return None
    pixels = pixels[0] if int(ds.get("NumberOfFrames") or 1) > 1 else pixels
    photometric = ds.PhotometricInterpretation
    if pixels.ndim == 3 or photometric == "PALETTE COLOR":
        return expected_colour(pixels, ds, "RGB" if pixels.ndim == 3 else photometric)
    grey = expected_grey(pixels, ds)
    return None if grey is None else grey * 255
