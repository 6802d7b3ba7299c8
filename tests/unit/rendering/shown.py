"""Instances as the rendering sees them: decoded frames, their attributes, and the bulk values these name."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from storage.dicom.frames import Span
from storage.dicom.instance import Instance, JsonDataset
from storage.dicom.parse import parse
from storage.dicom.pixels.decode import Decoded, decode
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.rendering.attributes import attributes_of_frame, bulk_uris
from storage.dicom.rendering.render import Rendered, draw, render
from storage.dicom.rendering.wish import Wish
from storage.dicom.values import swapped
from tests.samples import ct, part10


def grey(array: NDArray[Any], **changes: Any) -> Dataset:
    """A CT instance with these stored values and no windows or rescaling but what `changes` say."""
    removed = {"WindowCenter": None, "WindowWidth": None, "RescaleSlope": None, "RescaleIntercept": None}
    described = {
        "Rows": array.shape[0],
        "Columns": array.shape[1],
        "BitsAllocated": 8 * array.dtype.itemsize,
        "BitsStored": 8 * array.dtype.itemsize,
        "HighBit": 8 * array.dtype.itemsize - 1,
        "PixelRepresentation": int(array.dtype.kind == "i"),
        "PixelData": array.tobytes() + bytes(array.nbytes % 2),
    }
    return ct(**(removed | described | changes))


def colour(array: NDArray[Any], photometric: str = "RGB", **changes: Any) -> Dataset:
    """An instance with these samples of three colours."""
    return grey(array, SamplesPerPixel=3, PhotometricInterpretation=photometric, PlanarConfiguration=0, **changes)


def slope(rows: int = 16, columns: int = 16, dtype: str = "uint16", top: int = 4000) -> NDArray[Any]:
    """Values that rise from the first pixel to the last."""
    return np.linspace(0, top, rows * columns).astype(dtype).reshape(rows, columns)


def frame_of(file: bytes, number: int = 1) -> tuple[Decoded, JsonDataset, dict[str, bytes]]:
    """What `render` takes, from a Part 10 file."""
    instance = parse(file)
    dataset = orjson.loads(instance.metadata)
    description = PixelDescription.of(dataset)
    spans = instance.frames.spans(number)
    if instance.transfer_syntax == ExplicitVRBigEndian and dataset["7FE00010"]["vr"] == "OW":
        spans = tuple(span._replace(length=span.length + span.length % 2) for span in spans)
        stored = swapped(_read(file, instance, spans), 2)
    else:
        stored = _read(file, instance, spans)
    frame = decode(stored, instance.transfer_syntax, description)
    attributes = attributes_of_frame(dataset, number)
    return frame, attributes, {uri: _bulk(file, instance, uri) for uri in bulk_uris(attributes)}


def drawn(ds: Dataset, wish: Wish | None = None, number: int = 1) -> NDArray[Any]:
    """The picture of one frame, not encoded."""
    frame, attributes, bulk = frame_of(part10(ds), number)
    return draw(frame, attributes, wish or Wish(), bulk)


def rendered(ds: Dataset, wish: Wish | None = None, number: int = 1) -> Rendered:
    """The rendering of one frame."""
    frame, attributes, bulk = frame_of(part10(ds), number)
    return render(frame, attributes, wish or Wish(), bulk)


def opened(body: bytes) -> Image.Image:
    """A rendering as Pillow sees it."""
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def _bulk(file: bytes, instance: Instance, uri: str) -> bytes:
    value = instance.bulk[uri.removeprefix("bulkdata/")]
    raw = _read(file, instance, value.spans)
    return swapped(raw, 2) if instance.transfer_syntax == ExplicitVRBigEndian and value.vr == "OW" else raw


def _read(file: bytes, instance: Instance, spans: Sequence[Span]) -> bytes:
    base = instance.header_length - len(instance.preface)
    return b"".join(file[base + span.offset : base + span.offset + span.length] for span in spans)
