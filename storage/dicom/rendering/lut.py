"""Look-up tables as data sets have them: modality, VOI, presentation, palette (PS3.3 C.7.6.3.1.5, C.11.1, C.11.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.dicom.instance import JsonDataset
from storage.dicom.rendering.attributes import Bulk, binary, values

_DESCRIPTOR, _DATA = "00283002", "00283006"
_MAX_ENTRIES = 1 << 16
_PIXELS_AT_ONCE = 1 << 17  # so that a block and what is made of it stay in the cache of a core
_INDEXED_AT_ONCE = 1 << 14  # as an index has 8 bytes


@dataclass(frozen=True, slots=True)
class Descriptor:
    """How many entries a table has, the value that the first is for, and the bits of an entry."""

    entries: int
    first: int
    bits: int


@dataclass(frozen=True, slots=True, eq=False)
class Lut:
    """A table: `data[0]` is what `first` and all below map to, the last what all above do."""

    first: int
    bits: int
    data: NDArray[np.uint16]

    def looked_up(self, array: NDArray[Any]) -> NDArray[np.uint16]:
        """`array`, of any numbers, through the table; a fraction of an entry counts as the entry below."""
        index = np.clip(np.floor(array.astype(np.float64)) - self.first, 0, len(self.data) - 1)
        return np.asarray(self.data[index.astype(np.intp)])

    @property
    def full(self) -> int:
        """The largest value that entries may have, as their bits say; more when these are wrong."""
        return int(max((1 << self.bits) - 1, self.data.max()))


def lut_of(item: JsonDataset, bulk: Bulk, *, signed: bool) -> Lut | None:
    """The table of an item of a Modality, VOI or Presentation LUT Sequence; None when it has none that can be read."""
    descriptor = descriptor_of(item, _DESCRIPTOR, signed=signed)
    if descriptor is None:
        return None
    data = entries_of(item, _DATA, bulk, descriptor)
    return Lut(descriptor.first, descriptor.bits, data) if len(data) else None


def descriptor_of(attributes: JsonDataset, key: str, *, signed: bool) -> Descriptor | None:
    """A LUT Descriptor; its first value is signed as what is looked up, whatever VR it has."""
    found = values(attributes, key)
    if len(found) != 3 or not all(isinstance(value, int) for value in found):
        return None
    entries, first, bits = found
    if not 1 <= bits <= 16:
        return None
    first &= 0xFFFF
    first = first - 0x10000 if first & 0x8000 and (signed or attributes[key].get("vr") == "SS") else first
    return Descriptor((entries & 0xFFFF) or _MAX_ENTRIES, first, bits)


def entries_of(attributes: JsonDataset, key: str, bulk: Bulk, descriptor: Descriptor) -> NDArray[np.uint16]:
    """The entries, as many as there are, but not more than the descriptor says."""
    element = attributes.get(key, {})
    raw = binary(element, bulk)
    if raw is None:
        numbers = [value & 0xFFFF for value in values(attributes, key) if isinstance(value, int)]
        return np.array(numbers[: descriptor.entries], np.uint16)
    if descriptor.bits <= 8 and len(raw) < 2 * descriptor.entries:
        return np.frombuffer(raw, np.uint8)[: descriptor.entries].astype(np.uint16)
    return np.frombuffer(raw, "<u2", len(raw) // 2)[: descriptor.entries].astype(np.uint16, copy=False)


def through_table(array: NDArray[Any], table: NDArray[Any]) -> NDArray[Any]:
    """`array` of 8 or 16 bits through a table that has an entry for each pattern of bits."""
    places, result = array.view(f"u{array.dtype.itemsize}"), np.empty(array.shape, table.dtype)
    for rows in blocks(array, _INDEXED_AT_ONCE):
        np.take(table, places[rows], out=result[rows], mode="clip")  # "raise" would take another copy
    return result


def blocks(array: NDArray[Any], pixels: int = _PIXELS_AT_ONCE) -> Iterator[slice]:
    """Rows that are worked on at a time."""
    step = max(1, pixels // max(array.shape[1], 1))
    for start in range(0, array.shape[0], step):
        yield slice(start, start + step)
