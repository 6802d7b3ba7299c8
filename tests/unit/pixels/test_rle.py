"""RLE: the order of its segments, where they lie, how they are padded, and what is wrong with damaged ones."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dicom.pixels.decode import decode
from storage.dicom.pixels.encode import encode
from storage.dicom.pixels.transcode import transcode
from storage.dicom.syntax import EXPLICIT_LITTLE, RLE
from storage.errors import Fault, Invalid
from tests.unit.pixels.samples import described, descriptions, in_colours, pixels_of, smooth

HEADER = struct.Struct("<16I")


def unpacked(segment: bytes) -> bytes:
    """The plain reading of PS3.5 G.3.2."""
    found, position = bytearray(), 0
    while position < len(segment) - 1:
        length = segment[position]
        if length < 128:
            found += segment[position + 1 : position + 2 + length]
            position += 2 + length
        else:
            if length > 128:
                found += segment[position + 1 : position + 2] * (257 - length)
            position += 2 if length > 128 else 1
    return bytes(found)


def segments(frame: bytes) -> list[bytes]:
    count, *offsets = HEADER.unpack_from(frame)
    assert offsets[count:] == [0] * (15 - count)
    assert all(offset % 2 == 0 for offset in offsets)
    ends = [*offsets[1:count], len(frame)]
    return [frame[start:end] for start, end in zip(offsets, ends, strict=False)]


def test_t_rle_byte_planes_come_most_significant_first() -> None:
    described_so = described(1, 2, 16, 16)
    frame = encode(np.array([[0x0102, 0x0304]], "<u2"), described_so, RLE)
    assert [unpacked(segment)[:2] for segment in segments(frame)] == [b"\x01\x03", b"\x02\x04"]


def test_t_rle_samples_come_one_after_the_other() -> None:
    frame = encode(np.array([[[1, 2, 3], [4, 5, 6]]], "u1"), in_colours(1, 2), RLE)
    assert [unpacked(segment)[:2] for segment in segments(frame)] == [b"\x01\x04", b"\x02\x05", b"\x03\x06"]


def test_t_rle_every_segment_is_even_and_no_run_goes_beyond_its_row() -> None:
    described_so = described(3, 300, 8, 8)
    frame = encode(np.zeros((3, 300), "u1"), described_so, RLE)
    (segment,) = segments(frame)
    assert len(frame) % 2 == 0
    runs = [257 - length for length in segment[::2] if length > 128]
    assert sum(runs) == 900
    ends = np.cumsum(runs)
    assert {300, 600, 900} <= set(ends.tolist())


@given(data=st.data())
def test_t_rle_is_read_as_the_standard_says(data: st.DataObject) -> None:
    described_so = data.draw(descriptions(allocated=(8, 16, 32)))
    pixels = data.draw(pixels_of(described_so))
    frame = encode(pixels, described_so, RLE)
    planes = pixels.view("u1").reshape(described_so.rows * described_so.columns, described_so.samples, -1)
    width = planes.shape[2]
    for number, segment in enumerate(segments(frame)):
        sample, byte = divmod(number, width)
        expected = planes[:, sample, width - 1 - byte].tobytes()
        assert unpacked(segment)[: len(expected)] == expected
    np.testing.assert_array_equal(decode(frame, RLE, described_so).array, pixels)


def test_t_rle_padding_that_reads_as_a_run_is_left_out() -> None:
    described_so = described(2, 2, 8, 8)
    body = b"\x03abcd" + b"\0\0\0\0"
    frame = HEADER.pack(1, 64, *[0] * 14) + body
    np.testing.assert_array_equal(decode(frame, RLE, described_so).array, [[97, 98], [99, 100]])


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x01" * 63,
        HEADER.pack(2, 64, 66, *[0] * 13) + b"\x03abcd",
        HEADER.pack(1, 60, *[0] * 14) + b"\x03abcd",
        HEADER.pack(1, 400, *[0] * 14) + b"\x03abcd",
        HEADER.pack(1, 64, *[0] * 14) + b"\x02abc",
        HEADER.pack(1, 64, *[0] * 14) + b"\x03abc",
        HEADER.pack(1, 64, *[0] * 14) + b"\x81a" * 5000,
    ],
    ids=["empty", "no header", "segments", "in header", "beyond", "short", "cut", "bomb"],
)
def test_a_damaged_rle_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(Invalid) as raised:
        decode(frame, RLE, described(2, 2, 8, 8))
    assert raised.value.fault is Fault.MALFORMED
    with pytest.raises(Invalid):
        transcode(frame, RLE, EXPLICIT_LITTLE, described(2, 2, 8, 8))


def test_segments_out_of_order_are_refused() -> None:
    described_so = described(1, 2, 16, 16)
    frame = encode(smooth(described_so), described_so, RLE)
    swapped = HEADER.pack(2, 68, 64, *[0] * 13) + frame[64:]
    with pytest.raises(Invalid):
        decode(swapped, RLE, described_so)
