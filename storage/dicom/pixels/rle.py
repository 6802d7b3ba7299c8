"""RLE: each byte of the samples in a segment of its own, packed by runs (PS3.5 annex G)."""

import struct

import imagecodecs
import numpy as np

from storage.dicom.pixels.codestream import damaged
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.pixels.native import Pixels, cell_type, shape

_HEADER = struct.Struct("<16I")
_MAX_SEGMENTS = 15
_SLACK_BYTES = 256  # some writers pad the end of a segment with what reads as one more run


def decoded(data: bytes, description: PixelDescription) -> Pixels:
    """The cells of one frame; raises Invalid (MALFORMED)."""
    width = description.allocated // 8
    pixels = description.rows * description.columns
    planes = np.empty((pixels, description.samples, width), np.uint8)
    segments = _segments(data, description.samples * width)
    for number, segment in enumerate(segments):
        sample, byte = divmod(number, width)
        planes[:, sample, width - 1 - byte] = _plane(segment, pixels)  # the most significant byte comes first
    return planes.reshape(-1).view(cell_type(description)).reshape(shape(description))


def encoded(array: Pixels, description: PixelDescription) -> bytes:
    """One frame of cells or values; runs end with each row, and every segment has an even length."""
    width = array.dtype.itemsize
    samples = description.samples
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    planes = little.view(np.uint8).reshape(description.rows, description.columns, samples, width)
    segments = [
        bytes(imagecodecs.packbits_encode(planes[:, :, sample, width - 1 - byte].copy(), axis=-1))
        for sample in range(samples)
        for byte in range(width)
    ]
    body = bytearray()
    offsets = []
    for segment in segments:
        offsets.append(_HEADER.size + len(body))
        body += segment + b"\0" * (len(segment) % 2)
    offsets += [0] * (_MAX_SEGMENTS - len(offsets))
    return _HEADER.pack(len(segments), *offsets) + body


def _segments(data: bytes, expected: int) -> list[bytes]:
    if len(data) < _HEADER.size:
        raise damaged("its RLE header is cut short")
    count, *offsets = _HEADER.unpack_from(data)
    if count != expected:
        raise damaged(f"it has {count} RLE segments instead of {expected}")
    ends = [*offsets[1:count], len(data)]
    bounds = list(zip(offsets[:count], ends, strict=True))
    if any(not _HEADER.size <= start <= end for start, end in bounds):
        raise damaged("its RLE segments do not follow each other")
    return [data[start:end] for start, end in bounds]


def _plane(segment: bytes, pixels: int) -> Pixels:
    plane = np.empty(pixels + _SLACK_BYTES, np.uint8)
    unpacked = len(imagecodecs.packbits_decode(segment, out=plane.data))
    if unpacked < pixels:
        raise damaged(f"an RLE segment has {unpacked} bytes instead of {pixels}")
    return plane[:pixels]
