"""The pixel description of a data set: what is read, what is filled in, what cannot be."""

from typing import Any

import pytest

from storage.dicom.pixels.description import Kind, PixelDescription
from storage.errors import Invalid

CT: dict[str, Any] = {
    "00280002": {"vr": "US", "Value": [1]},
    "00280004": {"vr": "CS", "Value": ["MONOCHROME2"]},
    "00280010": {"vr": "US", "Value": [512]},
    "00280011": {"vr": "US", "Value": [500]},
    "00280100": {"vr": "US", "Value": [16]},
    "00280101": {"vr": "US", "Value": [12]},
    "00280102": {"vr": "US", "Value": [11]},
    "00280103": {"vr": "US", "Value": [1]},
    "7FE00010": {"vr": "OW", "BulkDataURI": "bulkdata/7FE00010"},
}


def with_values(**changes: Any) -> dict[str, Any]:
    """The CT with other values; None takes the element away, [] leaves it empty."""
    dataset = dict(CT)
    for key, value in changes.items():
        tag = key.removeprefix("t")
        if value is None:
            dataset.pop(tag, None)
        else:
            dataset[tag] = {"vr": "US", "Value": [value]} if value != [] else {"vr": "US"}
    return dataset


def test_a_description_is_read() -> None:
    found = PixelDescription.of(CT)
    assert found == PixelDescription(512, 500, 1, "MONOCHROME2", 0, 16, 12, 11, True, 1, Kind.INTEGER, False, False)
    assert found.frame_bits == 512 * 500 * 16
    assert found.frame_bytes == found.decoded_bytes == 512 * 500 * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"t00280010": None},
        {"t00280010": 0},
        {"t00280011": []},
        {"t00280011": "512"},
        {"t00280100": None},
        {"t00280100": 12},
        {"t00280101": 17},
        {"t00280101": 0},
        {"t00280002": 0},
        {"t00280002": 5},
        {"t00280004": None},
        {"t00280004": []},
        {"t00280004": " "},
        {"t00280006": 2},
    ],
    ids=repr,
)
def test_r_pixelattr_an_impossible_description_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        PixelDescription.of(with_values(**changes))


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"t00280008": []}, "frames", 1),
        ({"t00280008": 0}, "frames", 1),
        ({"t00280008": "1A"}, "frames", 1),
        ({"t00280008": 2**31 - 1}, "frames", 2**31 - 1),
        ({"t00280002": None}, "samples", 1),
        ({"t00280101": None, "t00280102": None}, "stored", 16),
        ({"t00280102": None}, "high_bit", 11),
        ({"t00280102": 15}, "high_bit", 15),
        ({"t00280102": 16}, "high_bit", 11),
        ({"t00280102": 3}, "high_bit", 11),
        ({"t00280103": None}, "signed", False),
        ({"t00280004": " monochrome1"}, "photometric", "MONOCHROME1"),
        ({"t00282110": "01"}, "lossy", True),
        ({"t00282110": "00"}, "lossy", False),
        ({"t60000102": 12}, "has_embedded_overlays", True),
        ({"t60000102": 0}, "has_embedded_overlays", False),
        ({"t60020102": 12, "t60023000": 0}, "has_embedded_overlays", False),
    ],
    ids=repr,
)
def test_r_pixelattr_what_has_one_sensible_value_gets_it(changes: dict[str, Any], name: str, value: object) -> None:
    assert getattr(PixelDescription.of(with_values(**changes)), name) == value


@pytest.mark.parametrize(("tag", "kind", "bits"), [("7FE00008", Kind.FLOAT, 32), ("7FE00009", Kind.DOUBLE, 64)])
def test_w_frames_float_has_its_bits_from_the_element(tag: str, kind: Kind, bits: int) -> None:
    dataset = with_values(t7FE00010=None, t00280100=None, t00280101=None, t00280102=None, t00280103=None)
    found = PixelDescription.of(dataset | {tag: {"vr": "OF", "BulkDataURI": f"bulkdata/{tag}"}})
    assert (found.kind, found.allocated, found.frame_bits) == (kind, bits, 512 * 500 * bits)


def test_w_frames_422_is_two_bytes_a_pixel() -> None:
    found = PixelDescription.of(with_values(t00280002=3, t00280004="YBR_FULL_422", t00280100=8, t00280101=8))
    assert found.is_subsampled
    assert found.frame_bytes == 512 * 500 * 2
    assert found.decoded_bytes == 512 * 500 * 3
