"""Frame tables: every layout, what each frame's spans hold, and tables that do not fit their fragments."""

import io
import struct
import warnings
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRBigEndian

from storage.dicom.frames import FrameTable, Layout, Span
from storage.dicom.instance import Instance
from storage.dicom.parse import parse
from storage.errors import Invalid, NotFound
from tests import oracle
from tests.raw import encapsulated, explicit, item, parents, part10, pixel_description, uids
from tests.samples import corpus

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


def frame(instance: Instance, data: bytes, number: int) -> bytes:
    body = oracle.body_of(instance, data)
    return b"".join(body[offset : offset + length] for offset, length in instance.frames.spans(number))


def frames(instance: Instance, data: bytes) -> list[bytes]:
    return [frame(instance, data, number) for number in range(1, instance.frames.count + 1)]


def compressed(
    fragments: list[bytes], count: int | None, offsets: list[int], syntax: str, *, before: bytes = b""
) -> bytes:
    description = pixel_description(4, 4, frames=None if count is None else str(count))
    return part10(syntax, uids() + parents() + description + before + encapsulated(fragments, offsets))


def offsets_of(fragments: list[bytes], firsts: list[int]) -> list[int]:
    return [sum(8 + len(fragment) for fragment in fragments[:first]) for first in firsts]


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.name)
def test_the_frames_of_the_corpus_are_those_of_pydicom(path: Path) -> None:
    data = path.read_bytes()
    try:
        instance = parse(data)
    except Invalid:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(io.BytesIO(data), force=True)
        count = 1 if path.name == "badVR.dcm" else int(ds.get("NumberOfFrames") or 1)  # it has "1A" there
        keyword = next((k for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if k in ds), None)
        if keyword is None or not ds[keyword].value:
            assert instance.frames == FrameTable.none()
            return
        value = ds[keyword].value
        if ds[keyword].is_undefined_length:
            expected = list(generate_frames(value, number_of_frames=count))
        elif instance.frames.layout is Layout.BITS:
            assert instance.frames.bit_length == ds.Rows * ds.Columns * ds.get("SamplesPerPixel", 1)
            assert b"".join(frames(instance, data)[:1]) == value[: (instance.frames.bit_length + 7) // 8]
            return
        else:
            assert instance.frames.layout is Layout.NATIVE
            samples = 2 if ds.PhotometricInterpretation == "YBR_FULL_422" else ds.SamplesPerPixel
            length = ds.Rows * ds.Columns * samples * ds.BitsAllocated // 8
            expected = [value[at : at + length] for at in range(0, length * count, length)]
    assert frames(instance, data) == expected
    assert FrameTable.from_bytes(instance.frames.to_bytes()) == instance.frames


@pytest.mark.parametrize(
    "table",
    [
        FrameTable.none(),
        FrameTable.native(10, 64, 3),
        FrameTable.native(10, 63, 3),
        FrameTable.fragments([Span(8, 10), Span(26, 0)]),
        FrameTable.fragments([Span(8, 10), Span(26, 4), Span(38, 2)], [0, 2]),
        FrameTable.stream([Span(8, 1 << 40)], 2),
    ],
    ids=repr,
)
def test_a_table_survives_its_stored_form(table: FrameTable) -> None:
    again = FrameTable.from_bytes(table.to_bytes())
    assert again == table and hash(again) == hash(table)
    assert [again.spans(n) for n in range(1, again.count + 1)] == [table.spans(n) for n in range(1, table.count + 1)]
    for wrong in (0, -1, table.count + 1):
        with pytest.raises(NotFound):
            table.spans(wrong)
        with pytest.raises(NotFound):
            table.bit_offset(wrong)
    for broken in (table.to_bytes()[:-1], table.to_bytes() + b"\0", b"", b"\x09" + table.to_bytes()[1:]):
        with pytest.raises(ValueError):
            FrameTable.from_bytes(broken)


@pytest.mark.parametrize(
    ("table", "firsts"),
    [
        (FrameTable.none(), []),
        (FrameTable.native(8, 64, 3), []),
        (FrameTable.fragments([]), []),
        (FrameTable.fragments([Span(8, 10), Span(26, 0)]), [0, 1]),
        (FrameTable.fragments([Span(8, 10), Span(26, 4), Span(38, 2)], [0, 2]), [0, 2]),
        (FrameTable.stream([Span(8, 10), Span(26, 4)], 7), [0]),
    ],
)
def test_the_first_fragment_of_each_frame(table: FrameTable, firsts: list[int]) -> None:
    assert list(table.first_fragments()) == firsts


def test_tables_of_different_frames_are_not_equal() -> None:
    assert FrameTable.native(10, 64, 3) != FrameTable.native(10, 64, 4)
    assert FrameTable.fragments([Span(0, 2)]) != FrameTable.stream([Span(0, 2)], 1)
    assert FrameTable.none() != "none"


def test_the_stored_form_is_small_and_its_head_is_fixed() -> None:
    assert len(FrameTable.native(1 << 40, 1 << 33, 10**9).to_bytes()) == 32
    many = FrameTable.fragments([Span(number * 108, 100) for number in range(100_000)])
    assert len(many.to_bytes()) == 32 + 16 * 100_000
    assert many.spans(99_999) == (Span(99_998 * 108, 100),)


@given(st.integers(1, 200), st.integers(1, 40))
def test_packed_bits_are_covered_frame_by_frame(frame_bits: int, count: int) -> None:
    table = FrameTable.native(5, frame_bits, count)
    assert table.layout is (Layout.BITS if frame_bits % 8 else Layout.NATIVE)
    assert table.bit_length == frame_bits
    for number in range(1, count + 1):
        ((offset, length),) = table.spans(number)
        first = (offset - 5) * 8 + table.bit_offset(number)
        assert first == (number - 1) * frame_bits
        assert length == (table.bit_offset(number) + frame_bits + 7) // 8


@pytest.mark.parametrize(
    ("bits", "samples", "photometric", "frame_length"),
    [
        (8, 1, "MONOCHROME2", 16),
        (16, 1, "MONOCHROME2", 32),
        (32, 1, "MONOCHROME2", 64),
        (64, 1, "MONOCHROME2", 128),
        (8, 3, "RGB", 48),
        (8, 3, "YBR_FULL", 48),
        (8, 3, "YBR_FULL_422", 32),
        (1, 1, "MONOCHROME2", 2),
    ],
)
def test_the_length_of_a_native_frame(bits: int, samples: int, photometric: str, frame_length: int) -> None:
    value = bytes(number % 256 for number in range(frame_length * 3))
    description = explicit(0x00280002, "US", struct.pack("<H", samples))
    description += explicit(0x00280004, "CS", photometric.encode())
    description += pixel_description(4, 4, bits, frames="3")[10:]
    data = uids() + parents() + description + explicit(0x7FE00010, "OW", value)
    instance = parse(data)
    assert (instance.frames.layout, instance.frames.count) == (Layout.NATIVE, 3)
    assert frames(instance, data) == [value[at : at + frame_length] for at in range(0, len(value), frame_length)]
    assert instance.warnings == ()


@pytest.mark.parametrize(("tag", "vr", "length"), [(0x7FE00008, "OF", 64), (0x7FE00009, "OD", 128)])
def test_float_pixel_data_has_frames(tag: int, vr: str, length: int) -> None:
    value = bytes(range(length)) * 2
    data = uids() + parents() + pixel_description(4, 4, 32, frames="2") + explicit(tag, vr, value)
    assert frames(parse(data), data) == [value[:length], value[length:]]


@pytest.mark.parametrize("number", [None, "", "0", "x", "-3", "1.5"])
def test_without_a_number_of_frames_there_is_one(number: str | None) -> None:
    data = uids() + parents() + pixel_description(4, 4, frames=number) + explicit(0x7FE00010, "OB", bytes(16))
    assert parse(data).frames.count == 1


def test_frames_that_are_not_there_are_not_promised() -> None:
    data = uids() + parents() + pixel_description(4, 4, frames="3") + explicit(0x7FE00010, "OB", bytes(40))
    instance = parse(data)
    assert instance.frames.count == 2
    assert instance.warnings == ("the pixel data has 40 bytes instead of 48",)


@pytest.mark.parametrize(("rows", "bits"), [(0, 8), (4, 0)])
def test_a_description_that_says_nothing_gives_no_frames(rows: int, bits: int) -> None:
    data = uids() + parents() + pixel_description(rows, 4, bits) + explicit(0x7FE00010, "OB", bytes(16))
    instance = parse(data)
    assert instance.frames == FrameTable.none()
    assert "no frames" in instance.warnings[0]
    assert "7FE00010" in instance.bulk


JPEGS = [b"\xff\xd8" + bytes([number]) * 4 + b"\xff\xd9" for number in range(4)]
CUT = [part for jpeg in JPEGS for part in (jpeg[:4], jpeg[4:])]  # each in two fragments


@pytest.mark.parametrize("syntax", [JPEG_BASELINE, RLE, ENCAPSULATED_UNCOMPRESSED, "1.2.3.4.5"])
@pytest.mark.parametrize("offsets", [[], offsets_of(JPEGS, [0, 1, 2, 3]), [7, 8], [0, 1, 2, 3], [0] * 4])
def test_a_fragment_for_each_frame(syntax: str, offsets: list[int]) -> None:
    data = compressed(JPEGS, 4, offsets, syntax)
    instance = parse(data)
    assert frames(instance, data) == JPEGS
    assert instance.warnings == ()


@pytest.mark.parametrize("offsets", [[], offsets_of(CUT, [0, 2, 4, 6]), [0, 8], [0, 99, 100, 101]])
def test_several_fragments_for_each_frame(offsets: list[int]) -> None:
    data = compressed(CUT, 4, offsets, JPEG_BASELINE)
    assert frames(parse(data), data) == JPEGS


def test_the_offset_table_tells_frames_that_have_no_marks() -> None:
    fragments = [bytes([number]) * 4 for number in range(5)]
    data = compressed(fragments, 2, offsets_of(fragments, [0, 3]), "1.2.3.4.5")
    assert frames(parse(data), data) == [b"".join(fragments[:3]), b"".join(fragments[3:])]


def test_the_ends_of_code_streams_tell_frames_whose_starts_do_not() -> None:
    fragments = [b"ab", b"c\xff\xd9\0", b"de", b"f\xff\xd9\0"]
    data = compressed(fragments, 2, [], JPEG_BASELINE)
    assert frames(parse(data), data) == [b"abc\xff\xd9\0", b"def\xff\xd9\0"]


@pytest.mark.parametrize("start", [b"\xff\x4f\xff\x51", b"\xff\x0a", b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL "])
def test_code_streams_of_every_kind_are_known_by_their_start(start: bytes) -> None:
    fragments = [start + b"ab", b"cd", start + b"ef", b"gh", b"ij"]
    data = compressed(fragments, 2, [], "1.2.840.10008.1.2.4.90")
    assert frames(parse(data), data) == [b"".join(fragments[:2]), b"".join(fragments[2:])]


def test_an_extended_offset_table_comes_first() -> None:
    fragments = [bytes([number]) * 4 for number in range(5)]
    extended = explicit(0x7FE00001, "OV", struct.pack("<2Q", *offsets_of(fragments, [0, 2])))
    data = compressed(fragments, 2, [], "1.2.3.4.5", before=extended)
    assert frames(parse(data), data) == [b"".join(fragments[:2]), b"".join(fragments[2:])]


@pytest.mark.parametrize("value", [struct.pack("<2Q", 0, 5), struct.pack("<2Q", 12, 0), b"\0\0\0\0"])
def test_a_wrong_extended_offset_table_is_not_believed(value: bytes) -> None:
    extended = explicit(0x7FE00001, "OV", value)
    data = compressed(CUT[:4], 2, [], JPEG_BASELINE, before=extended)
    assert frames(parse(data), data) == JPEGS[:2]


def test_one_frame_in_many_fragments() -> None:
    data = compressed(CUT, None, [], JPEG_BASELINE)
    assert frames(parse(data), data) == [b"".join(JPEGS)]


def test_fewer_fragments_than_frames() -> None:
    data = compressed(JPEGS[:2], 4, [], JPEG_BASELINE)
    instance = parse(data)
    assert frames(instance, data) == JPEGS[:2]
    assert instance.warnings == ("2 fragments for 4 frames",)


def test_frames_that_cannot_be_told_apart_are_not_guessed() -> None:
    fragments = [bytes([number]) * 4 for number in range(5)]
    instance = parse(compressed(fragments, 2, [], "1.2.3.4.5"))
    assert instance.frames == FrameTable.none()
    assert instance.warnings == ("2 frames cannot be told apart in 5 fragments",)
    assert len(instance.bulk["7FE00010"].spans) == 5


def test_an_offset_table_that_contradicts_the_number_of_frames_counts_when_nothing_else_does() -> None:
    fragments = [bytes([number]) * 4 for number in range(5)]
    data = compressed(fragments, 2, offsets_of(fragments, [0, 1, 3]), "1.2.3.4.5")
    instance = parse(data)
    assert frames(instance, data) == [fragments[0], b"".join(fragments[1:3]), b"".join(fragments[3:])]
    assert instance.warnings == ("the offset table names 3 frames instead of 2",)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.102.1", "1.2.840.10008.1.2.4.107"])
def test_a_video_is_one_stream(syntax: str) -> None:
    data = compressed([b"abcd", b"efgh"], 250, [], syntax)
    instance = parse(data)
    assert (instance.frames.layout, instance.frames.count) == (Layout.STREAM, 250)
    assert frame(instance, data, 250) == b"abcdefgh"


@pytest.mark.parametrize("fragments", [[], [b""]])
def test_encapsulated_pixel_data_without_content(fragments: list[bytes]) -> None:
    instance = parse(compressed(fragments, None, [], JPEG_BASELINE))
    assert instance.frames.count == len(fragments)


def test_pixel_data_that_is_not_as_its_transfer_syntax_says_has_no_frames() -> None:
    native = uids() + parents() + pixel_description(4, 4) + explicit(0x7FE00010, "OB", bytes(16))
    assert parse(part10(JPEG_BASELINE, native)).frames == FrameTable.none()
    assert parse(compressed(JPEGS, 4, [], EXPLICIT_LITTLE)).frames == FrameTable.none()
    assert parse(part10("1.2.3.4.5", native)).frames.layout is Layout.NATIVE


def test_frames_in_big_endian_are_found_where_they_are() -> None:
    path = next(path for path in corpus() if path.name == "rtdose_expb.dcm")
    instance = parse(path.read_bytes())
    assert instance.transfer_syntax == ExplicitVRBigEndian
    assert (instance.frames.layout, instance.frames.count) == (Layout.NATIVE, 15)


def test_an_odd_fragment_is_taken_as_it_is() -> None:
    value = item(b"") + item(b"\xff\xd8abc") + b"\xfe\xff\xdd\xe0\0\0\0\0"
    body = uids() + parents() + pixel_description(4, 4) + explicit(0x7FE00010, "OB", value, 0xFFFFFFFF)
    data = part10(JPEG_BASELINE, body)
    assert frames(parse(data), data) == [b"\xff\xd8abc"]
