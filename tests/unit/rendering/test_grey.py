"""Grey pictures against pydicom's modality and VOI transformations (PS3.4 N.2.1)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from storage.dicom.rendering.wish import VoiFunction, Window, Wish
from tests.unit.rendering.oracle import expected_grey
from tests.unit.rendering.shown import drawn, grey, slope

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32")


def values_of(dtype: str) -> NDArray[Any]:
    """All that a small image can show of a type: its extremes, and what lies around 0."""
    limits = np.iinfo(dtype)
    edges = [limits.min, limits.min + 1, limits.max - 1, limits.max, max(limits.min, -1), 0, 1, 2]
    around = np.clip(np.linspace(-1200, 3000, 248), limits.min, limits.max)
    return np.concatenate([np.array(edges, dtype), around.astype(dtype)]).reshape(16, 16)


def lut(first: int, entries: list[int], bits: int, *, vr: str = "US") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item


def assert_alike(picture: NDArray[Any], expected: NDArray[np.float64] | None) -> None:
    assert expected is not None
    assert np.abs(picture.astype(float) - expected * 255).max() <= 0.51


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rescale", [(1, 0), (1, -1024), (2.5, 10), (0.001, -3)])
def test_w_render_voi_windows_of_all_functions_and_types(
    function: str, dtype: str, rescale: tuple[float, float]
) -> None:
    array = values_of(dtype)
    center, width = 40 * rescale[0] + rescale[1], 400 * rescale[0] + 1
    ds = grey(
        array,
        RescaleSlope=rescale[0],
        RescaleIntercept=rescale[1],
        WindowCenter=[center, 3],
        WindowWidth=[width, 7],
        VOILUTFunction=function,
    )
    assert_alike(drawn(ds), expected_grey(array, ds))


@settings(max_examples=60, deadline=None)
@given(
    center=st.floats(-3000, 3000),
    width=st.floats(1, 70_000),
    slope_=st.floats(0.001, 100),
    intercept=st.floats(-5000, 5000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_w_render_voi_is_pydicoms_for_any_window(
    center: float, width: float, slope_: float, intercept: float, function: str
) -> None:
    array = values_of("int16")
    ds = grey(
        array,
        RescaleSlope=f"{slope_:.6g}",
        RescaleIntercept=f"{intercept:.6g}",
        WindowCenter=f"{center:.6g}",
        WindowWidth=f"{width:.6g}",
        VOILUTFunction=function,
    )
    assert_alike(drawn(ds), expected_grey(array, ds))


def test_w_render_voi_blocks_of_a_large_picture_are_like_its_parts() -> None:
    array = slope(600, 700, top=4000)
    ds = grey(array, WindowCenter=2000, WindowWidth=3000)
    assert_alike(drawn(ds), expected_grey(array, ds))


@pytest.mark.parametrize("vr", ["US", "SS"])
def test_w_render_voi_modality_lut_then_window(vr: str) -> None:
    array = values_of("int16")
    entries = [min(65535, i * i // 9) for i in range(700)]
    ds = grey(array, WindowCenter=9000, WindowWidth=20000)
    ds.ModalityLUTSequence = Sequence([lut(-100 if vr == "SS" else 0x10000 - 100, entries, 16, vr=vr)])
    ds.ModalityLUTSequence[0].ModalityLUTType = "US"
    want = ds.copy()
    want.ModalityLUTSequence = Sequence([lut(-100, entries, 16, vr="SS")])
    assert_alike(drawn(ds), expected_grey(array, want))


@pytest.mark.parametrize("bits", [10, 16])
def test_w_render_voi_lut_comes_before_the_window(bits: int) -> None:
    array = values_of("uint16")
    entries = [((1 << bits) - 1) * i // 999 for i in range(1000)][::-1]
    ds = grey(array, WindowCenter=1, WindowWidth=2)
    ds.VOILUTSequence = Sequence([lut(300, entries, bits), lut(0, [0, 1], 8)])
    assert_alike(drawn(ds), expected_grey(array, ds))


def test_w_render_voi_lut_of_65536_entries_as_bulk_data() -> None:
    array = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    ds = grey(array)
    item = Dataset()
    item.LUTDescriptor = [0, 0, 16]
    item.add_new("LUTData", "OW", array[::-1].tobytes())
    ds.VOILUTSequence = Sequence([item])
    assert np.array_equal(drawn(ds), np.rint(array[::-1] / 257).astype(np.uint8))


def test_w_render_voi_lut_of_bytes_in_words() -> None:
    array = slope(8, 8, "uint8", 63)
    item = Dataset()
    item.LUTDescriptor = [64, 0, 8]
    item.add_new("LUTData", "OW", bytes(range(0, 256, 4)))
    ds = grey(array)
    ds.VOILUTSequence = Sequence([item])
    assert np.array_equal(drawn(ds), array * 4)


@pytest.mark.parametrize("function", list(VoiFunction))
def test_w_render_window_asked_for_is_on_rescaled_values(function: VoiFunction) -> None:
    array = values_of("int16")
    ds = grey(array, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=1, WindowWidth=2)
    ds.VOILUTSequence = Sequence([lut(0, [0, 1], 8)])
    picture = drawn(ds, Wish(window=Window(500, 3000, function)))
    want = grey(
        array,
        RescaleSlope=2,
        RescaleIntercept=-1024,
        WindowCenter=500,
        WindowWidth=3000,
        VOILUTFunction=function.name,
    )
    assert_alike(picture, expected_grey(array, want))


def test_w_render_window_of_width_1_is_a_threshold() -> None:
    array = slope(4, 4, "uint16", 15)
    assert np.array_equal(drawn(grey(array), Wish(window=Window(8, 1))), np.where(array > 7.5, 255, 0))
    inverted = drawn(grey(array, PhotometricInterpretation="MONOCHROME1"), Wish(window=Window(8, 1)))
    assert np.array_equal(inverted, np.where(array > 7.5, 0, 255))


@pytest.mark.parametrize(
    ("center", "width"),
    [("40", "0"), ("40", "-5"), ("40", "0.5"), ("", ""), ("40", None), ("NaN", "3"), ("1,5", "400")],
)
def test_w_render_voi_window_that_cannot_be_is_as_none(center: str, width: str | None) -> None:
    array = slope()
    ds = grey(array)
    for keyword, text in (("00281050", center), ("00281051", width)):
        if text is not None:
            ds[keyword] = _raw(keyword, text)
    assert np.array_equal(drawn(ds), np.rint(array / 4000 * 255))


def _raw(tag: str, text: str) -> Any:
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    value = text.encode("ascii")
    value += b" " * (len(value) % 2)
    return RawDataElement(Tag(tag), "DS", len(value), value, 0, False, True)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32"])
def test_w_render_voi_without_any_the_range_in_use(dtype: str) -> None:
    array = slope(dtype=dtype, top=900) + np.array(100, dtype)
    assert np.array_equal(drawn(grey(array)), np.rint((array - 100.0) / 900 * 255))
    assert np.array_equal(
        drawn(grey(array, RescaleSlope=-2, RescaleIntercept=7)), np.rint((1000.0 - array) / 900 * 255)
    )


def test_w_render_voi_without_any_8_bits_as_they_are() -> None:
    array = slope(dtype="uint8", top=100)
    assert np.array_equal(drawn(grey(array)), array)
    assert np.array_equal(drawn(grey(array, BitsStored=7, HighBit=6)), np.rint(array / 127 * 255))


def test_w_render_voi_modality_lut_without_window_fills_the_range() -> None:
    array = slope(top=99)
    ds = grey(array)
    ds.ModalityLUTSequence = Sequence([lut(0, [1000 + 10 * i for i in range(100)], 16)])
    assert np.array_equal(drawn(ds), np.rint(array / 99 * 255))


def test_w_render_voi_one_value_everywhere() -> None:
    assert not drawn(grey(np.full((4, 4), 7, np.uint16))).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_w_render_voi_floats(dtype: str) -> None:
    array = np.linspace(-1, 3, 256).astype(dtype).reshape(16, 16)
    array[0, :3] = np.nan, np.inf, -np.inf
    ds = grey(array, BitsStored=None, HighBit=None, PixelRepresentation=None, PixelData=None)
    setattr(ds, "FloatPixelData" if dtype == "float32" else "DoubleFloatPixelData", array.tobytes())
    usual = array[1:]
    least, largest = float(array[0, 3]), 3.0
    assert np.abs(drawn(ds)[1:] - (usual - least) / (largest - least) * 255).max() <= 0.51
    assert drawn(ds)[0, :3].tolist() == [0, 255, 0]
    windowed = drawn(ds, Wish(window=Window(1, 2, VoiFunction.LINEAR_EXACT)))
    assert np.abs(windowed[1:] - np.clip(usual / 2, 0, 1) * 255).max() <= 0.51
    assert drawn(ds, Wish(window=Window(1, 2, VoiFunction.SIGMOID))).max() > 250


def test_w_render_mono1_and_inverse_are_inverted_once() -> None:
    array = slope()
    window = {"WindowCenter": 2000, "WindowWidth": 4000}
    upright = drawn(grey(array, **window))
    for changes in (
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ):
        ds = grey(array, **window, **changes)
        assert_alike(drawn(ds), expected_grey(array, ds))
        assert np.abs(drawn(ds).astype(int) + upright - 255).max() <= 1
    assert np.array_equal(drawn(grey(array, **window, PresentationLUTShape="IDENTITY")), upright)
    sigmoid = grey(array, **window, VOILUTFunction="SIGMOID", PhotometricInterpretation="MONOCHROME1")
    assert_alike(drawn(sigmoid), expected_grey(array, sigmoid))


def test_w_render_mono1_of_8_bits() -> None:
    array = slope(dtype="uint8", top=255)
    assert np.array_equal(drawn(grey(array, PhotometricInterpretation="MONOCHROME1")), 255 - array)


def test_w_render_voi_presentation_lut_last() -> None:
    array = slope(dtype="uint8", top=255)
    ds = grey(array)
    ds.PresentationLUTSequence = Sequence([lut(0, [255 - i for i in range(256)], 8)])
    assert np.array_equal(drawn(ds), 255 - array)


def test_w_render_pad_is_left_out_of_the_range() -> None:
    array = slope().astype(np.int16)
    array[0, :4] = -2000
    ds = grey(array, PixelPaddingValue=-2000)
    least = int(array[0, 4])
    assert np.array_equal(drawn(ds), np.clip(np.rint((array - least) / (4000 - least) * 255), 0, 255))


def test_w_render_pad_range_limit() -> None:
    array = slope().astype(np.uint16)
    array[0, :4] = 65535, 65000, 64000, 63999
    ds = grey(array, PixelPaddingValue=65535, PixelPaddingRangeLimit=64000)
    least = int(array[0, 4])
    assert np.array_equal(drawn(ds), np.clip(np.rint((array - float(least)) / (63999 - least) * 255), 0, 255))


def test_w_render_pad_nothing_but_padding() -> None:
    assert not drawn(grey(np.full((4, 4), 9, np.uint16), PixelPaddingValue=9)).any()


def test_w_render_pad_written_with_the_other_sign() -> None:
    array = slope().astype(np.int16)
    array[0, 0] = -2000
    ds = grey(array)
    ds.add_new("PixelPaddingValue", "US", 63536)
    least = int(array[0, 1])
    assert np.array_equal(drawn(ds), np.clip(np.rint((array - least) / (4000 - least) * 255), 0, 255))


def test_w_render_voi_single_bits() -> None:
    bits = np.random.default_rng(3).integers(0, 2, (16, 16)).astype(np.uint8)
    ds = grey(bits, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=np.packbits(bits, bitorder="little").tobytes())
    assert np.array_equal(drawn(ds), bits * 255)


def test_w_render_png16_has_all_shades() -> None:
    array = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    ds = grey(array, WindowCenter=32768, WindowWidth=65536)
    assert np.array_equal(drawn(ds, Wish(bits=16)), array)
    ds = grey(array, WindowCenter=32768, WindowWidth=65536, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(drawn(ds, Wish(bits=16)), 65535 - array)
