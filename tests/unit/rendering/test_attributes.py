"""What decides how a frame looks: functional groups, and the values to fetch (PS3.3 C.7.6.16)."""

from typing import Any

import numpy as np
import orjson
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from storage.dicom.rendering.attributes import attributes_of_frame, bulk_uris, number
from storage.dicom.rendering.wish import Viewport, Wish
from storage.errors import NotFound
from tests.unit.rendering.shown import drawn, grey, slope


def macro(keyword: str, **attributes: Any) -> Dataset:
    inner, outer = Dataset(), Dataset()
    for name, value in attributes.items():
        setattr(inner, name, value)
    setattr(outer, keyword, Sequence([inner]))
    return outer


def joined(*groups: Dataset) -> Dataset:
    result = Dataset()
    for group in groups:
        result.update(group)
    return result


def enhanced(frames: int, shared: Dataset, per_frame: list[Dataset], **changes: Any) -> Dataset:
    """Frames that all have the same stored values from 0 to 255 in 16 bits."""
    array = slope(16, 16, top=255)
    ds = grey(array, NumberOfFrames=frames, PixelData=array.tobytes() * frames, **changes)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    return ds


def test_w_render_voi_of_per_frame_functional_groups() -> None:
    shared = macro("PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=-10)
    windows = [macro("FrameVOILUTSequence", WindowCenter=center, WindowWidth=101) for center in (50, 300)]
    ds = enhanced(2, shared, windows, WindowCenter=1, WindowWidth=2, RescaleIntercept=5000, RescaleSlope=9)
    for frame, center in ((1, 50), (2, 300)):
        plain = grey(slope(16, 16, top=255), RescaleSlope=2, RescaleIntercept=-10, WindowCenter=center, WindowWidth=101)
        assert np.array_equal(drawn(ds, number=frame), drawn(plain))


def test_w_render_voi_of_shared_functional_groups_unless_the_frame_has_its_own() -> None:
    shared = joined(
        macro("FrameVOILUTSequence", WindowCenter=100, WindowWidth=51, VOILUTFunction="SIGMOID"),
        macro("RealWorldValueMappingSequence", RealWorldValueSlope=50.0, RealWorldValueIntercept=7.0),
    )
    ds = enhanced(2, shared, [Dataset(), macro("FrameVOILUTSequence", WindowCenter=200, WindowWidth=11)])
    sigmoid = grey(slope(16, 16, top=255), WindowCenter=100, WindowWidth=51, VOILUTFunction="SIGMOID")
    assert np.array_equal(drawn(ds), drawn(sigmoid))
    linear = grey(slope(16, 16, top=255), WindowCenter=200, WindowWidth=11)
    assert np.array_equal(drawn(ds, number=2), drawn(linear))


def test_w_render_voi_of_a_frame_that_has_no_group() -> None:
    ds = enhanced(3, Dataset(), [Dataset()])
    assert np.array_equal(drawn(ds, number=3), drawn(grey(slope(16, 16, top=255))))


def test_w_render_viewport_takes_the_spacing_of_the_frame() -> None:
    ds = enhanced(1, macro("PixelMeasuresSequence", PixelSpacing=[2, 1]), [Dataset()], PixelSpacing=[1, 1])
    assert drawn(ds, Wish(viewport=Viewport(64, 64))).shape == (64, 32)


@pytest.mark.parametrize("number", [0, -1])
def test_w_render_frame_counts_from_one(number: int) -> None:
    with pytest.raises(NotFound):
        attributes_of_frame({}, number)


def test_attributes_of_a_frame_are_few_and_flat() -> None:
    groups = [
        {"00289132": {"vr": "SQ", "Value": [{"00281050": {"vr": "DS", "Value": [index]}}]}} for index in range(500)
    ]
    dataset = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A"}]},
        "00204000": {"vr": "LT", "Value": ["x" * 5000]},
        "52009230": {"vr": "SQ", "Value": groups},
        "7FE00010": {"vr": "OW", "BulkDataURI": "bulkdata/7FE00010"},
    }
    attributes = attributes_of_frame(dataset, 251)
    assert number(attributes, "00281050") == 250
    assert len(orjson.dumps(attributes)) < 300
    assert not list(bulk_uris(attributes))


def test_bulk_values_are_named_wherever_they_are() -> None:
    lut = {"00283006": {"vr": "OW", "BulkDataURI": "bulkdata/00283010/1/00283006"}}
    path = {"00282000": {"vr": "OB", "BulkDataURI": "bulkdata/00480105/1/00282000"}}
    dataset = {
        "00281201": {"vr": "OW", "BulkDataURI": "bulkdata/00281201"},
        "00283010": {"vr": "SQ", "Value": [lut]},
        "00480105": {"vr": "SQ", "Value": [path]},
    }
    named = set(bulk_uris(attributes_of_frame(dataset, 1)))
    assert named == {"bulkdata/00281201", "bulkdata/00283010/1/00283006", "bulkdata/00480105/1/00282000"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1.5", 1.5),
        (" 2 ", 2),
        (3, 3),
        ("1,5", None),
        ("NaN", None),
        ("1e999", None),
        (None, None),
        ({}, None),
        (10**400, None),
    ],
)
def test_numbers_come_as_numbers_or_strings(value: Any, expected: float | None) -> None:
    assert number({"00281050": {"vr": "DS", "Value": [value]}}, "00281050") == expected
