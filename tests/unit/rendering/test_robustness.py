"""Whatever was stored and whatever is asked for: a picture or an error of ours, never another (PS3.18 8.3.5)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.dicom.pixels.decode import Decoded
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.rendering import attributes as room
from storage.dicom.rendering.attributes import attributes_of_frame
from storage.dicom.rendering.render import render
from storage.dicom.rendering.wish import Annotation, IccProfile, Region, Viewport, VoiFunction, Window, Wish
from storage.errors import StorageError
from tests.unit.rendering.shown import opened

NUMBERS = st.one_of(
    st.integers(-70_000, 70_000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["0", "-0", "1e308", "1e-308", "5e-324", "NaN", "1,5", "", "65536", "-32769"]),
    st.none(),
)
SCALARS = NUMBERS | st.text(max_size=6) | st.just({"Alphabetic": "A^B"}) | st.just({})
BYTES = st.sampled_from(["", "AAAA", "AQIDBAUGBwg=", "no base64!", "//8AAP//"])
ELEMENTS = st.one_of(
    st.fixed_dictionaries({"vr": st.sampled_from(["DS", "US", "SS", "LO"]), "Value": st.lists(SCALARS, max_size=4)}),
    st.fixed_dictionaries({"vr": st.just("OW"), "InlineBinary": BYTES}),
    st.just({"vr": "OW", "BulkDataURI": "bulkdata/1"}),
    st.just({"vr": "DS"}),
)
LUTS = st.dictionaries(st.sampled_from(["00283002", "00283006"]), ELEMENTS, max_size=2)
SEQUENCES = st.fixed_dictionaries({"vr": st.just("SQ"), "Value": st.lists(LUTS, max_size=2)})
KEYS = sorted(room._KEPT)
DATASETS = st.dictionaries(st.sampled_from(KEYS), ELEMENTS | SEQUENCES, max_size=8)
LUT_KEYS = ("00281101", "00281102", "00281103")
DESCRIPTORS = st.tuples(st.integers(0, 70_000), st.integers(-40_000, 70_000), st.sampled_from([8, 16, 12, 0, 33]))
FRAMES = [
    (np.arange(48, dtype=dtype).reshape(6, 8) - (20 if dtype[0] == "i" else 0), photometric)
    for dtype in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64")
    for photometric in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
]
BULK = {"bulkdata/1": bytes(range(256)) * 4}


def frame(array: Any, photometric: str) -> Decoded:
    described = {
        "00280010": {"Value": [array.shape[0]]},
        "00280011": {"Value": [array.shape[1]]},
        "00280004": {"Value": [photometric]},
        "00280100": {"Value": [8 * array.dtype.itemsize]},
        "00280103": {"Value": [int(array.dtype.kind == "i")]},
    }
    return Decoded(array, PixelDescription.of(described))


@settings(max_examples=150, deadline=None)
@given(
    dataset=DATASETS,
    palette=st.tuples(DESCRIPTORS, DESCRIPTORS, DESCRIPTORS),
    which=st.sampled_from(range(len(FRAMES))),
    wish=st.builds(
        Wish,
        media_type=st.sampled_from(["image/png", "image/jpeg", "image/gif", "image/webp"]),
        bits=st.sampled_from([8, 16]),
        icc_profile=st.sampled_from(IccProfile),
        window=st.none() | st.builds(Window, st.floats(-1e5, 1e5), st.floats(1, 1e6), st.sampled_from(VoiFunction)),
        annotations=st.sampled_from([(), (Annotation.PATIENT, Annotation.TECHNIQUE)]),
    ),
)
def test_w_render_voi_of_whatever_was_stored(dataset: Any, palette: Any, which: int, wish: Wish) -> None:
    array, photometric = FRAMES[which]
    for key, descriptor in zip(LUT_KEYS, palette, strict=True):
        dataset.setdefault(key, {"vr": "US", "Value": list(descriptor)})
    try:
        result = render(frame(array, photometric), attributes_of_frame(dataset, 1), wish, BULK)
    except StorageError:
        return
    assert opened(result.body).size == (8, 6)


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    sides=st.tuples(st.none() | st.integers(1, 90), st.none() | st.integers(1, 90)),
    region=st.builds(
        Region,
        left=st.floats(0, 70),
        top=st.floats(0, 70),
        width=st.none() | st.floats(-80, 80).filter(bool),
        height=st.none() | st.floats(-80, 80).filter(bool),
        relative=st.booleans(),
    ),
    spacing=st.sampled_from([[1, 1], [2, 1], [1, 7.5], [0.1, 1]]),
)
def test_w_render_viewport_of_whatever_is_asked(shape: Any, sides: Any, region: Region, spacing: list[float]) -> None:
    array = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)
    attributes = {"00280030": {"vr": "DS", "Value": spacing}}
    wish = Wish(media_type="image/png", viewport=Viewport(*sides, region))
    try:
        size = opened(render(frame(array, "MONOCHROME2"), attributes, wish).body).size
    except StorageError:
        return
    assert all(most is None or is_so <= most for is_so, most in zip(size, sides, strict=True))
    if None not in sides:
        assert any(is_so == most for is_so, most in zip(size, sides, strict=True))


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "PALETTE COLOR"])
def test_a_bulk_value_that_was_not_handed_in_is_as_one_that_is_not_there(photometric: str) -> None:
    dataset = {
        "00283010": {
            "vr": "SQ",
            "Value": [
                {"00283002": {"vr": "US", "Value": [4, 0, 8]}, "00283006": {"vr": "OW", "BulkDataURI": "bulkdata/9"}}
            ],
        }
    }
    decoded = frame(np.array([[0, 85, 170, 255]], np.uint8), photometric)
    if photometric == "PALETTE COLOR":
        with pytest.raises(StorageError):
            render(decoded, dataset, Wish())
    else:
        assert render(decoded, dataset, Wish(media_type="image/png")) == render(
            decoded, {}, Wish(media_type="image/png")
        )
