"""What there is to render in an instance, by its data set: pixels, a report, a document, or nothing (PS3.18 8.7.4)."""

from enum import StrEnum
from typing import NamedTuple, Self

from storage.dicom.instance import JsonDataset
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.rendering.attributes import number, text
from storage.dicom.rendering.report import is_report
from storage.errors import Fault, Invalid, NotAcceptable

_PIXELS = ("7FE00010", "7FE00008", "7FE00009")
_ROWS, _DOCUMENT, _DOCUMENT_TYPE, _DOCUMENT_LENGTH = "00280010", "00420011", "00420012", "00420015"


class Kind(StrEnum):
    """The rendered media types that make sense for it."""

    IMAGE = "image"
    REPORT = "report"
    DOCUMENT = "document"
    OTHER = "other"


class Outline(NamedTuple):
    """The little that must be known before anything is rendered."""

    kind: Kind
    frames: int = 0
    document_type: str = ""
    document_length: int | None = None

    @classmethod
    def of(cls, dataset: JsonDataset) -> Self:
        """The outline of an instance with this data set."""
        if _ROWS in dataset and any(key in dataset for key in _PIXELS):
            return cls(Kind.IMAGE, max(1, int(number(dataset, "00280008") or 1)))
        if _DOCUMENT in dataset:
            length = number(dataset, _DOCUMENT_LENGTH)
            media_type = text(dataset, _DOCUMENT_TYPE).lower()
            return cls(Kind.DOCUMENT, 0, media_type, None if length is None else int(length))
        return cls(Kind.REPORT if is_report(dataset) else Kind.OTHER)

    def document_bytes(self, stored: int) -> int:
        """How many of so many stored bytes are the document: all, or all but a byte of padding."""
        said = self.document_length
        return said if said is not None and said in (stored, stored - 1) else stored


def described(dataset: JsonDataset, most_bytes: int) -> PixelDescription:
    """How the pixels are to be read. Raises NotAcceptable when the data set does not say; Invalid (TOO_LARGE)."""
    try:
        description = PixelDescription.of(dataset)
    except Invalid as error:
        raise NotAcceptable(str(error)) from error
    if description.decoded_bytes > most_bytes:
        raise Invalid(Fault.TOO_LARGE, f"frames of more than {most_bytes} bytes are not rendered")
    return description
