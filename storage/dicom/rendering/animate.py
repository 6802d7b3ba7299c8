"""Multi-frame instances as moving pictures: animated GIF and WebP, and MP4 by way of `video` (PS3.18 8.7.4)."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from storage.dicom.instance import JsonDataset
from storage.dicom.pixels.decode import Decoded, decode
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.rendering.annotate import annotated
from storage.dicom.rendering.attributes import NO_BULK, Bulk, number
from storage.dicom.rendering.formats import check_size
from storage.dicom.rendering.grey import Range
from storage.dicom.rendering.icc import profiled
from storage.dicom.rendering.padding import range_in_use
from storage.dicom.rendering.render import Rendered, draw
from storage.dicom.rendering.video import mp4
from storage.dicom.rendering.wish import MAX_FRAMES, MOVING_MEDIA_TYPES, Wish
from storage.errors import Fault, Invalid, NotAcceptable

MAX_PIXELS = 1 << 28  # of all frames of an animated picture together, which Pillow holds until it writes
_VIDEO = "video/mp4"
_FRAMES_LOOKED_AT = 8  # for the range of values in use, where there is no window
_FRAME_TIME, _FRAME_TIMES = "00181063", "00181065"
_RATES = ("00082144", "00180040")  # Recommended Display Frame Rate, Cine Rate
_USUAL_MILLISECONDS = 100.0
_LEAST_MILLISECONDS, _MOST_MILLISECONDS = 10.0, 10_000.0


def animate_stored(
    frames: Sequence[bytes],
    transfer_syntax: str,
    description: PixelDescription,
    attributes: Sequence[JsonDataset],
    wish: Wish,
    milliseconds: float,
    bulk: Bulk = NO_BULK,
) -> Rendered:
    """Frames as stored as one moving picture: what a process of a pool does. Raises as `decode` and `animate` do."""
    return animate(
        lambda index: decode(frames[index], transfer_syntax, description), attributes, wish, milliseconds, bulk
    )


def animate(
    frame: Callable[[int], Decoded],
    attributes: Sequence[JsonDataset],
    wish: Wish,
    milliseconds: float,
    bulk: Bulk = NO_BULK,
) -> Rendered:
    """One moving picture of as many frames as have `attributes`, one every so many `milliseconds`; `frame` from 0 on.

    Raises as `render` does; Invalid (TOO_LARGE) when there are more frames or pixels than MAX_FRAMES and MAX_PIXELS;
    NotAcceptable when the media type is none of MOVING_MEDIA_TYPES, or for video without ffmpeg.
    """
    if wish.media_type not in MOVING_MEDIA_TYPES:
        raise NotAcceptable(f"moving pictures cannot be rendered as {wish.media_type}")
    if not 1 <= len(attributes) <= MAX_FRAMES:
        raise Invalid(Fault.TOO_LARGE, f"{len(attributes)} frames: no more than {MAX_FRAMES} are put in motion")
    warnings: dict[str, None] = {}
    pictures = _pictures(frame, attributes, replace(wish, bits=8), bulk, warnings)
    first, profile = next(pictures)
    everything = chain([first], (picture for picture, _ in pictures))
    if wish.media_type == _VIDEO:
        rate = 1000 / milliseconds
        raw = (picture.tobytes() for picture in everything)
        body = mp4(raw, first.shape[1], first.shape[0], rate, wish.quality, colour=first.ndim == 3)
    else:
        if first.shape[0] * first.shape[1] * len(attributes) > MAX_PIXELS:
            raise Invalid(Fault.TOO_LARGE, f"all frames have more than {MAX_PIXELS} pixels: ask for a smaller viewport")
        body = _animation(everything, wish, milliseconds, profile)
    return Rendered(body, wish.media_type, tuple(warnings))


def milliseconds_a_frame(dataset: JsonDataset) -> float:
    """How long each frame is to be shown, as far as the data set says (PS3.3 C.7.6.5), else a tenth of a second."""
    time = number(dataset, _FRAME_TIME) or number(dataset, _FRAME_TIMES, 1)
    for rate in (number(dataset, key) for key in _RATES):
        time = time or (1000 / rate if rate else None)
    return min(max(time or _USUAL_MILLISECONDS, _LEAST_MILLISECONDS), _MOST_MILLISECONDS)


def _pictures(
    frame: Callable[[int], Decoded],
    attributes: Sequence[JsonDataset],
    wish: Wish,
    bulk: Bulk,
    warnings: dict[str, None],
) -> Iterator[tuple[NDArray[Any], bytes | None]]:
    """The frames drawn, all over one range of values, with the profile that they have in common.

    Raises NotAcceptable when they differ in size.
    """

    @cache
    def used() -> Range:
        return _range_of_some(frame, attributes)

    shape: tuple[int, ...] | None = None
    for index, of_frame in enumerate(attributes):
        picture, warned = annotated(draw(frame(index), of_frame, wish, bulk, used), of_frame, wish.annotations)
        picture, profile = profiled(picture, wish.icc_profile, of_frame, bulk)
        warnings.update(dict.fromkeys(warned))
        shape = shape or picture.shape
        if picture.shape != shape:
            raise NotAcceptable("frames of different sizes cannot be put in motion")
        yield picture, profile


def _range_of_some(frame: Callable[[int], Decoded], attributes: Sequence[JsonDataset]) -> Range:
    step = -(-len(attributes) // _FRAMES_LOOKED_AT)
    ranges = []
    for index in range(0, len(attributes), step):
        decoded = frame(index)
        ranges.append(range_in_use(decoded.array, attributes[index], decoded.description))
    return Range(min(each.least for each in ranges), max(each.largest for each in ranges))


def _animation(pictures: Iterator[NDArray[Any]], wish: Wish, milliseconds: float, profile: bytes | None) -> bytes:
    images = map(Image.fromarray, pictures)
    first, stream = next(images), io.BytesIO()
    check_size(wish.media_type, *first.size)
    motion: dict[str, Any] = {"append_images": images, "duration": round(milliseconds), "loop": 0}
    if wish.media_type == "image/webp":
        motion |= {"quality": wish.quality, "method": 0, "icc_profile": profile or b""}
    first.save(stream, wish.media_type.removeprefix("image/").upper(), save_all=True, **motion)
    return stream.getvalue()
