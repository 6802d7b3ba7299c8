"""Colours, palettes and colour profiles (PS3.3 C.7.6.3.1.2, C.7.6.3.1.5, C.7.9.2)."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ImageCms
from pydicom.dataset import Dataset

from storage.dicom.rendering.icc import profile_of
from storage.dicom.rendering.wish import IccProfile, Viewport, Wish
from storage.errors import Invalid, NotAcceptable
from tests.unit.rendering.oracle import expected_colour
from tests.unit.rendering.shown import colour, drawn, grey, opened, rendered, slope

GENERATOR = np.random.default_rng(7)
COLOURS = GENERATOR.integers(0, 256, (12, 18, 3)).astype(np.uint8)


def palette(
    array: NDArray[Any], tables: list[NDArray[Any]], bits: int, first: int = 0, *, segmented: bool = False
) -> Dataset:
    """A PALETTE COLOR instance with tables (or segments of them) as the bytes that the arrays have."""
    ds = grey(array, PhotometricInterpretation="PALETTE COLOR")
    entries = 0 if segmented or len(tables[0]) == 65536 else len(tables[0])
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        vr = "SS" if first < 0 else "US"
        ds.add_new(f"{name}PaletteColorLookupTableDescriptor", vr, [entries, first, bits])
        data = table.tobytes()
        ds.add_new(f"{'Segmented' * segmented}{name}PaletteColorLookupTableData", "OW", data + bytes(len(data) % 2))
    return ds


def tables(entries: int, dtype: str) -> list[NDArray[Any]]:
    return list(GENERATOR.integers(0, np.iinfo(dtype).max + 1, (3, entries)).astype(dtype))


@pytest.mark.parametrize("planar", [0, 1])
def test_w_render_color_rgb_in_both_planar_configurations(planar: int) -> None:
    ds = colour(COLOURS)
    if planar:
        ds.PlanarConfiguration, ds.PixelData = 1, np.ascontiguousarray(COLOURS.transpose(2, 0, 1)).tobytes()
    assert np.array_equal(drawn(ds), COLOURS)


def test_w_render_color_ybr_full() -> None:
    ds = colour(COLOURS, "YBR_FULL")
    assert np.abs(drawn(ds).astype(int) - expected_colour(COLOURS, ds, "YBR_FULL")).max() <= 1


def test_w_render_color_ybr_full_422_native() -> None:
    pairs = GENERATOR.integers(0, 256, (12, 9, 4)).astype(np.uint8)
    ds = colour(COLOURS, "YBR_FULL_422", PixelData=pairs.tobytes())
    whole = np.empty((12, 9, 2, 3), np.uint8)
    whole[..., 0], whole[..., 1], whole[..., 2] = pairs[..., :2], pairs[..., 2:3], pairs[..., 3:]
    want = expected_colour(whole.reshape(12, 18, 3), ds, "YBR_FULL")
    assert np.abs(drawn(ds).astype(int) - want).max() <= 1


@pytest.mark.parametrize(("stored", "shift"), [(16, 8), (12, 4)])
def test_w_render_color_rgb_of_more_bits(stored: int, shift: int) -> None:
    deep = GENERATOR.integers(0, 1 << stored, (6, 6, 3)).astype(np.uint16)
    assert np.array_equal(drawn(colour(deep, BitsStored=stored, HighBit=stored - 1)), deep >> shift)


def test_w_render_color_samples_that_mean_nothing_here() -> None:
    with pytest.raises(NotAcceptable, match="HSV"):
        drawn(colour(COLOURS, "HSV"))
    with pytest.raises(NotAcceptable, match="CMYK"):
        drawn(grey(np.zeros((4, 4, 4), np.uint8), SamplesPerPixel=4, PhotometricInterpretation="CMYK"))
    with pytest.raises(NotAcceptable, match="RGB"):
        drawn(grey(np.zeros((4, 4), np.uint8), PhotometricInterpretation="RGB"))


@pytest.mark.parametrize(("bits", "dtype"), [(8, "uint8"), (8, "uint16"), (16, "uint16")])
@pytest.mark.parametrize(
    ("stored", "entries", "first"), [("uint8", 256, 0), ("uint16", 1000, 300), ("int16", 500, -200)]
)
def test_w_render_color_palette(bits: int, dtype: str, stored: str, entries: int, first: int) -> None:
    array = GENERATOR.integers(-400 if stored == "int16" else 0, 256 if stored == "uint8" else 1500, (16, 16)).astype(
        stored
    )
    chosen = [(table & 0xFF if bits == 8 else table) for table in tables(entries, dtype)]
    index = np.clip(array.astype(int) - first, 0, entries - 1)
    want = np.stack([(table >> 8 if bits == 16 else table)[index] for table in chosen], axis=-1)
    assert np.array_equal(drawn(palette(array, chosen, bits, first)), want)


def test_w_render_color_palette_of_65536_entries_as_bulk_data() -> None:
    array = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    chosen = tables(65536, "uint16")
    want = np.stack([(table >> 8).reshape(256, 256) for table in chosen], axis=-1)
    assert np.array_equal(drawn(palette(array, chosen, 16)), want)


def test_w_render_color_palette_that_says_16_bits_and_has_8() -> None:
    array = slope(8, 8, "uint8", 63)
    chosen = [np.arange(start, start + 64, dtype=np.uint16) for start in (0, 64, 128)]
    want = np.stack([table[array] for table in chosen], axis=-1)
    assert np.array_equal(drawn(palette(array, chosen, 16)), want)


def test_w_render_color_segmented_palette() -> None:
    array = np.arange(256, dtype=np.uint8).reshape(16, 16)
    red = np.array([0, 2, 0, 0x1000, 1, 100, 0xF000, 1, 154, 0], "<u2")
    green = np.array([0, 1, 0x8000, 1, 255, 0x8000], "<u2")
    blue = np.array([0, 2, 0xFFFF, 0, 1, 62, 0x3E00, 2, 2, 0, 0, 2, 2, 0, 0, 2, 2, 0, 0], "<u2")
    ds = palette(array, [red, green, blue], 16, segmented=True)
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
    picture = drawn(ds)
    ramp = np.interp(np.arange(100) + 1, [0, 100], [0x1000, 0xF000])
    assert np.array_equal(picture.reshape(-1, 3)[2:102, 0], np.rint(ramp).astype(int) >> 8)
    assert picture.reshape(-1, 3)[255, 0] == 0
    assert set(picture[..., 1].ravel()) == {0x80}
    once = picture.reshape(-1, 3)[:64, 2]
    assert np.array_equal(picture[..., 2], np.tile(once, 4).reshape(16, 16))
    assert np.array_equal(picture, expected_segmented(array, ds))


def expected_segmented(array: NDArray[Any], ds: Dataset) -> NDArray[np.uint8] | None:
    """By pydicom, which takes the offset of an indirect segment for one in words: here both are 0."""
    return expected_colour(array, ds, "PALETTE COLOR")


def test_w_render_color_segmented_palette_of_bytes() -> None:
    array = np.arange(256, dtype=np.uint8).reshape(16, 16)
    segments = np.array([0, 1, 10, 1, 127, 137, 1, 128, 9, 0], "u1")
    ds = palette(array, [segments] * 3, 8, segmented=True)
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
    assert np.array_equal(drawn(ds), expected_colour(array, ds, "PALETTE COLOR"))


@pytest.mark.parametrize(
    "segments",
    [
        [1, 10, 5],
        [7, 1, 1],
        [0, 1, 5, 2, 1, 6, 0],
        [0, 1, 5, 2, 1],
        [],
        [0, 1, 5, 1, 3],
        [0, 1, 9, 2, 2, 6, 0, 2, 1, 12, 0],
    ],
)
def test_w_render_color_segments_that_make_no_sense(segments: list[int]) -> None:
    data = np.array(segments, "<u2")
    ds = palette(np.zeros((4, 4), np.uint8), [data] * 3, 16, segmented=True)
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
    with pytest.raises(Invalid, match="palette"):
        drawn(ds)


def test_w_render_color_palette_without_tables() -> None:
    with pytest.raises(Invalid, match="palette"):
        drawn(grey(np.zeros((4, 4), np.uint8), PhotometricInterpretation="PALETTE COLOR"))


@pytest.mark.parametrize("wished", [IccProfile.SRGB, IccProfile.ADOBE_RGB, IccProfile.ROMM_RGB, IccProfile.YES])
@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/webp"])
def test_w_render_icc_is_embedded(wished: IccProfile, media_type: str) -> None:
    for ds in (colour(COLOURS), grey(slope())):
        image = opened(rendered(ds, Wish(media_type=media_type, icc_profile=wished)).body)
        assert image.mode == "RGB"
        profile = profile_of(IccProfile.SRGB if wished is IccProfile.YES else wished)
        assert image.info["icc_profile"] == profile
        assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/webp", "image/gif"])
def test_w_render_icc_is_not_embedded_unasked(media_type: str) -> None:
    ds = colour(COLOURS, ICCProfile=profile_of(IccProfile.ADOBE_RGB))
    assert "icc_profile" not in opened(rendered(ds, Wish(media_type=media_type)).body).info


def test_w_render_icc_converts_from_the_profile_of_the_image() -> None:
    ds = colour(COLOURS, ICCProfile=profile_of(IccProfile.ADOBE_RGB))
    as_is = opened(rendered(ds, Wish(media_type="image/png", icc_profile=IccProfile.YES)).body)
    assert as_is.info["icc_profile"] == profile_of(IccProfile.ADOBE_RGB)
    assert np.array_equal(np.asarray(as_is), COLOURS)
    same = opened(rendered(ds, Wish(media_type="image/png", icc_profile=IccProfile.ADOBE_RGB)).body)
    assert np.abs(np.asarray(same).astype(int) - COLOURS).max() <= 1
    other = opened(rendered(ds, Wish(media_type="image/png", icc_profile=IccProfile.SRGB)).body)
    assert not np.array_equal(np.asarray(other), COLOURS)


def test_w_render_icc_grey_stays_grey_in_other_spaces() -> None:
    ds = grey(slope(dtype="uint8", top=255))
    picture = np.asarray(opened(rendered(ds, Wish(media_type="image/png", icc_profile=IccProfile.ADOBE_RGB)).body))
    assert np.ptp(picture.astype(int), axis=2).max() <= 2
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[-1, -1].min() >= 254


def test_w_render_icc_there_and_back_is_the_same() -> None:
    image = opened(
        rendered(colour(COLOURS // 4 + 96), Wish(media_type="image/png", icc_profile=IccProfile.ROMM_RGB)).body
    )
    back = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(profile_of(IccProfile.ROMM_RGB))),
        ImageCms.createProfile("sRGB"),
    )
    assert np.abs(np.asarray(back).astype(int) - (COLOURS // 4 + 96)).max() <= 5


@pytest.mark.parametrize("wished", [IccProfile.YES, IccProfile.SRGB, IccProfile.ADOBE_RGB])
def test_w_render_icc_profile_that_is_none(wished: IccProfile) -> None:
    good = profile_of(IccProfile.ADOBE_RGB)
    for profile in (b"no profile at all.", good[:16] + b"CMYK" + good[20:]):
        with pytest.raises(NotAcceptable, match="profile"):
            rendered(colour(COLOURS, ICCProfile=profile), Wish(icc_profile=wished))
    assert rendered(colour(COLOURS, ICCProfile=b"no profile at all."), Wish()).body


def test_w_render_icc_profile_that_is_cut_short() -> None:
    short = profile_of(IccProfile.ADOBE_RGB)[:200]
    with pytest.raises(NotAcceptable, match="profile"):
        rendered(colour(COLOURS, ICCProfile=short), Wish(icc_profile=IccProfile.SRGB))


def test_w_render_color_in_a_viewport() -> None:
    picture = drawn(colour(COLOURS), Wish(viewport=Viewport(9, 6)))
    assert picture.shape == (6, 9, 3)
