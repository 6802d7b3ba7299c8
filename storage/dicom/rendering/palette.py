"""PALETTE COLOR to RGB, tables whole or in segments (PS3.3 C.7.6.3.1.5, C.7.9.2)."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.dicom.instance import JsonDataset
from storage.dicom.rendering.attributes import Bulk, binary
from storage.dicom.rendering.lut import descriptor_of, entries_of, through_table
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
    return through_table(array, table)


def _channel(
    attributes: JsonDataset, keys: tuple[str, str, str], bulk: Bulk, *, signed: bool
) -> tuple[int, NDArray[np.uint16]]:
    descriptor = descriptor_of(attributes, keys[0], signed=signed)
    if descriptor is None:
        raise _malformed("its descriptor is missing or no such thing")
    entries = entries_of(attributes, keys[1], bulk, descriptor)
    if not len(entries):
        raw = binary(attributes.get(keys[2], {}), bulk) or b""
        entries = _expanded(raw, descriptor.bits, descriptor.entries)
    if not len(entries):
        raise _malformed("it has no entries")
    return descriptor.first, entries


@lru_cache(maxsize=24)  # all frames of an instance have the same, which may be thousands of short segments
def _expanded(raw: bytes, bits: int, entries: int) -> NDArray[np.uint16]:
    """So many entries of segmented data (C.7.9.2), in bytes or words as the entries are; raises Invalid (MALFORMED)."""
    words = np.frombuffer(raw, np.uint8) if bits <= 8 else np.frombuffer(raw, "<u2", len(raw) // 2)
    expansion = _Expansion(words, entries)
    expansion.expand(0, len(words), nested=False)
    if not expansion.parts:
        return np.empty(0, np.uint16)
    return np.concatenate(expansion.parts)[:entries].astype(np.uint16)


class _Expansion:
    """The entries that segments have given so far, in `parts`, until there are as many as there should be."""

    def __init__(self, words: NDArray[Any], entries: int) -> None:
        self.parts: list[NDArray[Any]] = []
        self._words = words
        self._missing = entries
        self._address_words = 4 // words.dtype.itemsize  # of an indirect segment: 32 bits, low word first

    def expand(self, at: int, segments: int, *, nested: bool) -> None:
        """So many `segments` from the word `at` on."""
        for _ in range(segments):
            if at + 1 >= len(self._words) or self._missing <= 0:
                return
            kind, count = int(self._words[at]), int(self._words[at + 1])
            at += 2
            if kind == _DISCRETE:
                self._add(self._words[at : at + count])
                at += count
            elif kind == _LINEAR:
                self._add(self._line(at, count))
                at += 1
            elif kind == _INDIRECT and not nested:
                self.expand(self._target(at), count, nested=True)
                at += self._address_words
            else:
                raise _malformed("a segment makes no sense")

    def _add(self, entries: NDArray[Any]) -> None:
        self.parts.append(entries)
        self._missing -= len(entries)

    def _line(self, at: int, count: int) -> NDArray[Any]:
        """From the entry before to the word `at`, which is the last."""
        if not self.parts or not len(self.parts[-1]) or at >= len(self._words):
            raise _malformed("a line of entries has no start or no end")
        start, end = float(self.parts[-1][-1]), float(self._words[at])
        return np.rint(start + (end - start) * np.arange(1, count + 1) / max(count, 1))

    def _target(self, at: int) -> int:
        """The word at the address, given in bytes, that lies at `at`."""
        address = self._words[at : at + self._address_words]
        if len(address) < self._address_words:
            raise _malformed("a segment points nowhere")
        return int.from_bytes(address.tobytes(), "little") // self._words.dtype.itemsize


def _malformed(what: str) -> Invalid:
    return Invalid(Fault.MALFORMED, f"the palette cannot be read: {what}")
