"""Pixel cells as native pixel data has them, little endian (PS3.5 8.1.1, annex D; PS3.3 C.7.6.3.1).

*Cells* are an array of rows x columns [x samples] of unsigned integers, with every bit that was stored; *values* are
the same without the bits outside of Bits Stored, and with their sign.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from storage.dicom.pixels.colour import upsampled
from storage.dicom.pixels.description import Kind, PixelDescription

Pixels = NDArray[Any]
_FLOATS: dict[Kind, np.dtype[Any]] = {Kind.FLOAT: np.dtype("<f4"), Kind.DOUBLE: np.dtype("<f8")}
_PACKING: Literal["little"] = "little"  # the first pixel is the least significant bit


def cell_type(description: PixelDescription) -> np.dtype[Any]:
    """The type of cells: unsigned, or what a floating-point element holds."""
    floating = _FLOATS.get(description.kind)
    return floating if floating is not None else np.dtype(f"<u{max(description.allocated // 8, 1)}")


def value_type(description: PixelDescription) -> np.dtype[Any]:
    """The type of values: that of cells, with their sign."""
    kind = cell_type(description)
    return np.dtype(f"<i{kind.itemsize}") if description.signed and kind.kind == "u" else kind


def shape(description: PixelDescription) -> tuple[int, ...]:
    """Of one decoded frame."""
    size = (description.rows, description.columns)
    return size if description.samples == 1 else (*size, description.samples)


def cells(data: bytes, description: PixelDescription) -> Pixels:
    """The cells of one native frame, colours subsampled in pairs of pixels made whole.

    `data` has just so many bytes as the description says. Raises Invalid (MALFORMED) for subsampled colours in odd
    columns.
    """
    if description.allocated == 1:
        flat = np.unpackbits(np.frombuffer(data, np.uint8), count=description.frame_bits, bitorder=_PACKING)
    else:
        flat = np.frombuffer(data, cell_type(description))
    if description.is_subsampled:
        return upsampled(flat, description.rows, description.columns)
    if description.samples > 1 and description.planar == 1:
        planes = flat.reshape(description.samples, description.rows, description.columns)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))
    return flat.reshape(shape(description))


def values(array: Pixels, description: PixelDescription, bits: int | None = None) -> Pixels:
    """Cells as values: the `bits` (Bits Stored at most) from the lowest on, sign-extended when they are signed."""
    if description.kind is not Kind.INTEGER:
        return array
    bits = description.stored if bits is None else min(bits, description.stored)
    size = 8 * array.dtype.itemsize
    if description.signed:
        signed = array.view(value_type(description))
        return signed if bits == size else (signed << (size - bits)) >> (size - bits)
    return array if bits == size else array & array.dtype.type((1 << bits) - 1)


def lowered(array: Pixels, description: PixelDescription) -> tuple[Pixels, PixelDescription]:
    """Cells whose lowest bit is the lowest of the value: High Bit says how far they have to be shifted."""
    shift = description.high_bit + 1 - description.stored
    if shift == 0:
        return array, description
    return array >> array.dtype.type(shift), replace(description, high_bit=description.stored - 1)


def unsigned(array: Pixels, bits: int) -> Pixels:
    """Values as their `bits` lowest bits, which is how most code streams have signed ones (two's complement)."""
    plain = array.view(np.dtype(f"u{array.dtype.itemsize}"))
    return plain if bits == 8 * array.dtype.itemsize else plain & plain.dtype.type((1 << bits) - 1)


def packed(array: Pixels, description: PixelDescription) -> bytes:
    """Cells or values as a native frame, colour by pixel; single bits are filled up to a byte at the end."""
    if description.allocated == 1:
        return np.packbits(array.reshape(-1), bitorder=_PACKING).tobytes()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def joined(frames: Iterable[bytes], description: PixelDescription) -> Iterator[bytes]:
    """Native frames as one value, in pieces: single bits follow each other without padding between frames."""
    rest = description.frame_bits % 8
    if rest == 0:
        yield from frames
        return
    held, waiting = 0, 0  # bits that do not make a byte yet, and how many
    for frame in frames:
        held |= (int.from_bytes(frame, "little") & ((1 << description.frame_bits) - 1)) << waiting
        waiting += description.frame_bits
        whole = waiting // 8
        yield (held & ((1 << 8 * whole) - 1)).to_bytes(whole, "little")
        held, waiting = held >> (8 * whole), waiting % 8
    if waiting:
        yield held.to_bytes(1, "little")
