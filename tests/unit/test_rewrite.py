"""Stored instances rewritten in Explicit VR Little Endian: nothing lost, and read by others as what they were."""

import copy
import io
import struct
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from storage.dicom import syntax
from storage.dicom.aroundpixels import AroundPixels, Encapsulated, Native, Pixels, as_stored, fragment
from storage.dicom.frames import Layout
from storage.dicom.identity import Identity
from storage.dicom.instance import Instance
from storage.dicom.parse import parse
from storage.dicom.rewrite import pixel_unit, rewrite
from storage.dicom.values import swapped
from storage.errors import Fault, Invalid
from tests import raw, samples
from tests.oracle import UNITS, body_of
from tests.raw import SEQUENCE_END, UNDEFINED, encapsulated, explicit, implicit, item, open_item

GE_PRIVATE = "1.2.840.113619.5.2"
BIG = (ExplicitVRBigEndian, GE_PRIVATE)
PIXEL_PATHS = ("7FE00008", "7FE00009", "7FE00010")
OF_ENCAPSULATION = {"7FE00001", "7FE00002", "7FE00003"}


class Cut:
    """A stored instance as whoever sends it reads it: what lies before its pixel data, the pixel data, and the rest."""

    def __init__(self, data: bytes) -> None:
        self.instance = parse(data)
        body = body_of(self.instance, data)
        path = next((path for path in PIXEL_PATHS if path in self.instance.bulk), None)
        self.head, self.rest, self.values = body, b"", list[bytes]()
        if path is not None:
            spans = self.instance.bulk[path].spans
            self.head, self.rest = body[: spans[0].offset], body[spans[-1].offset + spans[-1].length :]
            self.values = [body[offset : offset + length] for offset, length in spans]
        self.is_encapsulated = bool(self.values) and is_encapsulated(self.instance)

    @property
    def pixels(self) -> Pixels | None:
        if not self.values:
            return None
        if self.is_encapsulated:
            return as_stored(self.instance.frames, self.instance.bulk["7FE00010"].spans)
        return Native(len(self.values[0]))

    def rewritten(self, target: str = ExplicitVRLittleEndian, **more: Any) -> AroundPixels:
        more = {"pixels": self.pixels, "rest": self.rest} | more
        return rewrite(self.head, self.instance.transfer_syntax, target, self.instance.identity, **more)

    def file(self, target: str = ExplicitVRLittleEndian, **more: Any) -> bytes:
        """The whole file, with its pixel data kept as it is but for the order of bytes."""
        around = self.rewritten(target, **more)
        return whole(around, b"".join(map(fragment, self.values)) if self.is_encapsulated else self.native())

    def native(self) -> bytes:
        if not self.values:
            return b""
        path = next(path for path in PIXEL_PATHS if path in self.instance.bulk)
        (bits,) = self.instance.dataset.get("00280100", {}).get("Value", [8])
        unit = pixel_unit(self.instance.transfer_syntax, self.instance.bulk[path].vr, bits)
        return swapped(self.values[0], unit)


def is_encapsulated(instance: Instance) -> bool:
    return instance.frames.layout in (Layout.FRAGMENTS, Layout.STREAM) or not syntax.is_native(instance.transfer_syntax)


def whole(around: AroundPixels, pixels: bytes) -> bytes:
    file = around.head + pixels + around.tail
    assert around.length in (None, len(file))
    return file


def rewritten(
    dataset: bytes, stored: str = ExplicitVRLittleEndian, *, target: str = ExplicitVRLittleEndian, **more: Any
) -> bytes:
    """The data set of a rewritten file, for instances without pixel data."""
    around = rewrite(dataset, stored, target, Identity("1.1", "1.2", "1.3", "1.4"), **more)
    return samples.dataset_bytes(whole(around, b""))


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data), force=True)


@pytest.mark.parametrize("path", samples.corpus(), ids=lambda path: path.name)
def test_w_preserve_every_file_of_the_corpus_keeps_its_elements(path: Path) -> None:
    data = path.read_bytes()
    try:
        cut = Cut(data)
    except Invalid:
        return  # which of them, and why, is settled in test_parse
    target = cut.instance.transfer_syntax if cut.is_encapsulated else ExplicitVRLittleEndian
    file = cut.file(target)
    again = parse(file)
    assert (again.identity, again.transfer_syntax) == (cut.instance.identity, target)
    assert again.frames.count == cut.instance.frames.count
    for number in range(1, min(again.frames.count, 3) + 1):
        assert frame(again, file, number) == frame(cut.instance, data, number) or cut.instance.transfer_syntax in BIG
    before, after = cut.instance.dataset, again.dataset
    assert list(before) == list(after)
    for key in before:
        if cut.is_encapsulated and key == "7FE00010":
            assert after[key] == {"vr": "OB", "BulkDataURI": "bulkdata/7FE00010"}  # PS3.5 A.4, whatever was declared
        else:
            assert after[key] == before[key]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert elements(read(file)) == elements(
            by_pydicom(data, target), big=cut.instance.transfer_syntax == ExplicitVRBigEndian
        )


def frame(instance: Instance, data: bytes, number: int) -> bytes:
    """A frame without the padding of its last fragment."""
    body = body_of(instance, data)
    found = b"".join(body[offset : offset + length] for offset, length in instance.frames.spans(number))
    return found.rstrip(b"\0") if is_encapsulated(instance) else found


def by_pydicom(data: bytes, target: str) -> Dataset:
    """What pydicom writes in the target syntax, where it knows how; otherwise what it reads."""
    ds = read(data)
    if not target.startswith(ExplicitVRLittleEndian) or target == ds.file_meta.get("TransferSyntaxUID"):
        return ds
    stream = io.BytesIO()
    try:
        pydicom.dcmwrite(stream, ds, implicit_vr=False, little_endian=True, force_encoding=True)
    except Exception:  # values that pydicom does not write; those it reads are compared
        return ds
    stream.seek(0)
    written = pydicom.dcmread(stream, force=True)
    return written if written.keys() == ds.keys() else ds


def elements(ds: Dataset, path: str = "", *, big: bool = False) -> dict[str, Any]:
    """The elements that both have to have, with their values; not pixel data, which is compared elsewhere.

    pydicom leaves binary values in `big` endian as they are, also where it writes little endian.
    """
    found: dict[str, Any] = {}
    for tag in list(ds.keys()):
        if not tag.element or tag.group < 8 or tag.group in (0x7FE0, 0xFFFC):
            continue
        try:
            element = ds[tag]
        except Exception:  # what pydicom cannot read must stay, and be unreadable for it again
            found[f"{path}{tag:08X}"] = "unreadable"
            continue
        if element.VR == "SQ":
            for number, item in enumerate(element.value, 1):
                found |= elements(item, f"{path}{tag:08X}/{number}/", big=big)
        value = element.value if element.VR != "SQ" else None
        if isinstance(value, bytes):
            value = swapped(value, UNITS.get(element.VR, 1) if big else 1).rstrip(b"\0")
        found[f"{path}{tag:08X}"] = (element.VM, repr(value))
    return found


@pytest.mark.parametrize("stored", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_w_no_implicit_w_bigendian_w_deflated_become_what_explicit_is(stored: str) -> None:
    ds = samples.ct()
    ds.add_new(0x00280106, "SS", -7)
    ds.add_new(0x00189087, "FD", [1.5, -2.25])
    ds.add_new(0x00280009, "AT", [0x00181063, 0x00181065])
    ds.RequestAttributesSequence = [Dataset()]
    ds.RequestAttributesSequence[0].add_new(0x00081160, "IS", "3")
    ds.RequestAttributesSequence[0].add_new(0x00280106, "SS", 258)
    expected = samples.dataset_bytes(samples.part10(ds))
    assert samples.dataset_bytes(Cut(stored_in(ds, stored)).file()) == expected


def stored_in(ds: Dataset, transfer_syntax: str) -> bytes:
    """The Part 10 file, with binary values in its byte order, which pydicom leaves to the caller."""
    if transfer_syntax == ExplicitVRBigEndian:
        ds = copy.deepcopy(ds)
        for element in ds.iterall():
            if element.VR in UNITS and isinstance(element.value, bytes):
                element.value = swapped(element.value, UNITS[element.VR])
    return samples.part10(ds, transfer_syntax)


def test_w_bigendian_swaps_by_vr_and_leaves_bytes_texts_and_unknown_values() -> None:
    def big(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
        length = len(value) if length is None else length
        head = struct.pack(">HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
        return head + (struct.pack(">HI", 0, length) if vr in raw.LONG else struct.pack(">H", length)) + value

    words = bytes(range(8))
    swaps = {"OB": 1, "UN": 1, "LO": 1, "OW": 2, "US": 2, "SS": 2, "AT": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4}
    swaps |= {"OL": 4, "OD": 8, "FD": 8, "OV": 8, "SV": 8, "UV": 8}
    for vr, unit in swaps.items():
        nested = struct.pack(">HHI", 0xFFFE, 0xE000, 8 + len(words) + (4 if vr in raw.LONG else 0))
        inner = big(0x00310010, vr, words)
        value = swapped(words, unit)
        found = rewritten(big(0x00310001, vr, words) + big(0x00310020, "SQ", nested + inner), ExplicitVRBigEndian)
        assert found == explicit(0x00310001, vr, value) + explicit(
            0x00310020, "SQ", item(explicit(0x00310010, vr, value))
        )


def test_w_bigendian_pixel_words() -> None:
    assert [pixel_unit(ExplicitVRBigEndian, vr, 16) for vr in ("OB", "OW", "OF", "OD")] == [1, 2, 4, 8]
    assert [pixel_unit(GE_PRIVATE, "OW", bits) for bits in (8, 16)] == [1, 2]
    assert pixel_unit(ImplicitVRLittleEndian, "OW", 16) == pixel_unit(ExplicitVRLittleEndian, "OD", 64) == 1


def test_w_len16_values_too_long_for_their_vr_become_unknown() -> None:
    short, long = b"ab" * 0x7FFF, b"ab" * 0x8000
    found = rewritten(implicit(0x00081030, short) + implicit(0x00104000, long), ImplicitVRLittleEndian)
    assert found == explicit(0x00081030, "LO", short) + explicit(0x00104000, "UN", long)
    assert len(short) == 0xFFFE


@pytest.mark.parametrize("target", [ExplicitVRLittleEndian, JPEG2000Lossless])
def test_w_meta2_is_complete_and_names_what_was_written(target: str) -> None:
    cut = Cut(samples.part10(samples.ct(), ImplicitVRLittleEndian))
    pixels = None if target == ExplicitVRLittleEndian else Encapsulated([10])
    around = cut.rewritten(target, **({} if pixels is None else {"pixels": pixels}))
    data = cut.values[0] if pixels is None else fragment(bytes(10))
    meta = read(whole(around, data)).file_meta
    assert {element.tag.element for element in meta} >= {0, 1, 2, 3, 0x10, 0x12, 0x13}
    assert (meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID) == (target, samples.CT)
    assert meta.MediaStorageSOPInstanceUID == cut.instance.identity.sop_uid
    assert around.head[:128] == bytes(128)
    assert meta[0x00020000].value == len(around.head[144:]) - len(
        samples.dataset_bytes(whole(around, data))[: -len(data + around.tail)]
    )


def test_r_grouplen_r_cmdgroup_are_dropped_at_every_level() -> None:
    length = explicit(0x00080000, "UL", struct.pack("<I", 99))
    inner = explicit(0x00400000, "UL", bytes(4)) + explicit(0x00400009, "SH", b"ab")
    dataset = explicit(0x00000002, "UI", b"1.2\0") + explicit(0x00020010, "UI", b"1.2\0") + length
    dataset += explicit(0x00400275, "SQ", item(inner))
    assert rewritten(dataset) == explicit(0x00400275, "SQ", item(explicit(0x00400009, "SH", b"ab")))
    sequence = implicit(0x00400275, item(implicit(0x00400000, bytes(4)) + implicit(0x00400009, b"ab")))
    found = rewritten(implicit(0x00080000, bytes(4)) + sequence, ImplicitVRLittleEndian)
    assert found == explicit(0x00400275, "SQ", item(explicit(0x00400009, "SH", b"ab")))


@pytest.mark.parametrize(
    ("vr", "value", "padded"),
    [
        ("SH", b"abc", b"abc "),
        ("UI", b"1.2", b"1.2\0"),
        ("OB", b"a", b"a\0"),
        ("UN", b"a", b"a\0"),
        ("UT", b"a", b"a "),
    ],
)
def test_r_odd_lengths_are_made_even(vr: str, value: bytes, padded: bytes) -> None:
    odd, even = explicit(0x00310001, vr, value), explicit(0x00310001, vr, padded)
    assert rewritten(odd) == even
    assert rewritten(explicit(0x00400275, "SQ", item(odd))) == explicit(0x00400275, "SQ", item(even))


def test_r_vr64_r_unknownvr_keep_their_long_form() -> None:
    kept = b"".join(explicit(0x00310001 + n, vr, bytes(8)) for n, vr in enumerate(sorted(raw.LONG - {"SQ"})))
    future = struct.pack("<HH2sHI", 0x0041, 0x0001, b"QQ", 0, 4) + b"abcd"
    assert rewritten(kept + future) == kept + future


def test_r_badvr_becomes_what_the_dictionary_knows() -> None:
    faulty = explicit(0x00080060, "CS", b"CT") + implicit(0x00080070, b"maker ") + explicit(0x00100010, "PN", b"A^")
    expected = explicit(0x00080060, "CS", b"CT") + explicit(0x00080070, "LO", b"maker ")
    assert rewritten(faulty) == expected + explicit(0x00100010, "PN", b"A^")


def test_w_preserve_private_elements_by_their_creator() -> None:
    creator = b"GEMS_IDEN_01"
    dataset = implicit(0x00090010, creator) + implicit(0x00091001, b"X ") + implicit(0x00091101, b"Y ")
    expected = (
        explicit(0x00090010, "LO", creator) + explicit(0x00091001, "LO", b"X ") + explicit(0x00091101, "UN", b"Y ")
    )
    assert rewritten(dataset, ImplicitVRLittleEndian) == expected
    sequence = implicit(0x00400275, item(implicit(0x00091001, b"Z ")))  # its creator is not inside
    assert rewritten(dataset + sequence, ImplicitVRLittleEndian) == expected + explicit(
        0x00400275, "SQ", item(explicit(0x00091001, "UN", b"Z "))
    )


def test_w_preserve_the_form_of_sequences() -> None:
    inner = explicit(0x00400009, "SH", b"ab")
    for forms in (
        explicit(0x00400275, "SQ", item(inner) + open_item(inner) + item(b"")),
        explicit(0x00400275, "SQ", open_item(inner) + item(inner) + SEQUENCE_END, UNDEFINED),
        explicit(0x00400275, "SQ", b""),
        explicit(0x00400275, "SQ", SEQUENCE_END, UNDEFINED),
    ):
        assert rewritten(forms) == forms
    stored = implicit(0x00400275, open_item(implicit(0x00400009, b"ab")) + SEQUENCE_END, UNDEFINED)
    assert rewritten(stored, ImplicitVRLittleEndian) == explicit(
        0x00400275, "SQ", open_item(inner) + SEQUENCE_END, UNDEFINED
    )


def test_w_preserve_unknown_values_of_undefined_length() -> None:
    inside = open_item(implicit(0x00400009, b"ab")) + SEQUENCE_END
    kept = explicit(0x00311001, "UN", inside, UNDEFINED) + explicit(0x00311002, "LO", b"ab")
    assert rewritten(kept) == kept
    assert rewritten(implicit(0x00311001, inside, UNDEFINED), ImplicitVRLittleEndian) == explicit(
        0x00311001, "SQ", open_item(explicit(0x00400009, "SH", b"ab")) + SEQUENCE_END, UNDEFINED
    )


def test_w_preserve_items_in_another_encoding_than_the_data_set() -> None:
    inner = explicit(0x00080060, "CS", b"CT")
    stored = implicit(0x00081140, item(inner))
    assert rewritten(stored, ImplicitVRLittleEndian) == explicit(0x00081140, "SQ", item(inner))


def test_pixel_representation_decides_what_depends_on_it_also_in_items() -> None:
    for sign, vr in ((b"\0\0", "US"), (b"\1\0", "SS")):
        stored = implicit(0x00280103, sign) + implicit(0x00280106, b"ab")
        stored += implicit(0x00289145, item(implicit(0x00280106, b"cd")))
        inner = item(explicit(0x00280106, vr, b"cd"))
        expected = (
            explicit(0x00280103, "US", sign) + explicit(0x00280106, vr, b"ab") + explicit(0x00289145, "SQ", inner)
        )
        assert rewritten(stored, ImplicitVRLittleEndian) == expected


def test_r_duptag_the_first_one_stays_and_tags_ascend() -> None:
    early, late = explicit(0x00080060, "CS", b"CT"), explicit(0x00100010, "PN", b"A^")
    assert rewritten(late + early + explicit(0x00100010, "PN", b"B^")) == early + late


def test_r_trail_what_lies_behind_the_data_set_is_left_out() -> None:
    pixels = explicit(0x7FE00010, "OW", b"abcd")
    for trail in (bytes(8), bytes(5), bytes(1000), explicit(0xFFFCFFFC, "OB", bytes(8)), b"\xff" * 7, b"garbage"):
        cut = Cut(raw.part10(ExplicitVRLittleEndian, raw.uids() + raw.parents() + pixels + trail))
        assert cut.rewritten().tail == b"", trail
    padded = implicit(0x7FE00010, b"abcd") + implicit(0xFFFCFFFC, bytes(8))
    head = dataset_in_implicit(raw.uids() + raw.parents())
    assert Cut(raw.part10(ImplicitVRLittleEndian, head + padded)).rewritten().tail == b""
    behind = explicit(0x7FE10010, "LO", b"ab")
    signed = explicit(0xFFFAFFFA, "SQ", b"")
    cut = Cut(raw.part10(ExplicitVRLittleEndian, raw.uids() + raw.parents() + pixels + behind + signed + bytes(6)))
    assert cut.rewritten().tail == behind + signed


def test_changes_take_the_place_of_elements_or_are_added_where_they_belong() -> None:
    stored = explicit(0x00280002, "US", b"\3\0") + explicit(0x00280004, "CS", b"YBR_FULL_422")
    changes = {
        "00280006": {"vr": "US", "Value": [0]},
        "00280004": {"vr": "CS", "Value": ["RGB"]},
        "00280002": None,
        "00282110": None,
        "00080008": {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY"]},
    }
    expected = explicit(0x00080008, "CS", b"ORIGINAL\\PRIMARY") + explicit(0x00280004, "CS", b"RGB ")
    assert rewritten(stored, changes=changes) == expected + explicit(0x00280006, "US", b"\0\0")


def compressed(*fragments: bytes, **more: bytes) -> bytes:
    """An instance of four frames in these fragments, with an extended offset table that fits none."""
    extended = explicit(0x7FE00001, "OV", bytes(8)) + explicit(0x7FE00002, "OV", bytes(8))
    description = raw.pixel_description(2, 2, frames="4 ")
    dataset = raw.uids() + raw.parents() + description + extended + encapsulated(list(fragments))
    return raw.part10(RLELossless, dataset + explicit(0xFFFAFFFA, "SQ", b""))


SIXTEEN_BITS = {"00280100": {"vr": "US", "Value": [16]}}


def test_t_even_native_pixel_data_from_compressed_one() -> None:
    cut = Cut(compressed(b"ab", b"cd", b"ef", b"gh"))
    file = whole(cut.rewritten(pixels=Native(15)), bytes(15))
    assert file.endswith(explicit(0x7FE00010, "OB", bytes(16)) + explicit(0xFFFAFFFA, "SQ", b""))
    assert OF_ENCAPSULATION.isdisjoint(parse(file).dataset)
    for more in ({"pixels": Native(15, "OW")}, {"pixels": Native(15), "changes": SIXTEEN_BITS}):
        assert explicit(0x7FE00010, "OW", bytes(16)) in whole(cut.rewritten(**more), bytes(15))


def test_t_offsets_of_frames_of_one_fragment() -> None:
    cut = Cut(samples.part10(samples.ct(NumberOfFrames=3)))
    frames = [b"a" * 5, b"b" * 8, b"c" * 3]
    around = cut.rewritten(RLELossless, pixels=Encapsulated([5, 8, 3]))
    ds = read(whole(around, b"".join(map(fragment, frames))))
    assert parse_basic_offsets(ds.PixelData) == [0, 14, 30]
    assert list(generate_fragments(ds.PixelData))[1:] == [b"aaaaa\0", b"bbbbbbbb", b"ccc\0"]
    assert not OF_ENCAPSULATION & {f"{element.tag:08X}" for element in ds}
    assert ds["PixelData"].VR == "OB"


def test_t_offsets_of_frames_of_several_fragments_or_of_unknown_ones() -> None:
    cut = Cut(compressed(b"ab", b"cd", b"ef", b"gh", b"ij"))
    data = b"".join(map(fragment, cut.values))
    grouped = whole(cut.rewritten(RLELossless, pixels=Encapsulated([2] * 5, [0, 1, 3, 4])), data)
    assert parse_basic_offsets(read(grouped).PixelData) == [0, 10, 30, 40]
    for pixels in (Encapsulated([2] * 5, []), Encapsulated(None)):
        around = cut.rewritten(RLELossless, pixels=pixels)
        assert parse_basic_offsets(read(whole(around, data)).PixelData) == []
        assert (around.length is None) == (pixels.lengths is None)
        assert around.tail == SEQUENCE_END + explicit(0xFFFAFFFA, "SQ", b"")


def test_t_offsets_beyond_4_gib_are_in_the_extended_table() -> None:
    cut = Cut(samples.part10(samples.ct(NumberOfFrames=3)))
    lengths = [3 << 30, (2 << 30) - 1, 6]
    around = cut.rewritten(RLELossless, pixels=Encapsulated(lengths))
    table = explicit(0x7FE00001, "OV", struct.pack("<3Q", 0, (3 << 30) + 8, (5 << 30) + 16))
    sizes = explicit(0x7FE00002, "OV", struct.pack("<3Q", *lengths))
    assert around.head.endswith(table + sizes + explicit(0x7FE00010, "OB", b"", UNDEFINED) + item(b""))
    assert around.length == len(around.head) + (5 << 30) + 6 + 24 + len(around.tail)
    several = cut.rewritten(RLELossless, pixels=Encapsulated(lengths, [0, 2]))
    assert table not in several.head
    assert several.head.endswith(explicit(0x7FE00010, "OB", b"", UNDEFINED) + item(b""))


def test_what_has_no_room_in_its_length_is_refused() -> None:
    cut = Cut(samples.part10(samples.ct()))
    assert cut.rewritten(pixels=Native(0xFFFFFFFE)).length
    with pytest.raises(Invalid) as error:
        cut.rewritten(pixels=Native(0xFFFFFFFF))
    assert error.value.fault is Fault.TOO_LARGE
    with pytest.raises(Invalid):
        cut.rewritten(RLELossless, pixels=Encapsulated([8, 0xFFFFFFFF]))


def test_float_pixel_data_keeps_its_tag_and_vr() -> None:
    dataset = raw.uids() + raw.parents() + raw.pixel_description(1, 2, 32)
    cut = Cut(raw.part10(ImplicitVRLittleEndian, dataset_in_implicit(dataset) + implicit(0x7FE00008, bytes(8))))
    assert cut.file().endswith(explicit(0x7FE00008, "OF", bytes(8)))


def dataset_in_implicit(dataset: bytes) -> bytes:
    """A data set of elements in the short form, in implicit VR."""
    found, position = b"", 0
    while position < len(dataset):
        group, number, _, length = struct.unpack_from("<HH2sH", dataset, position)
        found += implicit(group << 16 | number, dataset[position + 8 : position + 8 + length])
        position += 8 + length
    return found


@pytest.mark.parametrize("stored", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_large_document_is_streamed_like_pixel_data(stored: str) -> None:
    written = implicit if stored == ImplicitVRLittleEndian else lambda tag, value: explicit(tag, VRS[tag], value)
    pieces = [(0x00420010, b"Title "), (0x00420011, b"%PDF" * 9), (0x00420012, b"application/pdf ")]
    before, document, after = (written(tag, value) for tag, value in pieces)
    cut = len(before + document) - 36
    dataset, rest = (before + document)[:cut], after + bytes(6)
    identity = Identity("1.1", "1.2", "1.3", "1.4")
    pixels = Native(36, tag=0x00420011)
    around = rewrite(dataset, stored, ExplicitVRLittleEndian, identity, pixels=pixels, rest=rest)
    expected = b"".join(explicit(tag, VRS[tag], value) for tag, value in pieces)
    assert samples.dataset_bytes(whole(around, b"%PDF" * 9)) == expected


@pytest.mark.parametrize("code", [b"OX", b"??", b"\0\0", b"UN"])
def test_r_badvr_of_pixel_data_is_that_of_the_dictionary(code: bytes) -> None:
    header = struct.pack("<HH2sHI", 0x7FE0, 0x0010, code, 0, 8)
    cut = Cut(raw.part10(ExplicitVRLittleEndian, raw.uids() + raw.parents() + header + bytes(8)))
    assert cut.file().endswith(explicit(0x7FE00010, "OW", bytes(8)))
    short = implicit(0x7FE00010, bytes(8))
    cut = Cut(raw.part10(ExplicitVRLittleEndian, raw.uids() + raw.parents() + short))
    assert cut.file().endswith(explicit(0x7FE00010, "OW", bytes(8)))


VRS = {0x00420010: "ST", 0x00420011: "OB", 0x00420012: "LO"}


def test_an_icon_in_fragments_stays_where_pixel_data_is_compressed() -> None:
    icon = explicit(0x7FE00010, "OB", item(b"\0\0\0\0") + item(b"abc") + SEQUENCE_END, UNDEFINED)
    kept = explicit(0x7FE00010, "OB", item(b"") + item(b"abc\0") + SEQUENCE_END, UNDEFINED)
    stored = explicit(0x00880200, "SQ", item(icon))
    assert rewritten(stored, target=RLELossless) == explicit(0x00880200, "SQ", item(kept))
    assert rewritten(stored + explicit(0x00880906, "ST", b"ab")) == explicit(0x00880906, "ST", b"ab")
    native = explicit(0x00880200, "SQ", item(explicit(0x7FE00010, "OB", b"ab")))
    assert rewritten(native) == native


def test_empty_pixel_data_is_an_element_like_others() -> None:
    for empty in (explicit(0x7FE00010, "OW", b""), explicit(0x7FE00010, "OB", item(b"") + SEQUENCE_END, UNDEFINED)):
        assert rewritten(explicit(0x00280002, "US", b"\1\0") + empty).endswith(empty)


@pytest.mark.parametrize(
    "dataset",
    [
        explicit(0x00080060, "CS", b"CT", 8),
        explicit(0x00080060, "CS", b"CT")[:6],
        explicit(0x00400275, "SQ", item(b"", 8)),
        explicit(0x00400275, "SQ", b"", UNDEFINED),
        explicit(0x00400275, "SQ", item(b"", UNDEFINED), UNDEFINED),
        explicit(0x00400275, "SQ", explicit(0x00080060, "CS", b"CT")),
        explicit(0x00400275, "SQ", item(SEQUENCE_END)),
        explicit(0x00311001, "UT", b"", UNDEFINED),
    ],
)
def test_what_is_cut_short_or_contradicts_itself_is_malformed(dataset: bytes) -> None:
    with pytest.raises(Invalid) as error:
        rewritten(dataset)
    assert error.value.fault is Fault.MALFORMED


def test_pixels_for_an_instance_without_any_are_refused() -> None:
    with pytest.raises(Invalid):
        rewritten(explicit(0x00080060, "CS", b"CT"), pixels=Native(2))


def test_r_huge_deep_nesting_is_bounded() -> None:
    def nested(levels: int) -> bytes:
        dataset = b""
        for _ in range(levels):
            dataset = explicit(0x00400275, "SQ", item(dataset))
        return dataset

    assert rewritten(nested(80)) == nested(80)
    with pytest.raises(Invalid):
        rewritten(nested(81))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_bytes_of_any_kind_are_rewritten_or_refused(data: st.DataObject) -> None:
    stored = data.draw(st.sampled_from([ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]))
    dataset = bytearray(samples.dataset_bytes(samples.part10(samples.ct(size=2), stored)))
    for _ in range(data.draw(st.integers(1, 6))):
        dataset[data.draw(st.integers(0, len(dataset) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = rewritten(bytes(dataset), stored)
    except Invalid:
        return
    assert rewritten(found) == found  # what was written is in order: writing it again changes nothing


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_data_set_is_the_same_from_every_encoding(data: st.DataObject) -> None:
    ds = data.draw(datasets(2))
    ds.update(samples.ct(size=2))
    files = [stored_in(ds, stored) for stored in (ImplicitVRLittleEndian, ExplicitVRBigEndian)]
    deflated = samples.part10(ds, DeflatedExplicitVRLittleEndian)
    expected = samples.dataset_bytes(samples.part10(ds))
    assert zlib.decompress(samples.dataset_bytes(deflated), -15) == expected
    for file in (*files, deflated):
        assert samples.dataset_bytes(Cut(file).file()) == expected


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_of_the_corpus_are_rewritten_or_refused(seed: int) -> None:
    random = Random(seed)
    files = [path.read_bytes() for path in samples.corpus() if path.stat().st_size < 12_000]
    rewritten_ones = 0
    for _ in range(5000):
        data = bytearray(random.choice(files))
        for _ in range(random.randint(1, 3)):
            at = random.randrange(132, len(data))
            data[at : at + random.choice((0, 1, 1, 4))] = random.randbytes(random.choice((0, 1, 1, 2, 8)))
        with suppress(Invalid):
            parse(Cut(bytes(data)).file())
            rewritten_ones += 1
    assert rewritten_ones > 500


@st.composite
def datasets(draw: st.DrawFn, depth: int) -> Dataset:
    """A few public elements of every kind of VR, with sequences of defined and undefined length."""
    ds = Dataset()
    texts = st.text("ABC 0123", max_size=9)
    kinds: dict[tuple[int, str], st.SearchStrategy[Any]] = {
        (0x00081030, "LO"): texts,
        (0x00104000, "LT"): texts,
        (0x00189087, "FD"): st.floats(allow_nan=False),
        (0x00280106, "SS"): st.integers(-(2**15), 2**15 - 1),  # signed, as the pixels of the sample are
        (0x00280009, "AT"): st.lists(st.integers(0x00080000, 0x00FFFFFF), max_size=3),
        (0x00660023, "OW"): st.binary(max_size=8).map(lambda value: value * 2),
        (0x00660129, "OL"): st.binary(max_size=3).map(lambda value: value * 4),
        (0x00420011, "OB"): st.binary(max_size=8).map(lambda value: value * 2),
        (0x0040A160, "UT"): texts,
        (0x00720082, "SV"): st.integers(-(2**63), 2**63 - 1),
    }
    for (tag, vr), values in kinds.items():
        if draw(st.booleans()):
            ds.add_new(tag, vr, draw(values))
    if depth:
        ds.RequestAttributesSequence = draw(st.lists(datasets(depth - 1), max_size=2))
        ds["RequestAttributesSequence"].is_undefined_length = draw(st.booleans())
    return ds
