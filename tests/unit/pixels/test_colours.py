"""Colours: what code stream and data set say of them, together and against each other, and what comes out."""

import io
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from storage.dicom.pixels.colour import rgb_of_ybr_full
from storage.dicom.pixels.conversion import changes, coded
from storage.dicom.pixels.decode import decode
from storage.dicom.pixels.encode import encode
from storage.dicom.pixels.syntaxes import (
    HTJ2K_LOSSLESS,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    JPEG_XL,
    JPEG_XL_RECOMPRESSION,
)
from storage.dicom.pixels.transcode import transcode
from storage.dicom.syntax import EXPLICIT_LITTLE, RLE
from storage.errors import Invalid
from tests.unit.pixels.samples import described, in_colours, smooth

SIZE = (16, 24)
CONTENT = np.full((*SIZE, 3), (200, 40, 90), np.uint8)  # of one colour, so that a cosine transform loses little
ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"
JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"


def bare(*, subsampling: str = "444", transformed: bool = True) -> bytes:
    """The content as JPEG without any marker that tells about colours, with the identifiers 1, 2 and 3."""
    frame = bytes(
        imagecodecs.jpeg8_encode(
            CONTENT,
            level=98,
            colorspace="RGB",
            outcolorspace="YCBCR" if transformed else "RGB",
            subsampling=subsampling,
        )
    )
    bare_frame = frame.replace(JFIF, b"", 1).replace(ADOBE + b"\0", b"", 1)
    assert len(bare_frame) < len(frame)
    return bare_frame if transformed else numbered(bare_frame, b"\1\2\3")


def numbered(frame: bytes, identifiers: bytes) -> bytes:
    """With these identifiers of the components."""
    start = frame.index(b"\xff\xc0")
    scan = frame.index(b"\xff\xda")
    found = bytearray(frame)
    found[start + 10 : start + 19 : 3] = identifiers
    found[scan + 5 : scan + 11 : 2] = identifiers
    return bytes(found)


def marked(frame: bytes, marker: bytes) -> bytes:
    return frame[:2] + marker + frame[2:]


def is_content(array: NDArray[Any]) -> bool:
    return bool(np.abs(array.astype(int) - CONTENT).max() <= 4)


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        (bare(), "YBR_FULL_422"),
        (bare(), "YBR_FULL"),
        (bare(), "YBR_RCT"),
        (bare(subsampling="422"), "YBR_FULL_422"),
        (bare(subsampling="420"), "RGB"),
        (marked(bare(), JFIF), "RGB"),
        (marked(bare(), ADOBE + b"\1"), "RGB"),
        (bare(transformed=False), "RGB"),
        (marked(bare(transformed=False), ADOBE + b"\0"), "YBR_FULL_422"),
        (marked(bare(transformed=False), ADOBE + b"\0"), "RGB"),
        (marked(bare(transformed=False), ADOBE + b"\xdb"), "RGB"),
        (numbered(bare(transformed=False), b"RGB"), "YBR_FULL"),
        (numbered(bare(transformed=False), b"rgb"), "YBR_FULL_422"),
        (bare(), "MONOCHROME2"),
    ],
)
def test_t_pi_jpeg_becomes_rgb_whatever_its_tags_say(frame: bytes, named: str) -> None:
    before = in_colours(*SIZE, named)
    found = decode(frame, JPEG_BASELINE, before)
    assert is_content(found.array)
    assert found.description == replace(before, photometric="RGB", lossy=True)
    there = transcode(frame, JPEG_BASELINE, EXPLICIT_LITTLE, before)
    assert there.data == found.array.tobytes()
    expected: dict[str, Any] = {"00282110": {"vr": "CS", "Value": ["01"]}}
    if named != "RGB":
        expected["00280004"] = {"vr": "CS", "Value": ["RGB"]}
    assert changes(before, there.description) == expected


def test_t_pi_planes_become_pixels() -> None:
    before = replace(in_colours(*SIZE), planar=1, lossy=True)
    there = transcode(bare(), JPEG_BASELINE, EXPLICIT_LITTLE, replace(before, photometric="YBR_FULL"))
    assert changes(before, there.description) == {"00280006": {"vr": "US", "Value": [0]}}


def test_t_pi_samples_are_those_of_the_code_stream() -> None:
    before = replace(described(*SIZE, 8, 8), lossy=True)
    there = transcode(marked(bare(), JFIF), JPEG_BASELINE, EXPLICIT_LITTLE, before)
    assert changes(before, there.description) == {
        "00280002": {"vr": "US", "Value": [3]},
        "00280004": {"vr": "CS", "Value": ["RGB"]},
    }
    grey = bytes(imagecodecs.jpeg8_encode(CONTENT[..., 0].copy(), level=98))
    found = decode(grey, JPEG_BASELINE, in_colours(*SIZE, "YBR_FULL_422"))
    assert (found.array.shape, found.description.samples) == (SIZE, 1)
    assert found.description.photometric == "MONOCHROME2"


@pytest.mark.parametrize("syntax", [JPEG_2000_LOSSLESS, HTJ2K_LOSSLESS])
@pytest.mark.parametrize("named", ["YBR_RCT", "YBR_ICT", "RGB", "YBR_FULL"])
def test_t_pi_a_colour_transform_of_jpeg_2000_is_undone(syntax: str, named: str) -> None:
    described_so = in_colours(6, 7)
    pixels = smooth(described_so)
    frame = encode(pixels, described_so, syntax)
    found = decode(frame, syntax, in_colours(6, 7, named))
    np.testing.assert_array_equal(found.array, pixels)
    assert found.description == described_so
    assert coded(described_so, syntax).photometric == "YBR_RCT"


@pytest.mark.parametrize(
    ("named", "expected"), [("YBR_RCT", "RGB"), ("YBR_ICT", "RGB"), ("RGB", "RGB"), ("YBR_FULL", "YBR_FULL")]
)
def test_t_pi_jpeg_2000_without_a_colour_transform_is_what_its_tag_says(named: str, expected: str) -> None:
    pixels = smooth(in_colours(6, 7))
    frame = bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", reversible=True, mct=False))
    found = decode(frame, JPEG_2000_LOSSLESS, in_colours(6, 7, named))
    np.testing.assert_array_equal(found.array, pixels)
    assert found.description.photometric == expected


@pytest.mark.parametrize("syntax", [RLE, JPEG_LOSSLESS, JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS, HTJ2K_LOSSLESS])
def test_t_pi_luminance_and_chrominance_without_loss_stay_as_they_are(syntax: str) -> None:
    described_so = in_colours(6, 7, "YBR_FULL")
    pixels = smooth(described_so)
    after = coded(described_so, syntax)
    assert after.photometric == "YBR_FULL"
    found = decode(encode(pixels, described_so, syntax), syntax, after)
    np.testing.assert_array_equal(found.array, pixels)
    assert found.description == described_so


def test_t_pi_rle_says_that_its_colours_are_planes() -> None:
    described_so = in_colours(6, 7)
    there = transcode(smooth(described_so).tobytes(), EXPLICIT_LITTLE, RLE, described_so)
    assert changes(described_so, there.description) == {"00280006": {"vr": "US", "Value": [1]}}


def test_t_pi_subsampled_native_colours_go_into_rle_whole() -> None:
    described_so = in_colours(2, 4, "YBR_FULL_422")
    native = bytes(range(16))
    there = transcode(native, EXPLICIT_LITTLE, RLE, described_so)
    assert there.description.photometric == "YBR_FULL"
    expected = decode(native, EXPLICIT_LITTLE, described_so).array
    np.testing.assert_array_equal(decode(there.data, RLE, there.description).array, expected)


def test_t_lossy_what_has_lost_something_says_so() -> None:
    colours = in_colours(*SIZE)
    grey = described(*SIZE, 8, 8)
    near = bytes(imagecodecs.jpegls_encode(smooth(grey), level=3))
    irreversible = bytes(imagecodecs.jpeg2k_encode(smooth(colours), level=30, codecformat="J2K"))
    from_xyb = bytes(imagecodecs.jpegxl_encode(CONTENT, distance=1.0))
    repacked = bytes(imagecodecs.jpegxl_encode_jpeg(marked(bare(), JFIF)))
    assert decode(near, JPEG_LS_NEAR_LOSSLESS, grey).description.lossy
    assert decode(irreversible, JPEG_2000, colours).description.lossy
    assert decode(from_xyb, JPEG_XL, colours).description.lossy
    found = decode(repacked, JPEG_XL_RECOMPRESSION, in_colours(*SIZE, "YBR_FULL_422"))
    assert found.description.lossy
    assert found.description.photometric == "RGB"
    assert is_content(found.array)
    for syntax in (JPEG_LS_LOSSLESS, JPEG_2000, HTJ2K_LOSSLESS, JPEG_XL, JPEG_LOSSLESS):
        assert not decode(encode(smooth(grey), grey, syntax), syntax, grey).description.lossy


def test_a_code_stream_under_the_syntax_of_another_is_decoded_as_what_it_is() -> None:
    described_so = in_colours(6, 7)
    frame = encode(smooth(described_so), described_so, JPEG_2000_LOSSLESS)
    np.testing.assert_array_equal(decode(frame, JPEG_BASELINE, described_so).array, smooth(described_so))
    cosine = decode(marked(bare(), JFIF), JPEG_LOSSLESS, in_colours(*SIZE, "YBR_FULL"))
    assert cosine.description.photometric == "RGB"
    assert is_content(cosine.array)


def test_four_components_are_refused() -> None:
    stream = io.BytesIO()
    Image.new("CMYK", SIZE[::-1]).save(stream, "JPEG")
    with pytest.raises(Invalid):
        decode(stream.getvalue(), JPEG_BASELINE, in_colours(*SIZE))


def test_wide_luminance_and_chrominance_become_rgb() -> None:
    wide = np.array([[[0xFFFF, 0x8000, 0x8000], [0, 0x8000, 0x8000]]], np.uint16)
    np.testing.assert_array_equal(rgb_of_ybr_full(wide, 16), [[[0xFFFF] * 3, [0] * 3]])


@pytest.mark.parametrize(
    ("precision", "cells"),
    [(16, [[0xFFFF, 0x07FF], [0xF800, 0]]), (16, [[0x0FFF, 0x07FF], [0x0800, 0]]), (12, [[0xFFF, 0x7FF], [0x800, 0]])],
)
def test_t_bits_signed_values_are_extended_from_a_code_stream_without_sign(
    precision: int, cells: list[list[int]]
) -> None:
    """Encoders differ in what they leave in the bits above those that are stored."""
    array = np.array(cells, np.uint16)
    described_so = described(2, 2, 16, 12, signed=True)
    lossless = bytes(imagecodecs.jpeg8_encode(array, lossless=True, predictor=1, bitspersample=precision))
    wavelet = bytes(imagecodecs.jpeg2k_encode(array, codecformat="J2K", reversible=True, bitspersample=precision))
    for frame, syntax in ((lossless, JPEG_LOSSLESS), (wavelet, JPEG_2000_LOSSLESS)):
        np.testing.assert_array_equal(decode(frame, syntax, described_so).array, [[-1, 2047], [-2048, 0]])


def test_t_bits_the_sign_is_where_the_code_stream_has_it() -> None:
    array = np.array([[0x1FFF, 0x0FFF], [0x1000, 0]], np.uint16)
    frame = bytes(imagecodecs.jpeg2k_encode(array, codecformat="J2K", reversible=True, bitspersample=13))
    found = decode(frame, JPEG_2000_LOSSLESS, described(2, 2, 16, 16, signed=True))
    np.testing.assert_array_equal(found.array, [[-1, 4095], [-4096, 0]])


def test_t_bits_more_bits_than_are_allocated_are_refused() -> None:
    described_so = described(6, 5, 16, 12)
    frame = encode(smooth(described_so), described_so, JPEG_LOSSLESS)
    with pytest.raises(Invalid):
        decode(frame, JPEG_LOSSLESS, described(6, 5, 8, 8))
