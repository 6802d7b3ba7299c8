"""Colour profiles: those that come with images, and those that callers ask for (PS3.18 8.3.5.1.5, PS3.3 C.11.15)."""

import io
import struct
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from storage.dicom.instance import JsonDataset
from storage.dicom.rendering.attributes import Bulk, binary
from storage.dicom.rendering.wish import IccProfile
from storage.errors import NotAcceptable

_ICC_PROFILE = "00282000"
_MAX_PROFILE_BYTES = 8 << 20
_COLOUR_SPACE, _SIGNATURE = slice(16, 20), slice(36, 40)  # in the header of a profile
_D50 = (0.9642, 1.0, 0.8249)
# Name, gamma, and the primaries as XYZ under D50 (IEC 61966-2-5, ISO 22028-2).
_GAMMA_SPACES = {
    IccProfile.ADOBE_RGB: (
        "Compatible with Adobe RGB (1998)",
        563 / 256,
        ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
    ),
    IccProfile.ROMM_RGB: (
        "ROMM RGB",
        1.8,
        ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)),
    ),
}


def profiled(
    picture: NDArray[Any], wished: IccProfile, attributes: JsonDataset, bulk: Bulk
) -> tuple[NDArray[Any], bytes | None]:
    """The picture as RGB of 8 bits in the colour space wished for, and the profile to embed; as it is without a wish.

    Raises NotAcceptable when the profile that the image brings cannot be used.
    """
    if wished is IccProfile.NO:
        return picture, None
    octets = picture if picture.dtype == np.uint8 else (picture >> 8).astype(np.uint8)
    colours = octets if octets.ndim == 3 else np.repeat(octets[..., np.newaxis], 3, axis=2)
    own = _own_profile(attributes, bulk) if picture.ndim == 3 else None
    if wished is IccProfile.YES:
        return colours, own or profile_of(IccProfile.SRGB)
    target = profile_of(wished)
    if own is None and wished is IccProfile.SRGB:
        return colours, target
    return _transformed(colours, own or profile_of(IccProfile.SRGB), target), target


def _own_profile(attributes: JsonDataset, bulk: Bulk) -> bytes | None:
    """What the image brings; to guess what it meant by one that cannot be read would give wrong colours."""
    raw = binary(attributes.get(_ICC_PROFILE, {}), bulk)
    if not raw:
        return None
    if len(raw) > _MAX_PROFILE_BYTES or raw[_COLOUR_SPACE] != b"RGB " or raw[_SIGNATURE] != b"acsp":
        raise NotAcceptable("the colour profile of the image is none of RGB")
    return raw


def _transformed(picture: NDArray[Any], source: bytes, target: bytes) -> NDArray[Any]:
    image = Image.fromarray(np.ascontiguousarray(picture))
    try:
        changed = ImageCms.profileToProfile(image, _opened(source), _opened(target))
    except (ImageCms.PyCMSError, OSError) as error:
        raise NotAcceptable("the colour profile of the image cannot be used") from error
    return np.asarray(changed)


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


@cache
def profile_of(wished: IccProfile) -> bytes:
    """An ICC profile of one of the colour spaces that can be asked for by name."""
    if wished is IccProfile.SRGB:
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return _written(*_GAMMA_SPACES[wished])


def _written(name: str, gamma: float, primaries: tuple[tuple[float, ...], ...]) -> bytes:
    """A display profile of version 2 with three primaries and one gamma (ICC.1:2001-04)."""
    curve = struct.pack(">4s4xIH", b"curv", 1, round(gamma * 256))
    label = name.encode("ascii") + b"\0"
    values = {
        b"desc": struct.pack(">4s4xI", b"desc", len(label)) + label + bytes(78),
        b"cprt": struct.pack(">4s4x", b"text") + b"No copyright, use freely\0",
        b"wtpt": _xyz(_D50),
        **{tag: _xyz(primary) for tag, primary in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, body, start = b"", b"", 128 + 4 + 12 * len(values)
    for tag, value in values.items():
        table += struct.pack(">4sII", tag, start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    return _header(start + len(body)) + struct.pack(">I", len(values)) + table + body


def _header(size: int) -> bytes:
    return struct.pack(
        ">I4xI4s4s4s6H4s24xI12s48x",
        *(size, 0x02100000, b"mntr", b"RGB ", b"XYZ ", 2026, 1, 1, 0, 0, 0, b"acsp", 0, _xyz(_D50)[8:]),
    )


def _xyz(values: tuple[float, ...]) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(value * 65536) for value in values))
