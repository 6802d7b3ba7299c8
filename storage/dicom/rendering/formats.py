"""Pictures as bytes of a rendered media type (PS3.18 8.7.4)."""

import io
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.dicom.rendering.wish import STILL_MEDIA_TYPES
from storage.errors import NotAcceptable

MAX_SIDE = {"image/jpeg": 65_500, "image/png": 1_000_000, "image/gif": 65_535, "image/webp": 16_383}
_PNG_LEVEL, _RUN_LENGTHS = 1, 3  # of deflate: half the time of its default, and no larger with noise
_WHOLE_COLOURS_FROM = 80  # the quality from which colours have the resolution of the picture


def encoded(picture: NDArray[Any], media_type: str, quality: int, profile: bytes | None = None) -> bytes:
    """Rows x columns [x 3] of 8 bits (16 bits of grey for PNG) as one picture, `profile` embedded.

    Raises NotAcceptable when the media type is none of STILL_MEDIA_TYPES, or cannot hold so many pixels or bits.
    """
    if media_type not in STILL_MEDIA_TYPES:
        raise NotAcceptable(f"a single frame cannot be rendered as {media_type}")
    if picture.dtype != np.uint8 and media_type != "image/png":
        raise NotAcceptable(f"{media_type} has no more than 8 bits for a colour")
    check_size(media_type, picture.shape[1], picture.shape[0])
    if media_type == "image/jpeg" and profile is None:
        subsampling = "444" if quality >= _WHOLE_COLOURS_FROM or picture.ndim == 2 else "420"
        return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(picture), level=quality, subsampling=subsampling))
    if media_type == "image/png" and profile is None:
        return bytes(imagecodecs.png_encode(np.ascontiguousarray(picture), level=_PNG_LEVEL, strategy=_RUN_LENGTHS))
    return _by_pillow(picture, media_type, quality, profile)


def check_size(media_type: str, width: int, height: int) -> None:
    """Raise NotAcceptable when the media type cannot hold a picture so large."""
    most = MAX_SIDE[media_type]
    if max(width, height) > most:
        raise NotAcceptable(f"{media_type} holds {most} pixels across at most, the picture has {max(width, height)}")


def _by_pillow(picture: NDArray[Any], media_type: str, quality: int, profile: bytes | None) -> bytes:
    image, stream = Image.fromarray(np.ascontiguousarray(picture)), io.BytesIO()
    if media_type == "image/gif":
        image.save(stream, "GIF")
    elif media_type == "image/webp":
        image.save(stream, "WEBP", quality=quality, method=0, icc_profile=profile or b"")
    elif media_type == "image/png":
        image.save(stream, "PNG", compress_level=_PNG_LEVEL, compress_type=_RUN_LENGTHS, icc_profile=profile)
    else:
        whole = quality >= _WHOLE_COLOURS_FROM or picture.ndim == 2
        image.save(stream, "JPEG", quality=quality, subsampling=0 if whole else 2, icc_profile=profile)
    return stream.getvalue()
