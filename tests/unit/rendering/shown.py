"""Instances as the rendering sees them: decoded frames, their attributes, and the bulk values these name."""

import io
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from storage.dicom.instance import Instance, JsonDataset
from storage.dicom.parse import parse
from storage.dicom.pixels.decode import Decoded, decode
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.rendering.attributes import attributes_of_frame, bulk_uris
from storage.dicom.rendering.render import Rendered, draw, render
from storage.dicom.rendering.wish import Wish
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
    return ct(
        **{key: value for key, value in (removed | described | changes).items() if value is not None or key in removed}
    )


def colour(array: NDArray[Any], photometric: str = "RGB", **changes: Any) -> Dataset:
    """An instance with these samples of three colours."""
    return grey(array, SamplesPerPixel=3, PhotometricInterpretation=photometric, PlanarConfiguration=0, **changes)


def slope(rows: int = 16, columns: int = 16, dtype: str = "uint16", top: int = 4000) -> NDArray[Any]:
    """Values that rise from the first pixel to the last."""
    return np.linspace(0, top, rows * columns).astype(dtype).reshape(rows, columns)


def frame_of(file: bytes, number: int = 1) -> tuple[Decoded, JsonDataset, dict[str, bytes]]:
    """What `render` takes, from a Part 10 file of little endian."""
    instance = parse(file)
    dataset = orjson.loads(instance.metadata)
    stored = b"".join(
        file[span.offset : span.offset + span.length] for span in _absolute(instance, instance.frames.spans(number))
    )
    frame = decode(stored, instance.transfer_syntax, PixelDescription.of(dataset))
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
    spans = instance.bulk[uri.removeprefix("bulkdata/")].spans
    return b"".join(file[span.offset : span.offset + span.length] for span in _absolute(instance, spans))


def _absolute(instance: Instance, spans: Any) -> Any:
    return [span._replace(offset=span.offset + instance.header_length - len(instance.preface)) for span in spans]
