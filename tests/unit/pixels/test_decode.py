"""Decoding against pydicom's decoders and those of others, over all test files; and cells of every kind."""

import hashlib
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels import convert_color_space, get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from storage.dicom.pixels.colour import rgb_of_ybr_full
from storage.dicom.pixels.conversion import can
from storage.dicom.pixels.decode import decode
from storage.dicom.pixels.description import Kind, PixelDescription
from storage.dicom.pixels.encode import encode
from storage.dicom.pixels.native import joined, packed
from storage.dicom.pixels.syntaxes import (
    DEFLATED_FRAME,
    HTJ2K_LOSSLESS_RPCL,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_XL_LOSSLESS,
)
from storage.dicom.pixels.transcode import transcode
from storage.dicom.syntax import EXPLICIT_LITTLE, RLE
from storage.errors import Invalid
from tests.samples import corpus
from tests.unit.pixels.expected import DIGESTS
from tests.unit.pixels.samples import MONOCHROME, RGB, described, descriptions, in_colours, pixels_of, smooth

_MOST_FRAMES = 3
_SMALL_PIXELS = 300 * 300
_UNREADABLE = {
    "JPEG2000-embedded-sequence-delimiter.dcm",  # a delimiter within its code stream
    "MR_truncated.dcm",
    "badVR.dcm",  # Number of Frames 1A
}


class PixelFile:
    """A test file read by pydicom: its description, and its frames little endian."""

    def __init__(self, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.ds = pydicom.dcmread(path, force=True)
            meta = getattr(self.ds, "file_meta", {})
            self.syntax = UID(meta.get("TransferSyntaxUID", ExplicitVRLittleEndian))
            attributes = pydicom.Dataset({e.tag: e for e in self.ds.group_dataset(0x28) if e.tag.elem < 0x1000})
            self.description = PixelDescription.of(attributes.to_json_dict())

    def frames(self) -> list[bytes]:
        value, count = self.ds.PixelData, self.description.frames
        if self.ds["PixelData"].is_undefined_length:
            return list(generate_frames(value, number_of_frames=count))
        if self.syntax == ExplicitVRBigEndian and self.ds["PixelData"].VR == "OW":
            value = np.frombuffer(value, ">u2").astype("<u2").tobytes()
            if self.description.allocated == 32:  # its words are big endian too
                value = np.frombuffer(value, "<u2").reshape(-1, 2)[:, ::-1].tobytes()
        if self.description.allocated == 1:
            return list(_bits(value, self.description))
        length = self.description.frame_bytes
        return [value[at * length : (at + 1) * length] for at in range(count)]


def _bits(value: bytes, description: PixelDescription) -> list[bytes]:
    flat = np.unpackbits(np.frombuffer(value, np.uint8), bitorder="little")
    size = description.frame_bits
    return [
        np.packbits(flat[at * size : (at + 1) * size], bitorder="little").tobytes() for at in range(description.frames)
    ]


@cache
def sizes() -> dict[Path, int]:
    """The files of the corpus that have pixel data that can be read, and the pixels of a frame of each."""
    found = {}
    for path in corpus():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(path, force=True, specific_tags=["Rows", "Columns", "PixelData"])
        if path.name not in _UNREADABLE and "Rows" in ds and "PixelData" in ds:
            found[path] = int(ds.Rows) * int(ds.Columns)
    return found


SMALL = [path for path, size in sizes().items() if size <= _SMALL_PIXELS]
LARGE = [path for path, size in sizes().items() if size > _SMALL_PIXELS]
HUGE = [path for path, size in sizes().items() if size > 1000 * 1000]


def of_pydicom(file: PixelFile, index: int) -> NDArray[Any]:
    """What pydicom makes of a frame, colours as RGB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array, _ = get_decoder(file.syntax).as_array(file.ds, index=index, raw=False)
    return array.astype(array.dtype.newbyteorder("="))


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.long if path in HUGE else (), id=path.name) for path in [*SMALL, *LARGE]],
)
def test_t_lossless_the_pixels_of_the_corpus_are_those_of_pydicom(path: Path) -> None:
    file = PixelFile(path)
    for index, frame in enumerate(file.frames()[:_MOST_FRAMES]):
        found = decode(frame, file.syntax, file.description)
        array = found.array
        if found.description.photometric == "YBR_FULL":
            array = rgb_of_ybr_full(array)
        if index == 0 and path.name in DIGESTS:
            assert hashlib.sha256(array.tobytes()).hexdigest() == DIGESTS[path.name]
        try:
            expected = of_pydicom(file, index)
        except (RuntimeError, NotImplementedError):  # no plugin of pydicom's is installed that can
            assert path.name in DIGESTS or file.syntax == JPEG_EXTENDED
            continue
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
        if file.syntax == JPEG_BASELINE:  # each decoder may round its cosine transform in its own way
            assert np.abs(array.astype(int) - expected.astype(int)).max() <= 2
        else:
            np.testing.assert_array_equal(array, expected)


_TARGETS = (
    EXPLICIT_LITTLE,
    DEFLATED_FRAME,
    RLE,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_2000_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    JPEG_XL_LOSSLESS,
)


def there_and_back(path: Path) -> None:
    file = PixelFile(path)
    frame = file.frames()[0]
    expected = decode(frame, file.syntax, file.description)
    for target in _TARGETS:
        if not can(file.syntax, target, file.description):
            continue
        there = transcode(frame, file.syntax, target, file.description)
        found = decode(there.data, target, there.description)
        np.testing.assert_array_equal(found.array, expected.array)
        assert found.description == expected.description


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.name)
def test_t_lossless_the_corpus_goes_there_and_back(path: Path) -> None:
    there_and_back(path)


@pytest.mark.long
@pytest.mark.parametrize("path", LARGE, ids=lambda path: path.name)
def test_t_lossless_large_images_of_the_corpus_go_there_and_back(path: Path) -> None:
    there_and_back(path)


def test_t_bits_twelve_bits_of_jpeg_extended_are_decoded() -> None:
    near = {}
    for path in corpus():
        if path.name in ("JPGExtended.dcm", "JPEG-lossy.dcm"):
            file = PixelFile(path)
            near[path.name] = decode(file.frames()[0], file.syntax, file.description)
    for found in near.values():
        assert found.array.dtype == np.uint16
        assert 255 < found.array.max() < 4096
        assert found.description.lossy


@settings(deadline=None)
@given(data=st.data())
def test_t_bits_native_cells_of_all_widths_are_read(data: st.DataObject) -> None:
    described_so = data.draw(descriptions(allocated=(1, 8, 16, 32, 64)))
    pixels = data.draw(pixels_of(described_so))
    frame = packed(pixels, described_so)
    assert len(frame) == described_so.frame_bytes
    assert frame == encode(pixels, described_so, EXPLICIT_LITTLE)
    found = decode(frame, EXPLICIT_LITTLE, described_so)
    assert found.description == described_so
    np.testing.assert_array_equal(found.array, pixels)


@pytest.mark.parametrize("allocated", [8, 16, 32, 64])
def test_w_frames_32_planes_and_pixels_are_the_same_image(allocated: int) -> None:
    described_so = in_colours(4, 3, bits=allocated)
    pixels = smooth(described_so)
    by_plane = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).tobytes()
    found = decode(by_plane, EXPLICIT_LITTLE, replace(described_so, planar=1))
    np.testing.assert_array_equal(found.array, pixels)
    assert found.description == described_so


@pytest.mark.parametrize(("kind", "dtype"), [(Kind.FLOAT, "<f4"), (Kind.DOUBLE, "<f8")])
def test_w_frames_float_are_read_and_written(kind: Kind, dtype: str) -> None:
    bits = 8 * np.dtype(dtype).itemsize
    described_so = replace(described(2, 3, bits, bits), kind=kind)
    pixels = np.array([[0.5, -1e30, np.inf], [np.nan, 0.0, 3.25]], dtype)
    found = decode(pixels.tobytes(), EXPLICIT_LITTLE, described_so)
    assert found.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.array, pixels)
    assert encode(found.array, found.description, EXPLICIT_LITTLE) == pixels.tobytes()


def test_w_frames_1bit_the_first_pixel_is_the_lowest_bit() -> None:
    found = decode(bytes([0b00000101, 0b1]), EXPLICIT_LITTLE, described(3, 3, 1, 1))
    np.testing.assert_array_equal(found.array, [[1, 0, 1], [0, 0, 0], [0, 0, 1]])


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), count=st.integers(0, 9), data=st.data())
def test_w_frames_1bit_frames_follow_each_other_without_padding(
    rows: int, columns: int, count: int, data: st.DataObject
) -> None:
    described_so = described(rows, columns, 1, 1)
    frames = [data.draw(pixels_of(described_so)) for _ in range(count)]
    value = b"".join(joined((packed(frame, described_so) for frame in frames), described_so))
    together = np.concatenate([frame.reshape(-1) for frame in frames]) if frames else np.zeros(0, np.uint8)
    assert value == np.packbits(together, bitorder="little").tobytes()


def test_frames_of_whole_bytes_are_joined_as_they_are() -> None:
    assert list(joined([b"ab", b"cd"], described(1, 2, 8, 8))) == [b"ab", b"cd"]


def test_w_frames_422_two_pixels_share_their_colour() -> None:
    frame = bytes([10, 20, 100, 200, 30, 40, 110, 210])
    found = decode(frame, EXPLICIT_LITTLE, in_colours(1, 4, "YBR_FULL_422"))
    expected = [[[10, 100, 200], [20, 100, 200], [30, 110, 210], [40, 110, 210]]]
    np.testing.assert_array_equal(found.array, expected)
    assert found.description.photometric == "YBR_FULL"
    assert found.description.planar == 0


def test_w_frames_422_needs_an_even_number_of_columns() -> None:
    with pytest.raises(Invalid):
        decode(bytes(1000), EXPLICIT_LITTLE, in_colours(4, 5, "YBR_FULL_422"))


def test_colours_of_studio_range_become_rgb() -> None:
    frame = bytes([16, 235, 128, 128])
    found = decode(frame, EXPLICIT_LITTLE, in_colours(1, 2, "YBR_PARTIAL_422"))
    np.testing.assert_array_equal(found.array, [[[0, 0, 0], [255, 255, 255]]])
    assert found.description.photometric == "RGB"


def test_luminance_and_chrominance_become_rgb_as_pydicom_has_it() -> None:
    values = np.array(np.meshgrid(*[np.arange(0, 256, 15)] * 3), np.uint8).reshape(3, -1).T.reshape(1, -1, 3)
    expected = convert_color_space(values, "YBR_FULL", "RGB")
    assert np.abs(rgb_of_ybr_full(values).astype(int) - expected.astype(int)).max() <= 1


def test_t_bits_bits_above_high_bit_are_left_out_and_signs_extended() -> None:
    cells = np.array([[0xF000, 0x1FFF], [0x8800, 0x07FF]], "<u2")
    unsigned = decode(cells.tobytes(), EXPLICIT_LITTLE, described(2, 2, 16, 12))
    np.testing.assert_array_equal(unsigned.array, [[0, 0xFFF], [0x800, 0x7FF]])
    signed = decode(cells.tobytes(), EXPLICIT_LITTLE, described(2, 2, 16, 12, signed=True))
    np.testing.assert_array_equal(signed.array, [[0, -1], [-2048, 2047]])
    assert signed.array.dtype == np.int16


def test_r_trunc_a_native_frame_that_is_cut_short_is_refused() -> None:
    whole = packed(smooth(MONOCHROME), MONOCHROME)
    decode(whole + b"\0", EXPLICIT_LITTLE, MONOCHROME)
    with pytest.raises(Invalid):
        decode(whole[:-1], EXPLICIT_LITTLE, MONOCHROME)
    with pytest.raises(Invalid):
        decode(b"", EXPLICIT_LITTLE, RGB)


def test_no_codec_is_loaded_to_know_what_is_possible() -> None:
    code = "import sys, storage.dicom.pixels.conversion; print('imagecodecs' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.strip() == "False"
