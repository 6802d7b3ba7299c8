"""Viewports: what part is shown, how large, and which way round (PS3.18 8.3.5.1.3, 9.5.1.2.5)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.dicom.rendering.wish import Region, Viewport, Wish, parse_uri_viewport, parse_viewport
from storage.errors import Invalid
from tests.unit.rendering.shown import colour, drawn, grey, rendered, slope

PICTURE = np.random.default_rng(5).integers(0, 256, (30, 40)).astype(np.uint8)


def shown(text: str, **changes: Any) -> Any:
    return drawn(grey(PICTURE, PixelSpacing=None, **changes), Wish(viewport=parse_viewport(text)))


def test_w_render_size_is_that_of_the_matrix() -> None:
    assert drawn(grey(PICTURE)).shape == (30, 40)
    assert drawn(grey(PICTURE, PixelSpacing=[1, 2])).shape == (30, 40)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("20,20", (15, 20)),
        ("400,400", (300, 400)),
        ("400,30", (30, 40)),
        ("40,15", (15, 20)),
        ("1,1", (1, 1)),
        ("7,700", (5, 7)),
    ],
)
def test_w_render_viewport_keeps_the_aspect_ratio(text: str, shape: tuple[int, int]) -> None:
    assert shown(text).shape == shape


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_w_render_viewport_is_filled_one_way_and_never_overflows(width: int, height: int) -> None:
    rows, columns = shown(f"{width},{height}").shape
    assert rows <= height and columns <= width
    assert rows == height or columns == width


def test_w_render_viewport_crops_without_touching_pixels() -> None:
    assert np.array_equal(shown("10,5,4,20,10,5"), PICTURE[20:25, 4:14])
    assert np.array_equal(shown("40,30"), PICTURE)


def test_w_render_viewport_elided_values() -> None:
    assert np.array_equal(shown("30,10,10,20,,"), PICTURE[20:, 10:])
    assert np.array_equal(shown("10,10,,,10,10"), PICTURE[:10, :10])
    assert np.array_equal(shown("36,30,4"), PICTURE[:, 4:])


def test_w_render_viewport_negative_sizes_flip() -> None:
    assert np.array_equal(shown("10,5,4,20,-10,5"), PICTURE[20:25, 4:14][:, ::-1])
    assert np.array_equal(shown("10,5,4,20,10,-5"), PICTURE[20:25, 4:14][::-1])
    assert np.array_equal(shown("40,30,0,0,-40,-30"), PICTURE[::-1, ::-1])


def test_w_render_viewport_flipped_pictures_can_be_encoded() -> None:
    for media_type in ("image/jpeg", "image/png", "image/gif", "image/webp"):
        for ds in (grey(PICTURE), colour(np.repeat(PICTURE[..., np.newaxis], 3, axis=2))):
            assert rendered(ds, Wish(media_type=media_type, viewport=parse_viewport("40,30,0,0,-40,-30"))).body


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_w_render_viewport_flipped_lines_can_be_encoded(shape: tuple[int, int]) -> None:
    for media_type in ("image/jpeg", "image/png", "image/gif", "image/webp"):
        wish = Wish(media_type=media_type, viewport=Viewport(None, None, Region(0, 0, -9, -9)))
        assert rendered(grey(np.zeros(shape, np.uint8)), wish).body


def test_w_render_viewport_region_over_the_edge_is_cut() -> None:
    assert np.array_equal(shown("5,5,35,25,10,10"), PICTURE[25:, 35:])


def test_w_render_viewport_fractions_of_pixels() -> None:
    picture = shown("20,20,10.5,10.5,2,2")
    assert picture.shape == (20, 20)
    assert abs(int(picture[10, 10]) - int(PICTURE[11, 11])) < 40
    assert shown("4,4,3.2,3.2,0.3,0.3").shape == (4, 4)


@pytest.mark.parametrize("text", ["10,10,40,0,5,5", "10,10,0,30,5,5", "10,10,1000,1000"])
def test_w_render_400_for_a_region_outside_of_the_image(text: str) -> None:
    with pytest.raises(Invalid, match="outside"):
        shown(text)


@pytest.mark.parametrize(
    "spacing", [{"PixelSpacing": [2, 1]}, {"ImagerPixelSpacing": [0.4, 0.2]}, {"PixelAspectRatio": ["2", "1"]}]
)
def test_w_render_viewport_shows_pixels_that_are_not_square_in_their_shape(spacing: dict[str, Any]) -> None:
    ds = grey(PICTURE, **({"PixelSpacing": None} | spacing))
    assert drawn(ds, Wish(viewport=Viewport(120, 120))).shape == (120, 80)


@pytest.mark.parametrize(
    "spacing", [{"PixelSpacing": [100, 1]}, {"PixelAspectRatio": ["0", "1"]}, {"PixelSpacing": [1]}]
)
def test_w_render_viewport_ignores_spacing_that_cannot_be(spacing: dict[str, Any]) -> None:
    ds = grey(PICTURE, **({"PixelSpacing": None} | spacing))
    assert drawn(ds, Wish(viewport=Viewport(80, 80))).shape == (60, 80)


def test_w_render_viewport_of_a_large_image_looks_like_all_of_it() -> None:
    rows, columns = np.mgrid[0:1200, 0:1500]
    array = (2000 + 1500 * np.sin(rows / 300) * np.cos(columns / 400)).astype(np.uint16)
    picture = drawn(grey(array, PixelSpacing=None), Wish(viewport=Viewport(75, 60))).astype(float)
    means = array.reshape(60, 20, 75, 20).mean(axis=(1, 3))
    want = (means - array.min()) / (array.max() - array.min()) * 255
    assert np.abs(picture - want).max() <= 3


@pytest.mark.parametrize("width", [1, 3, 50, 333, 999])
def test_w_render_viewport_of_any_size_shows_the_edges(width: int) -> None:
    array = slope(1000, 1000, top=60_000)
    picture = drawn(grey(array, PixelSpacing=None), Wish(viewport=Viewport(width, width)))
    assert picture.shape == (width, width)
    if width > 1:
        assert picture[0].mean() < 60 < 190 < picture[-1].mean()


def test_w_render_viewport_range_is_that_of_the_whole_frame() -> None:
    array = slope(16, 16, top=255).astype(np.uint16)
    whole = drawn(grey(array, PixelSpacing=None))
    part = drawn(grey(array, PixelSpacing=None), Wish(viewport=Viewport(4, 4, Region(4, 8, 4, 4))))
    assert np.array_equal(part, whole[8:12, 4:8])


def test_w_render_viewport_16_bits() -> None:
    array = slope(64, 64, top=65_535)
    picture = drawn(grey(array, PixelSpacing=None), Wish(viewport=Viewport(16, 16), bits=16))
    assert picture.dtype == np.uint16
    assert np.abs(picture - array.reshape(16, 4, 16, 4).mean(axis=(1, 3))).max() < 1500


@pytest.mark.parametrize(
    ("rows", "columns", "region", "shape"),
    [
        ("15", None, None, (15, 20)),
        (None, "20", None, (15, 20)),
        ("100", "20", None, (15, 20)),
        (None, None, "0.25,0.5,0.75,1", (15, 20)),
        (None, "10", "0.25,0.5,0.75,1", (8, 10)),
    ],
)
def test_u_rowscols_are_maxima(
    rows: str | None, columns: str | None, region: str | None, shape: tuple[int, int]
) -> None:
    picture = drawn(grey(PICTURE, PixelSpacing=None), Wish(viewport=parse_uri_viewport(rows, columns, region)))
    assert picture.shape == shape
    if shape == (15, 20) and rows is None and columns is None:
        assert np.array_equal(picture, PICTURE[15:, 10:30])
