"""What the data set says about its pixels (PS3.3 C.7.6.3), for any process to ask: nothing here touches them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from storage.dicom.instance import JsonDataset
from storage.errors import Fault, Invalid

MAX_FRAME_BYTES = 1 << 29  # of one decoded frame
_MAX_SHORT = 0xFFFF
_MAX_INTEGER_STRING = 2**31 - 1  # PS3.5 6.2
_INTEGER_BITS = (1, 8, 16, 32, 64)
_MAX_SAMPLES = 4
_SUBSAMPLED = ("YBR_FULL_422", "YBR_PARTIAL_422")
_FLOAT, _DOUBLE = "7FE00008", "7FE00009"
_OVERLAY_GROUPS = tuple(f"{group:04X}" for group in range(0x6000, 0x6020, 2))


class Kind(StrEnum):
    """What a pixel cell holds, and with that which element holds the cells."""

    INTEGER = "integer"  # Pixel Data
    FLOAT = "float"  # Float Pixel Data
    DOUBLE = "double"  # Double Float Pixel Data


_FIXED_BITS = {Kind.FLOAT: 32, Kind.DOUBLE: 64}


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """The Image Pixel Module of one instance, with the names of its attributes in short."""

    rows: int
    columns: int
    samples: int
    photometric: str
    planar: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    frames: int
    kind: Kind = Kind.INTEGER
    lossy: bool = False  # Lossy Image Compression is 01
    has_embedded_overlays: bool = False  # overlays in unused bits of the pixel cells (retired, PS3.3 C.9.2)

    @classmethod
    def of(cls, dataset: JsonDataset) -> Self:
        """The description in `dataset`, or Invalid (MALFORMED) when there is no complete and possible one.

        What is absent and has but one sensible value gets it; so does a High Bit that cannot be.
        """
        kind = Kind.FLOAT if _FLOAT in dataset else Kind.DOUBLE if _DOUBLE in dataset else Kind.INTEGER
        allocated = _FIXED_BITS.get(kind) or _required(dataset, "00280100", "Bits Allocated")
        stored = _number(dataset, "00280101", allocated) if kind is Kind.INTEGER else allocated
        described = cls(
            rows=_required(dataset, "00280010", "Rows"),
            columns=_required(dataset, "00280011", "Columns"),
            samples=_number(dataset, "00280002", 1),
            photometric=_photometric(dataset),
            planar=_number(dataset, "00280006", 0),
            allocated=allocated,
            stored=stored,
            high_bit=_high_bit(_number(dataset, "00280102", stored - 1), allocated, stored),
            signed=_number(dataset, "00280103", 0) == 1,
            frames=_number(dataset, "00280008", 1, _MAX_INTEGER_STRING) or 1,
            kind=kind,
            lossy=_first(dataset, "00282110") == "01",
            has_embedded_overlays=any(_is_embedded(dataset, group) for group in _OVERLAY_GROUPS),
        )
        described._check()
        return described

    def _check(self) -> None:
        if self.kind is Kind.INTEGER and self.allocated not in _INTEGER_BITS:
            raise _impossible(f"Bits Allocated {self.allocated} is none of {_INTEGER_BITS}")
        if not 1 <= self.stored <= self.allocated:
            raise _impossible(f"Bits Stored is {self.stored}, Bits Allocated {self.allocated}")
        if not 1 <= self.samples <= _MAX_SAMPLES:
            raise _impossible(f"Samples per Pixel is {self.samples}")
        if self.planar not in (0, 1):
            raise _impossible(f"Planar Configuration is {self.planar}")

    @property
    def is_subsampled(self) -> bool:
        """Whether native pixel cells hold half as many values of each colour difference (PS3.3 C.7.6.3.1.2)."""
        return self.samples == 3 and self.photometric in _SUBSAMPLED

    @property
    def frame_bits(self) -> int:
        """Bits of one native frame (PS3.5 8.1.1)."""
        return self.rows * self.columns * (2 if self.is_subsampled else self.samples) * self.allocated

    @property
    def frame_bytes(self) -> int:
        """Bytes of one native frame; the last may be filled up with zero bits."""
        return (self.frame_bits + 7) // 8

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the array of one frame."""
        return self.rows * self.columns * self.samples * max(self.allocated // 8, 1)


def _photometric(dataset: JsonDataset) -> str:
    value = _first(dataset, "00280004")
    if not isinstance(value, str) or not value.strip():
        raise _impossible("it has no Photometric Interpretation")
    return value.strip().upper()


def _high_bit(declared: int, allocated: int, stored: int) -> int:
    return declared if stored <= declared + 1 <= allocated else stored - 1


def _is_embedded(dataset: JsonDataset, group: str) -> bool:
    return _number(dataset, f"{group}0102", 0) > 0 and f"{group}3000" not in dataset  # a bit of the cells, no data


def _required(dataset: JsonDataset, key: str, name: str) -> int:
    value = _number(dataset, key, 0)
    if value == 0:
        raise _impossible(f"it has no {name}")
    return value


def _number(dataset: JsonDataset, key: str, default: int, most: int = _MAX_SHORT) -> int:
    value = _first(dataset, key)
    return value if isinstance(value, int) and 0 <= value <= most else default


def _first(dataset: JsonDataset, key: str) -> Any:
    values = dataset.get(key, {}).get("Value")
    return values[0] if values else None


def _impossible(what: str) -> Invalid:
    return Invalid(Fault.MALFORMED, f"the pixels cannot be read by their description: {what}")
