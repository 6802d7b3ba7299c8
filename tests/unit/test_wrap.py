"""Metadata and what came beside it, made one instance: whatever was sent, it is wrapped rightly or refused."""

from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.dicom.aroundpixels import Encapsulated, Native
from storage.dicom.encode import encode
from storage.dicom.wrap import PIXEL_DATA, STREAMED, Sent, with_document, with_pixels
from storage.errors import Fault, Invalid

EXPLICIT = "1.2.840.10008.1.2.1"
JPEG = ("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57")
OTHERS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.102")
IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)
HEADS = [
    bytes(imagecodecs.jpeg8_encode(IMAGE)),
    bytes(imagecodecs.jpegls_encode(IMAGE)),
    bytes(imagecodecs.jpeg2k_encode(IMAGE)),
    bytes(imagecodecs.jpegxl_encode(IMAGE, lossless=True)),
]
UIDS = {
    "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"]},
    "00080018": {"vr": "UI", "Value": ["1.2.3"]},
    PIXEL_DATA: {"vr": "OW", "BulkDataURI": "x"},
}
_values = st.one_of(st.none(), st.integers(-3, 70000), st.floats(), st.text(max_size=4), st.just({}), st.just([1]))
_entries = st.one_of(
    _values, st.fixed_dictionaries({"vr": st.sampled_from(["US", "IS", "CS", "XX"]), "Value": st.lists(_values)})
)
_keys = ("00020010", "00280002", "00280004", "00280008", "00280010", "00280011", "00280100", "00280101", "00280103")


def us(number: int) -> dict[str, Any]:
    return {"vr": "US", "Value": [number]}


def refused(dataset: dict[str, Any], sent: Sent) -> Fault:
    with pytest.raises(Invalid) as caught:
        with_pixels(UIDS | dataset, PIXEL_DATA, sent)
    return caught.value.fault


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(_keys, _entries)),
    st.one_of(
        st.binary(max_size=40),
        st.tuples(st.sampled_from(HEADS), st.integers(0, 600), st.integers(0, 255), st.booleans()).map(
            lambda each: (
                each[0][: each[1]] if each[3] else each[0][: each[1]] + bytes([each[2]]) + each[0][each[1] + 1 :]
            )
        ),
    ),
    st.lists(st.integers(0, 1 << 33), min_size=1, max_size=3),
    st.sampled_from([JPEG, OTHERS, (EXPLICIT, *JPEG)]),
    st.sampled_from([None, EXPLICIT, "1.2", *JPEG, *OTHERS]),
    st.sampled_from(STREAMED[:3]),
)
@settings(max_examples=400, deadline=None)
def test_whatever_is_sent_is_wrapped_or_invalid(
    dataset: dict[str, Any], head: bytes, lengths: list[int], syntaxes: tuple[str, ...], named: str | None, key: str
) -> None:
    whole = UIDS | dataset | {key: {"vr": "OW", "BulkDataURI": "x"}}
    try:
        wrapped = with_pixels(whole, key, Sent(lengths, syntaxes, named, head))
        encode(wrapped.dataset, lambda _: b"", transfer_syntax=wrapped.transfer_syntax, pixels=wrapped.pixels)
    except Invalid:
        return
    assert wrapped.transfer_syntax in (*syntaxes, EXPLICIT) or syntaxes == JPEG
    assert isinstance(wrapped.pixels, Native if wrapped.transfer_syntax == EXPLICIT else Encapsulated)


def test_s_bulk_comp_only_what_is_missing_is_derived() -> None:
    given_values = {"00280004": {"vr": "CS", "Value": ["MONOCHROME1"]}, "00280101": us(7), "00280002": us(1)}
    sent = Sent([len(HEADS[1])], ("1.2.840.10008.1.2.4.80",), None, HEADS[1])
    dataset = with_pixels(UIDS | given_values, PIXEL_DATA, sent).dataset
    assert {key: dataset[key] for key in given_values} == given_values
    assert [dataset[key]["Value"] for key in ("00280010", "00280011", "00280100", "00280102")] == [[8], [8], [8], [6]]
    assert UIDS.keys() | given_values.keys() < dataset.keys()


def test_s_bulk_comp_lossless_jpeg_by_its_predictor() -> None:
    for predictor, syntax in ((1, JPEG[0]), (4, JPEG[3])):
        frame = bytes(imagecodecs.ljpeg_encode(IMAGE))
        scan = frame.index(b"\xff\xda")
        length = int.from_bytes(frame[scan + 2 : scan + 4], "big")
        at = scan + 2 + length - 3
        frame = frame[:at] + bytes([predictor]) + frame[at + 1 :]
        assert with_pixels(UIDS, PIXEL_DATA, Sent([len(frame)], JPEG, None, frame)).transfer_syntax == syntax


def test_s_bulk_missing_nothing_is_not_pixels_and_no_document() -> None:
    assert refused({}, Sent([0], JPEG, None, b"")) is Fault.MALFORMED
    assert refused({}, Sent([5, 5], (EXPLICIT,), None, b"12345")) is Fault.MALFORMED
    with pytest.raises(Invalid):
        with_document(UIDS, "application/pdf", 0)


def test_a_document_keeps_what_its_metadata_says() -> None:
    said = {"00420012": {"vr": "LO", "Value": ["text/XML"]}, "00420015": {"vr": "UL", "Value": [4]}}
    assert with_document(UIDS | said, "application/pdf", 5).dataset == UIDS | said
    assert "00420012" not in with_document(UIDS, "application/octet-stream", 5).dataset


@pytest.mark.parametrize(
    ("bits", "vr", "expected"), [(8, "OB", "OB"), (8, "OW", "OW"), (16, "OB", "OW"), (8, "UN", "OW")]
)
def test_s_bulk_uncomp_the_vr_of_native_pixels(bits: int, vr: str, expected: str) -> None:
    numbers = dict.fromkeys(("00280002", "00280010", "00280011", "00280101", "00280102", "00280103"), us(1))
    dataset = UIDS | numbers | {"00280004": {"vr": "CS", "Value": ["MONOCHROME2"]}, "00280100": us(bits)}
    dataset[PIXEL_DATA] = {"vr": vr, "BulkDataURI": "x"}
    pixels = with_pixels(dataset, PIXEL_DATA, Sent([2], (EXPLICIT,), None, b"12")).pixels
    assert isinstance(pixels, Native)
    assert pixels.vr == expected
