"""Descriptions and pixels of all kinds, made for tests."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from storage.dicom.pixels.description import Kind, PixelDescription
from storage.dicom.pixels.native import shape, value_type

MONOCHROME = PixelDescription(5, 7, 1, "MONOCHROME2", 0, 16, 12, 11, False, 1)
RGB = PixelDescription(5, 7, 3, "RGB", 0, 8, 8, 7, False, 1)


def described(rows: int, columns: int, allocated: int, stored: int, *, signed: bool = False) -> PixelDescription:
    """MONOCHROME2 of one frame."""
    return replace(
        MONOCHROME,
        rows=rows,
        columns=columns,
        allocated=allocated,
        stored=stored,
        high_bit=stored - 1,
        signed=signed,
    )


def in_colours(rows: int, columns: int, photometric: str = "RGB", *, bits: int = 8) -> PixelDescription:
    """Three samples a pixel."""
    return replace(
        RGB, rows=rows, columns=columns, photometric=photometric, allocated=bits, stored=bits, high_bit=bits - 1
    )


def smooth(description: PixelDescription) -> NDArray[Any]:
    """Pixels that go over the whole range that is stored, with some noise, always the same."""
    low, high = bounds(description)
    y, x = np.mgrid[0 : description.rows, 0 : description.columns]
    noise = np.random.default_rng(5).integers(0, 3, (description.rows, description.columns))
    grey = (y * 3 + x * 5 + noise) % 97 / 96
    plane = np.rint(low + grey * (high - low))
    if description.samples == 1:
        return plane.astype(value_type(description))
    return np.stack([plane, high - plane, plane // 2], axis=-1).astype(value_type(description))


def bounds(description: PixelDescription) -> tuple[int, int]:
    """The least and the greatest value that can be stored."""
    if description.signed:
        return -(1 << description.stored - 1), (1 << description.stored - 1) - 1
    return 0, (1 << description.stored) - 1


def pixels_of(description: PixelDescription) -> st.SearchStrategy[NDArray[Any]]:
    """Arrays of anything that can be stored."""
    if description.kind is not Kind.INTEGER:
        return hnp.arrays(value_type(description), shape(description))
    low, high = bounds(description)
    return hnp.arrays(value_type(description), shape(description), elements=st.integers(low, high))


@st.composite
def descriptions(draw: st.DrawFn, *, allocated: tuple[int, ...] = (8, 16)) -> PixelDescription:
    """Of images of a few pixels, in grey or colour."""
    bits = draw(st.sampled_from(allocated))
    stored = draw(st.integers(1 if bits == 1 else 2, bits))
    colour = draw(st.booleans())
    return PixelDescription(
        rows=draw(st.integers(1, 9)),
        columns=draw(st.integers(1, 9)),
        samples=3 if colour else 1,
        photometric=draw(
            st.sampled_from(("RGB", "YBR_FULL") if colour else ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"))
        ),
        planar=0,
        allocated=bits,
        stored=stored,
        high_bit=stored - 1,
        signed=not colour and bits > 1 and draw(st.booleans()),
        frames=1,
    )
