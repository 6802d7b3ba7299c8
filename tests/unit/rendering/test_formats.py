"""Rendered media types (PS3.18 8.7.4)."""

import struct

import numpy as np
import pytest

from storage.dicom.rendering.formats import encoded
from storage.dicom.rendering.render import render_stored
from storage.dicom.rendering.wish import STILL_MEDIA_TYPES, IccProfile, Wish
from storage.errors import NotAcceptable
from tests.samples import part10
from tests.unit.rendering.shown import colour, drawn, frame_of, grey, opened, rendered, slope

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF", "image/webp": "WEBP"}
GREY = grey(slope(48, 64, "uint8", 255))
COLOUR = colour(
    np.stack([slope(48, 64, "uint8", 255), slope(48, 64, "uint8", 120), slope(48, 64, "uint8", 60)], axis=-1)
)


def jpeg_markers(body: bytes) -> list[int]:
    """The markers before the scan."""
    at, found = 2, []
    while body[at + 1] != 0xDA:
        found.append(body[at + 1])
        at += 2 + struct.unpack(">H", body[at + 2 : at + 4])[0]
    return found


@pytest.mark.parametrize("media_type", STILL_MEDIA_TYPES)
def test_w_render_types_hold_the_picture(media_type: str) -> None:
    for ds, mode in ((GREY, "L"), (COLOUR, "RGB")):
        result = rendered(ds, Wish(media_type=media_type, quality=95))
        image = opened(result.body)
        assert (result.media_type, image.format, image.size) == (media_type, FORMATS[media_type], (64, 48))
        seen = np.asarray(image.convert(mode)).astype(int)
        assert np.abs(seen - drawn(ds)).mean() < (6 if media_type == "image/gif" else 2)


@pytest.mark.parametrize("media_type", ["image/png", "image/gif"])
def test_w_render_types_without_loss_keep_every_grey(media_type: str) -> None:
    assert np.array_equal(
        np.asarray(opened(rendered(GREY, Wish(media_type=media_type)).body).convert("L")), drawn(GREY)
    )


@pytest.mark.parametrize("icc_profile", [IccProfile.NO, IccProfile.YES])
def test_w_render_types_jpeg_is_baseline_with_huffman_coding(icc_profile: IccProfile) -> None:
    for ds in (GREY, COLOUR):
        markers = jpeg_markers(rendered(ds, Wish(icc_profile=icc_profile)).body)
        assert 0xC0 in markers
        assert not {*range(0xC1, 0xD0)} - {0xC4} & {*markers}


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/webp"])
def test_w_render_quality_changes_lossy_types(media_type: str) -> None:
    for ds in (GREY, COLOUR):
        sizes = [len(rendered(ds, Wish(media_type=media_type, quality=quality)).body) for quality in (1, 50, 100)]
        assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("media_type", ["image/png", "image/gif"])
def test_w_render_quality_changes_nothing_else(media_type: str) -> None:
    one, other = (rendered(COLOUR, Wish(media_type=media_type, quality=quality)).body for quality in (1, 100))
    assert one == other


def test_w_render_png16_is_written_with_16_bits() -> None:
    array = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = opened(rendered(grey(array), Wish(media_type="image/png", bits=16)).body)
    assert image.mode.startswith("I")
    assert np.array_equal(np.asarray(image), array)


def test_w_render_png16_is_the_only_type_of_16_bits() -> None:
    with pytest.raises(NotAcceptable, match="8 bits"):
        rendered(grey(slope()), Wish(bits=16))
    wish = Wish(media_type="image/png", bits=16, icc_profile=IccProfile.SRGB)
    assert opened(rendered(grey(slope()), wish).body).mode == "RGB"


def test_w_render_types_that_are_none() -> None:
    with pytest.raises(NotAcceptable, match="image/tiff"):
        rendered(GREY, Wish(media_type="image/tiff"))


def test_w_render_bomb_pictures_too_large_for_a_type_are_refused() -> None:
    with pytest.raises(NotAcceptable, match="16383"):
        encoded(np.zeros((1, 20_000), np.uint8), "image/webp", 80)
    assert opened(encoded(np.zeros((1, 20_000), np.uint8), "image/png", 80)).size == (20_000, 1)


def test_a_stored_frame_is_rendered_in_one_call() -> None:
    frame, attributes, _ = frame_of(part10(GREY))
    stored = render_stored(bytes(GREY.PixelData), "1.2.840.10008.1.2.1", frame.description, attributes, Wish())
    assert stored == rendered(GREY)
