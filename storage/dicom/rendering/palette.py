"""PALETTE COLOR to RGB, tables whole or in segments (PS3.3 C.7.6.3.1.5, C.7.9.2)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.dicom.instance import JsonDataset
from storage.dicom.rendering.attributes import Bulk, binary
from storage.dicom.rendering.lut import Descriptor, descriptor_of, entries_of
from storage.errors import Fault, Invalid

_CHANNELS = (
    ("00281101", "00281201", "00281221"),
    ("00281102", "00281202", "00281222"),
    ("00281103", "00281203", "00281223"),
)
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


def rgb_of_palette(array: NDArray[Any], attributes: JsonDataset, bulk: Bulk, *, signed: bool) -> NDArray[np.uint8]:
    """Rows x columns x 3 of stored values; raises Invalid (MALFORMED) when the tables cannot be used."""
    channels = [_channel(attributes, keys, bulk, signed=signed) for keys in _CHANNELS]
    shift = 8 if any(entries.max() > 0xFF for _, entries in channels) else 0
    shades = [(first, (entries >> shift).astype(np.uint8)) for first, entries in channels]
    return np.stack([_looked_up(array, first, shade) for first, shade in shades], axis=-1)


def _looked_up(array: NDArray[Any], first: int, shades: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if array.dtype.itemsize > 2:
        return np.take(shades, np.clip(array.astype(np.int64) - first, 0, len(shades) - 1))
    every = np.arange(1 << 8 * array.dtype.itemsize, dtype=f"u{array.dtype.itemsize}").view(array.dtype)
    table = shades[np.clip(every.astype(np.int32) - first, 0, len(shades) - 1)]
    return np.take(table, array.view(f"u{array.dtype.itemsize}"))


def _channel(
    attributes: JsonDataset, keys: tuple[str, str, str], bulk: Bulk, *, signed: bool
) -> tuple[int, NDArray[np.uint16]]:
    descriptor = descriptor_of(attributes, keys[0], signed=signed)
    if descriptor is None:
        raise _malformed("its descriptor is missing or no such thing")
    entries = entries_of(attributes, keys[1], bulk, descriptor)
    if not len(entries):
        entries = _expanded(_words(attributes, keys[2], bulk, descriptor), descriptor)
    if not len(entries):
        raise _malformed("it has no entries")
    return descriptor.first, entries


def _words(attributes: JsonDataset, key: str, bulk: Bulk, descriptor: Descriptor) -> list[int]:
    """Segments as they are stored: in bytes or words, as the entries are."""
    raw = binary(attributes.get(key, {}), bulk) or b""
    return list(raw) if descriptor.bits <= 8 else np.frombuffer(raw, "<u2", len(raw) // 2).tolist()


def _expanded(words: list[int], descriptor: Descriptor) -> NDArray[np.uint16]:
    """All entries of segmented data (C.7.9.2); raises Invalid (MALFORMED)."""
    entries: list[int] = []
    _expand(words, 0, len(words), entries, descriptor, nested=False)
    return np.array(entries[: descriptor.entries], np.uint16)


def _expand(
    words: list[int], at: int, segments: int, entries: list[int], descriptor: Descriptor, *, nested: bool
) -> None:
    """So many `segments` from the word `at` on, put behind `entries` until these are as many as there should be."""
    address = 4 if descriptor.bits <= 8 else 2  # in words: an indirect segment has it in 32 bits, low word first
    for _ in range(segments):
        if at + 1 >= len(words) or len(entries) >= descriptor.entries:
            return
        kind, count, rest = words[at], words[at + 1], words[at + 2 : at + 2 + address]
        at += 2
        if kind == _DISCRETE:
            entries += words[at : at + count]
            at += count
        elif kind == _LINEAR and entries and rest:
            entries += _line(entries[-1], rest[0], count)
            at += 1
        elif kind == _INDIRECT and not nested and len(rest) == address:
            _expand(words, _target(rest), count, entries, descriptor, nested=True)
            at += address
        else:
            raise _malformed("a segment makes no sense")


def _line(start: int, end: int, count: int) -> list[int]:
    return [round(start + (end - start) * step / count) for step in range(1, count + 1)]


def _target(address: list[int]) -> int:
    """The word at an address that is given in bytes, from the first segment on."""
    if len(address) == 4:
        return int.from_bytes(bytes(address), "little")
    return (address[0] | address[1] << 16) // 2


def _malformed(what: str) -> Invalid:
    return Invalid(Fault.MALFORMED, f"the palette cannot be read: {what}")
