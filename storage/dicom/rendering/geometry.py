"""Which part of the source matrix a picture shows, and how large (PS3.18 8.3.5.1.3)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.dicom.instance import JsonDataset
from storage.dicom.rendering.attributes import number
from storage.dicom.rendering.wish import Region, Viewport
from storage.errors import Fault, Invalid

_SPACINGS = ("00280030", "00181164", "00182010", "00280034")  # of pixels, at the detector, scanned; pixel aspect ratio
_MAX_ASPECT = 16.0  # beyond it the attribute is a mistake
_LEAST_SHOWN = 1e-3  # of a pixel
_REDUCING_GAP = 2.0  # a picture of so many times the size is averaged to it before it is filtered
_SAMPLES_KEPT = 4  # source pixels for each of the picture, each way, that are enough to look like all of them


@dataclass(frozen=True, slots=True)
class Box:
    """A part of the matrix, in pixels, edges and not centres of them."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Placement:
    """The part shown, the size of the picture, and whether it is mirrored."""

    box: Box
    width: int
    height: int
    mirrored: bool
    upside_down: bool


def placed(viewport: Viewport, rows: int, columns: int, aspect: float) -> Placement:
    """Where a matrix comes to lie, `aspect` being the height of its pixels by their width.

    The picture is as large as fits, never distorted; a region that hangs over the edge is cut off there. Raises Invalid
    (QUERY) when it lies outside.
    """
    region = viewport.region
    box = _box(region, rows, columns)
    shown_width, shown_height = box.right - box.left, box.bottom - box.top
    if min(shown_width, shown_height) < _LEAST_SHOWN:
        raise Invalid(Fault.QUERY, "the region is so small that it shows nothing")
    if viewport.width is None and viewport.height is None:
        width, height = round(shown_width), round(shown_height)
    else:
        shown_height *= aspect
        scale = min((viewport.width or math.inf) / shown_width, (viewport.height or math.inf) / shown_height)
        width, height = round(shown_width * scale), round(shown_height * scale)
    return Placement(box, max(width, 1), max(height, 1), (region.width or 0) < 0, (region.height or 0) < 0)


def _box(region: Region, rows: int, columns: int) -> Box:
    across, down = (columns, rows) if region.relative else (1, 1)
    left, top = region.left * across, region.top * down
    if left >= columns or top >= rows:
        raise Invalid(Fault.QUERY, f"the region lies outside of the image, which has {columns} columns and {rows} rows")
    right = columns if region.width is None else min(left + abs(region.width) * across, columns)
    bottom = rows if region.height is None else min(top + abs(region.height) * down, rows)
    return Box(left, top, right, bottom)


def pixel_aspect(attributes: JsonDataset) -> float:
    """The height of a pixel by its width, as its spacing or Pixel Aspect Ratio says; 1 without."""
    for key in _SPACINGS:
        vertical, horizontal = number(attributes, key, 0), number(attributes, key, 1)
        if vertical and horizontal and 1 / _MAX_ASPECT <= vertical / horizontal <= _MAX_ASPECT:
            return vertical / horizontal
    return 1.0


def source(array: NDArray[Any], placement: Placement) -> tuple[NDArray[Any], Box]:
    """The pixels that are needed, and where the part shown lies among them.

    Of many for one of the picture every second, third... row and column is enough.
    """
    box = placement.box
    left, top = math.floor(box.left), math.floor(box.top)
    cut = array[top : math.ceil(box.bottom), left : math.ceil(box.right)]
    across = _stride(box.right - box.left, placement.width)
    down = _stride(box.bottom - box.top, placement.height)
    cut = np.ascontiguousarray(cut[down // 2 :: down, across // 2 :: across])
    rows, columns = cut.shape[:2]
    return cut, Box(
        min((box.left - left) / across, columns - 1),
        min((box.top - top) / down, rows - 1),
        min((box.right - left) / across, columns),
        min((box.bottom - top) / down, rows),
    )


def _stride(shown: float, wanted: int) -> int:
    return max(1, int(shown / (wanted * _SAMPLES_KEPT)))


def scaled(picture: NDArray[Any], box: Box, placement: Placement) -> NDArray[Any]:
    """The picture in its size, mirrored as wished."""
    rows, columns = picture.shape[:2]
    if (columns, rows) != (placement.width, placement.height) or box != Box(0, 0, columns, rows):
        smaller = placement.width <= box.right - box.left and placement.height <= box.bottom - box.top
        filtering = Image.Resampling.BILINEAR if smaller else Image.Resampling.BICUBIC
        size, gap = (placement.width, placement.height), _REDUCING_GAP if picture.dtype == np.uint8 else None
        picture = np.asarray(
            Image.fromarray(picture).resize(size, filtering, (box.left, box.top, box.right, box.bottom), gap)
        )
    if not (placement.mirrored or placement.upside_down):
        return picture
    across, down = (-1 if placement.mirrored else 1), (-1 if placement.upside_down else 1)
    return picture[::down, ::across].copy()  # codecs do not take rows or columns that run backwards
