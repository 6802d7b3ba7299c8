"""One frame to one picture: grey or colour, its part and size, annotations, colour space, media type (PS3.4 N.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from storage.dicom.instance import JsonDataset
from storage.dicom.pixels.decode import Decoded, decode
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.rendering.annotate import annotated
from storage.dicom.rendering.attributes import NO_BULK, Bulk
from storage.dicom.rendering.colour import rgb_of_samples
from storage.dicom.rendering.formats import encoded
from storage.dicom.rendering.geometry import pixel_aspect, placed, scaled, source
from storage.dicom.rendering.grey import Range, drawn, shades
from storage.dicom.rendering.icc import profiled
from storage.dicom.rendering.padding import range_in_use
from storage.dicom.rendering.palette import rgb_of_palette
from storage.dicom.rendering.wish import Wish
from storage.errors import NotAcceptable

_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A picture, and what a caller should know about it (without patient data)."""

    body: bytes
    media_type: str
    warnings: tuple[str, ...] = ()


def render_stored(
    data: bytes,
    transfer_syntax: str,
    description: PixelDescription,
    attributes: JsonDataset,
    wish: Wish,
    bulk: Bulk = NO_BULK,
) -> Rendered:
    """A frame as stored, decoded and rendered: what a process of a pool does. Raises as `decode` and `render` do."""
    return render(decode(data, transfer_syntax, description), attributes, wish, bulk)


def render(frame: Decoded, attributes: JsonDataset, wish: Wish, bulk: Bulk = NO_BULK) -> Rendered:
    """A picture of `frame`, of which `attributes_of_frame` gave the attributes and `bulk_uris` said what to fetch.

    Raises Invalid: QUERY when the viewport shows nothing of this image, MALFORMED when a table that it needs is;
    NotAcceptable when the pixels, or so many of them, cannot be rendered as wished.
    """
    drawing = draw(frame, attributes, wish, bulk)
    picture, warnings = annotated(drawing, attributes, wish.annotations)
    picture, profile = profiled(picture, wish.icc_profile, attributes, bulk)
    return Rendered(encoded(picture, wish.media_type, wish.quality, profile), wish.media_type, warnings)


def draw(
    frame: Decoded,
    attributes: JsonDataset,
    wish: Wish,
    bulk: Bulk = NO_BULK,
    used: Callable[[], Range] | None = None,
) -> NDArray[Any]:
    """Rows x columns [x 3] of 8 bits (or grey of 16), without annotations; raises as `render` does.

    `used` is the range of stored values that a picture without window is to show, not just that of this frame.
    """
    array, description = frame.array, frame.description
    used = used or partial(range_in_use, array, attributes, description)
    if wish.viewport is None:
        return _shown(array, description, attributes, wish, bulk, used)
    placement = placed(wish.viewport, description.rows, description.columns, pixel_aspect(attributes))
    part, box = source(array, placement)
    return scaled(_shown(part, description, attributes, wish, bulk, used), box, placement)


def _shown(
    array: NDArray[Any],
    description: PixelDescription,
    attributes: JsonDataset,
    wish: Wish,
    bulk: Bulk,
    used: Callable[[], Range],
) -> NDArray[Any]:
    """`array`, which may be a part of a frame, as a display shows it."""
    if array.ndim == 3:
        return rgb_of_samples(array, description)
    if description.photometric == "PALETTE COLOR":
        return rgb_of_palette(array, attributes, bulk, signed=description.signed)
    if description.photometric not in _MONOCHROME:
        raise NotAcceptable(f"pixels of {description.photometric} with one sample cannot be rendered")
    return drawn(array, shades(attributes, description, wish.window, bulk, used), wish.bits)
