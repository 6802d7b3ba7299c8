"""The form of what is encoded as HTJ2K (PS3.5 10.18), and that its decoder does not fail in silence."""

import imagecodecs
import numpy as np
import pytest

from storage.dicom.pixels.decode import decode
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.pixels.encode import encode
from storage.dicom.pixels.jpeg_2000_header import read_jpeg_2000
from storage.dicom.pixels.syntaxes import HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, Coding
from storage.errors import Invalid
from tests.unit.pixels.samples import described, in_colours, smooth

RPCL = 2


@pytest.mark.parametrize(("rows", "columns"), [(6, 5), (64, 64), (512, 512), (1000, 2049), (3, 4200)])
def test_t_htj2k_is_for_progressive_display(rows: int, columns: int) -> None:
    described_so = described(rows, columns, 16, 12)
    frame = encode(smooth(described_so), described_so, HTJ2K_LOSSLESS_RPCL)
    style = frame.index(b"\xff\x52")
    assert frame[style + 5] == RPCL
    levels = frame[style + 9]
    assert max(rows, columns) / (1 << levels) <= 64
    assert 0 < frame.index(b"\xff\x55") < frame.index(b"\xff\x90")  # the lengths of the tile-parts, in the main header


@pytest.mark.parametrize(
    "described_so",
    [
        described(40, 50, 16, 12),
        described(40, 50, 16, 10, signed=True),
        described(40, 50, 16, 16),
        described(40, 50, 8, 7),
        in_colours(40, 50),
    ],
    ids=str,
)
def test_t_bits_htj2k_names_the_bits_that_are_stored(described_so: PixelDescription) -> None:
    frame = encode(smooth(described_so), described_so, HTJ2K_LOSSLESS)
    stream = read_jpeg_2000(frame)
    assert (stream.coding, stream.precision, stream.signed) == (
        Coding.HTJ2K,
        described_so.stored,
        described_so.signed,
    )
    assert stream.reversible
    other = imagecodecs.jpeg2k_decode(frame)  # another decoder, which knows this coding too
    np.testing.assert_array_equal(other, smooth(described_so))


def test_samples_that_cannot_be_decoded_are_an_error() -> None:
    described_so = described(512, 512, 16, 12)
    frame = bytearray(encode(smooth(described_so), described_so, HTJ2K_LOSSLESS))
    tile = frame.index(b"\xff\x93") + 2
    refused = 0
    for at in range(tile, len(frame) - 40, len(frame) // 40):
        damaged = frame[:at] + b"\xff" * 24 + frame[at + 24 :]
        try:
            decode(bytes(damaged), HTJ2K_LOSSLESS, described_so)
        except Invalid:
            refused += 1
    assert refused
