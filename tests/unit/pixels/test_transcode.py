"""From each transfer syntax to each other one and back: the same pixels, and a description that is true to them."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.dicom.pixels.conversion import can, changes, coded
from storage.dicom.pixels.decode import decode
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.pixels.encode import encode
from storage.dicom.pixels.native import packed
from storage.dicom.pixels.syntaxes import (
    DEFLATED_FRAME,
    ENCAPSULATED_UNCOMPRESSED,
    HTJ2K,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    JPEG_XL,
    JPEG_XL_LOSSLESS,
)
from storage.dicom.pixels.transcode import transcode
from storage.dicom.syntax import EXPLICIT_LITTLE, IMPLICIT_LITTLE, RLE
from storage.errors import Fault, Invalid
from tests.unit.pixels.samples import described, descriptions, in_colours, pixels_of, smooth

ENCODED = (
    EXPLICIT_LITTLE,
    ENCAPSULATED_UNCOMPRESSED,
    DEFLATED_FRAME,
    RLE,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    JPEG_2000_LOSSLESS,
    JPEG_2000,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    HTJ2K,
    JPEG_XL_LOSSLESS,
    JPEG_XL,
)


@pytest.mark.parametrize("syntax", ENCODED)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_t_lossless_what_is_encoded_is_decoded_again(syntax: str, data: st.DataObject) -> None:
    described_so = data.draw(descriptions())
    pixels = data.draw(pixels_of(described_so))
    if not can(EXPLICIT_LITTLE, syntax, described_so):
        with pytest.raises(Invalid):
            encode(pixels, described_so, syntax)
        return
    found = decode(encode(pixels, described_so, syntax), syntax, coded(described_so, syntax))
    assert found.array.dtype == pixels.dtype
    np.testing.assert_array_equal(found.array, pixels)
    assert found.description == described_so


KINDS = [
    described(6, 5, 8, 8),
    described(6, 5, 8, 6),
    described(6, 5, 8, 8, signed=True),
    described(6, 5, 16, 12),
    described(6, 5, 16, 12, signed=True),
    described(6, 5, 16, 16),
    described(6, 5, 16, 16, signed=True),
    described(6, 5, 16, 8),
    described(6, 5, 32, 32),
    described(6, 5, 32, 20, signed=True),
    described(6, 5, 64, 64, signed=True),
    described(5, 5, 1, 1),
    replace(described(6, 5, 16, 10), photometric="MONOCHROME1"),
    replace(described(6, 5, 8, 8), photometric="PALETTE COLOR"),
    in_colours(6, 5),
    in_colours(6, 5, bits=16),
    in_colours(6, 5, bits=32),
    in_colours(6, 5, "YBR_FULL"),
]


@pytest.mark.parametrize("described_so", KINDS, ids=lambda kind: f"{kind.photometric}-{kind.allocated}-{kind.stored}")
def test_t_lossless_there_and_back_between_all_syntaxes(described_so: PixelDescription) -> None:
    pixels = smooth(described_so)
    possible = [syntax for syntax in ENCODED if can(EXPLICIT_LITTLE, syntax, described_so)]
    assert {EXPLICIT_LITTLE, ENCAPSULATED_UNCOMPRESSED, DEFLATED_FRAME} <= set(possible)
    for source, target in product(possible, repeat=2):
        before = coded(described_so, source)
        there = transcode(encode(pixels, described_so, source), source, target, before)
        assert there.description == coded(described_so, target)
        found = decode(there.data, target, there.description)
        np.testing.assert_array_equal(found.array, pixels)
        back = transcode(there.data, target, EXPLICIT_LITTLE, there.description)
        assert back.description == described_so if target != EXPLICIT_LITTLE else there.description
        assert back.data == packed(pixels, described_so)


def test_t_lossless_every_coding_has_its_kinds() -> None:
    for syntax in ENCODED:
        assert can(EXPLICIT_LITTLE, syntax, described(4, 4, 16, 12)), syntax
        assert can(EXPLICIT_LITTLE, syntax, in_colours(4, 4)), syntax
        assert can(EXPLICIT_LITTLE, syntax, described(4, 4, 16, 16, signed=True)) is (
            syntax not in (JPEG_XL, JPEG_XL_LOSSLESS)
        )


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (EXPLICIT_LITTLE, ENCAPSULATED_UNCOMPRESSED),
        (IMPLICIT_LITTLE, EXPLICIT_LITTLE),
        (EXPLICIT_LITTLE, DEFLATED_FRAME),
        (EXPLICIT_LITTLE, RLE),
    ],
)
def test_t_bits_codings_of_cells_keep_the_bits_that_are_not_stored(source: str, target: str) -> None:
    described_so = described(3, 4, 16, 12, signed=True)
    cells = np.arange(12, dtype="<u2") * 0x1357 + 0x8FF0
    there = transcode(cells.tobytes(), source, target, described_so)
    assert there.description == described_so
    assert transcode(there.data, target, EXPLICIT_LITTLE, described_so).data == cells.tobytes()


def test_t_bits_overlays_in_unused_bits_go_nowhere_but_into_native_pixel_data() -> None:
    plain = described(4, 4, 16, 16)
    described_so = replace(plain, stored=12, high_bit=11, has_embedded_overlays=True)
    cells = smooth(plain)
    for target in set(ENCODED) - {EXPLICIT_LITTLE}:
        assert not can(EXPLICIT_LITTLE, target, described_so)
        with pytest.raises(Invalid):
            transcode(cells.tobytes(), EXPLICIT_LITTLE, target, described_so)
    for source in (JPEG_LOSSLESS_SV1, JPEG_2000_LOSSLESS, RLE):
        found = transcode(encode(cells, plain, source), source, EXPLICIT_LITTLE, described_so)
        assert found.data == cells.tobytes()
        assert found.description == described_so
        assert decode(encode(cells, plain, source), source, described_so).array.max() < 1 << 12


def test_t_bits_high_bit_goes_where_the_standard_wants_it() -> None:
    described_so = replace(described(2, 3, 16, 12, signed=True), high_bit=15)
    values = np.array([[-2048, -1, 0], [1, 5, 2047]], "<i2")
    native = (values << 4).tobytes()
    found = decode(native, EXPLICIT_LITTLE, described_so)
    np.testing.assert_array_equal(found.array, values)
    there = transcode(native, EXPLICIT_LITTLE, JPEG_LS_LOSSLESS, described_so)
    assert changes(described_so, there.description) == {"00280102": {"vr": "US", "Value": [11]}}
    np.testing.assert_array_equal(decode(there.data, JPEG_LS_LOSSLESS, there.description).array, values)


@pytest.mark.parametrize(
    ("source", "target"),
    [(JPEG_LOSSLESS_SV1, JPEG_LOSSLESS), (JPEG_2000_LOSSLESS, JPEG_2000), (HTJ2K_LOSSLESS_RPCL, HTJ2K_LOSSLESS)],
)
def test_a_frame_that_is_already_in_the_wanted_syntax_is_not_touched(source: str, target: str) -> None:
    described_so = described(6, 5, 16, 12)
    frame = encode(smooth(described_so), described_so, source)
    assert transcode(frame, source, target, described_so).data is frame


@pytest.mark.parametrize("target", [JPEG_BASELINE, "1.2.840.10008.1.2.2", IMPLICIT_LITTLE, "1.2.840.10008.1.2.4.102"])
def test_nothing_is_made_lossy_big_endian_implicit_or_a_video(target: str) -> None:
    described_so = described(6, 5, 8, 8)
    assert not can(JPEG_2000_LOSSLESS, target, described_so)
    with pytest.raises(Invalid) as raised:
        transcode(b"", JPEG_2000_LOSSLESS, target, described_so)
    assert raised.value.fault is Fault.TRANSFER_SYNTAX


def test_what_cannot_be_decoded_cannot_go_anywhere() -> None:
    video = "1.2.840.10008.1.2.4.102"
    assert can(video, video, in_colours(4, 4))
    assert not can(video, EXPLICIT_LITTLE, in_colours(4, 4))
    with pytest.raises(Invalid):
        decode(b"", video, in_colours(4, 4))


def test_an_array_that_is_not_as_described_is_refused() -> None:
    described_so = described(6, 5, 16, 12)
    for wrong in (np.zeros((5, 6), "<u2"), np.zeros((6, 5), "<i2"), np.zeros((6, 5), "u1"), np.zeros((6, 5, 3), "<u2")):
        with pytest.raises(Invalid):
            encode(wrong, described_so, RLE)
