"""What headers of code streams say, against what was encoded."""

import io

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from storage.dicom.pixels.decode import decode
from storage.dicom.pixels.jpeg_2000_header import read_jpeg_2000
from storage.dicom.pixels.jpeg_header import read_jpeg
from storage.dicom.pixels.jpeg_xl_header import read_jpeg_xl
from storage.dicom.pixels.syntaxes import JPEG_2000, Coding
from storage.errors import Invalid
from tests.unit.pixels.samples import described


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 700), columns=st.integers(1, 700), boxed=st.booleans(), bits=st.sampled_from([8, 10, 12, 16])
)
def test_jpeg_xl(rows: int, columns: int, boxed: bool, bits: int) -> None:
    array = np.zeros((rows, columns), np.uint8 if bits == 8 else np.uint16)
    frame = imagecodecs.jpegxl_encode(array, lossless=True, effort=1, bitspersample=bits, usecontainer=boxed)
    stream = read_jpeg_xl(bytes(frame))
    assert (stream.rows, stream.columns, stream.components, stream.precision) == (rows, columns, 1, bits)
    assert stream.reversible


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (9, 12), (270, 480), (256, 256), (600, 1200), (2000, 3000)])
def test_jpeg_xl_in_colour(rows: int, columns: int) -> None:
    array = np.zeros((rows, columns, 3), np.uint8)
    lossless = read_jpeg_xl(bytes(imagecodecs.jpegxl_encode(array, lossless=True, effort=1)))
    assert (lossless.rows, lossless.columns, lossless.components) == (rows, columns, 3)
    assert lossless.reversible
    lossy = read_jpeg_xl(bytes(imagecodecs.jpegxl_encode(array, distance=2.0, effort=1)))
    assert (lossy.rows, lossy.columns, lossy.components) == (rows, columns, 3)
    assert not lossy.reversible


def test_jpeg_xl_that_moves_or_has_more_than_colours_is_refused() -> None:
    moving = imagecodecs.jpegxl_encode(np.zeros((3, 20, 20, 3), np.uint8), lossless=True)
    with_alpha = imagecodecs.jpegxl_encode(np.zeros((20, 20, 4), np.uint8), lossless=True)
    floating = imagecodecs.jpegxl_encode(np.zeros((20, 20), np.float32), lossless=True)
    for frame in (moving, with_alpha, floating):
        with pytest.raises(Invalid):
            read_jpeg_xl(bytes(frame))


@pytest.mark.parametrize("codec_format", ["J2K", "JP2"])
@pytest.mark.parametrize(("reversible", "mct"), [(True, True), (True, False), (False, True)])
def test_jpeg_2000(codec_format: str, reversible: bool, mct: bool) -> None:
    array = np.random.default_rng(1).integers(0, 255, (30, 50, 3), np.uint8)
    frame = bytes(imagecodecs.jpeg2k_encode(array, codecformat=codec_format, reversible=reversible, level=60, mct=mct))
    stream = read_jpeg_2000(frame)
    assert (stream.rows, stream.columns, stream.components, stream.precision) == (30, 50, 3, 8)
    assert (stream.coding, stream.signed) == (Coding.JPEG_2000, False)
    assert (stream.reversible, stream.transformed, stream.is_whole) == (reversible, mct, True)
    assert not read_jpeg_2000(frame[:-10]).is_whole


def test_jpeg_2000_in_tiles_and_layers_is_whole_with_all_of_them() -> None:
    array = np.random.default_rng(1).integers(0, 255, (70, 90), np.uint8)
    file = io.BytesIO()
    Image.fromarray(array).save(
        file, "JPEG2000", no_jp2=True, tile_size=(32, 32), quality_layers=[4, 2, 0], irreversible=False
    )
    frame = file.getvalue()
    stream = read_jpeg_2000(frame)
    assert (stream.rows, stream.columns, stream.is_whole) == (70, 90, True)
    np.testing.assert_array_equal(decode(frame, JPEG_2000, described(70, 90, 8, 8)).array, array)
    last = frame.rindex(b"\xff\x90\x00\x0a")
    assert not read_jpeg_2000(frame[:last] + b"\xff\xd9").is_whole


def test_jpeg() -> None:
    array = np.zeros((30, 50), np.uint8)
    baseline = read_jpeg(bytes(imagecodecs.jpeg8_encode(array, level=90)))
    assert (baseline.coding, baseline.rows, baseline.columns, baseline.precision) == (Coding.JPEG, 30, 50, 8)
    assert not baseline.reversible
    near = read_jpeg(bytes(imagecodecs.jpegls_encode(array, level=2)))
    assert (near.coding, near.rows, near.columns, near.reversible) == (Coding.JPEG_LS, 30, 50, False)
    lossless = read_jpeg(bytes(imagecodecs.jpeg8_encode(array, lossless=True, predictor=1)))
    assert (lossless.coding, lossless.reversible, lossless.is_whole) == (Coding.JPEG_LOSSLESS, True, True)


def test_jpeg_with_fill_bytes_and_comments() -> None:
    frame = bytes(imagecodecs.jpeg8_encode(np.zeros((30, 50), np.uint8), level=90))
    padded = frame[:2] + b"\xff\xff\xfe\0\x06abcd" + frame[2:]
    assert read_jpeg(padded) == read_jpeg(frame)


@pytest.mark.parametrize(
    "frame", [b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xc0\0", b"\xff\xd8\0\0", b"\xff\xd8\xff"]
)
def test_a_header_that_breaks_off_is_damaged(frame: bytes) -> None:
    with pytest.raises(Invalid):
        read_jpeg(frame)
