"""The frame table of an instance, from its pixel description (PS3.3 C.7.6.3) and where its pixel data lies."""

from typing import Any

from storage.dicom import syntax
from storage.dicom.fragments import frame_table
from storage.dicom.frames import FrameTable
from storage.dicom.instance import JsonDataset
from storage.dicom.jsonmodel import PIXEL_DATA, PixelData, Reading

_FLOAT, _DOUBLE_FLOAT = 0x7FE00008, 0x7FE00009
_FIXED_BITS = {_FLOAT: 32, _DOUBLE_FLOAT: 64}
_MAX_SHORT = 0xFFFF  # of the attributes with the VR US
_MAX_INTEGER_STRING = 2**31 - 1  # PS3.5 6.2
_SUBSAMPLED = ("YBR_FULL_422", "YBR_PARTIAL_422")  # two samples a pixel in the mean


def frames_of(view: memoryview, base: int, reading: Reading, transfer_syntax: str) -> FrameTable:
    """Where the frames lie; what is odd about them is added to the warnings of `reading`.

    `base` is where the data set begins in `view`.
    """
    pixel_data = reading.pixel_data
    if pixel_data is None:
        return FrameTable.none()
    count = _number_of_frames(reading.dataset)
    if pixel_data.fragments is None:
        return _native(reading, pixel_data, base, count, transfer_syntax)
    if syntax.is_native(transfer_syntax):
        reading.warn("the pixel data is encapsulated, but the transfer syntax is not: no frames")
        return FrameTable.none()
    if syntax.is_stream(transfer_syntax):
        spans = [item._replace(offset=item.offset - base) for item in pixel_data.fragments.items]
        return FrameTable.stream(spans, count) if spans else FrameTable.none()
    table, warning = frame_table(
        view,
        pixel_data.fragments,
        base,
        count,
        reading.extended_offsets,
        one_per_frame=transfer_syntax == syntax.RLE,
    )
    if warning is not None:
        reading.warn(warning)
    return table


def _native(reading: Reading, pixel_data: PixelData, base: int, count: int, transfer_syntax: str) -> FrameTable:
    if syntax.is_known(transfer_syntax) and not syntax.is_native(transfer_syntax):
        reading.warn("the pixel data is not encapsulated, but the transfer syntax is: no frames")
        return FrameTable.none()
    frame_bits = _frame_bits(reading.dataset, pixel_data.tag)
    if frame_bits == 0:
        reading.warn("the pixel data has no valid description (Rows, Columns, Bits Allocated): no frames")
        return FrameTable.none()
    expected = (frame_bits * count + 7) // 8
    if pixel_data.length < expected:
        reading.warn(f"the pixel data has {pixel_data.length} bytes instead of {expected}")
        count = pixel_data.length * 8 // frame_bits
    return FrameTable.native(pixel_data.start - base, frame_bits, count)


def _frame_bits(dataset: JsonDataset, tag: int) -> int:
    """Bits of one native frame (PS3.5 8.1.1; PS3.3 C.7.6.3.1.2); 0 when the description is not complete."""
    rows, columns = _number(dataset, "00280010"), _number(dataset, "00280011")
    samples = _number(dataset, "00280002") or 1
    bits = _FIXED_BITS.get(tag) or _number(dataset, "00280100")
    if tag == PIXEL_DATA and samples == 3 and _first(dataset, "00280004") in _SUBSAMPLED:
        samples = 2
    return rows * columns * samples * bits


def _number_of_frames(dataset: JsonDataset) -> int:
    return _number(dataset, "00280008", _MAX_INTEGER_STRING) or 1


def _number(dataset: JsonDataset, key: str, most: int = _MAX_SHORT) -> int:
    """The first value when it is an integer from 1 to `most`, otherwise 0: its VR may be another than it should."""
    value = _first(dataset, key)
    return value if isinstance(value, int) and 0 < value <= most else 0


def _first(dataset: JsonDataset, key: str) -> Any:
    values = dataset.get(key, {}).get("Value")
    return values[0] if values else None
