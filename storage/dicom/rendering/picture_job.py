"""Rendering as a job for another process: numpy and the codecs are loaded where it is done, not where it is given."""

from collections.abc import Sequence

from storage.dicom.instance import JsonDataset
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.rendering.attributes import Bulk
from storage.dicom.rendering.wish import Wish

Made = tuple[bytes, tuple[str, ...]]  # the picture, and warnings


def rendered(
    data: bytes, source: str, description: PixelDescription, attributes: JsonDataset, wish: Wish, bulk: Bulk
) -> Made:
    """A frame as stored as a still picture; raises as `render_stored` does."""
    from storage.dicom.rendering.render import render_stored  # here: see above

    made = render_stored(data, source, description, attributes, wish, bulk)
    return made.body, made.warnings


def animated(
    frames: Sequence[bytes],
    source: str,
    description: PixelDescription,
    attributes: Sequence[JsonDataset],
    timing: JsonDataset,
    wish: Wish,
    bulk: Bulk,
) -> Made:
    """All frames as one moving picture, as fast as `timing` says; raises as `animate_stored` does."""
    from storage.dicom.rendering.animate import animate_stored, milliseconds_a_frame  # here: see above

    milliseconds = milliseconds_a_frame(timing)
    made = animate_stored(frames, source, description, attributes, wish, milliseconds, bulk)
    return made.body, made.warnings
