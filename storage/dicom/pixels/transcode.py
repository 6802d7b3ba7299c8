"""Frames from one transfer syntax to another (PS3.18 8.7.3.5): the same pixels in other bytes."""

from dataclasses import dataclass, replace

from storage.dicom.pixels.codestream import unsupported
from storage.dicom.pixels.conversion import can, coded, decoded_photometric
from storage.dicom.pixels.decode import decode, decode_cells, native_bytes
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.pixels.encode import encode, encode_cells, wrapped
from storage.dicom.pixels.syntaxes import KEEPING_CELLS, Coding, coding_of, is_the_same


@dataclass(frozen=True, slots=True)
class Transcoded:
    """A frame in another transfer syntax; `conversion.changes` tells what its description means for the data set."""

    data: bytes
    description: PixelDescription


def transcode(data: bytes, source: str, target: str, description: PixelDescription) -> Transcoded:
    """One frame in the transfer syntax `target`, without a loss that it did not have before.

    The description that comes with it is that of this frame: all frames of an instance must agree in it, as there is
    one data set for them. Raises Invalid as `decode` does, and TRANSFER_SYNTAX where `conversion.can` says no.
    """
    if is_the_same(source, target):
        return Transcoded(data, description)
    if not can(source, target, description):
        raise unsupported(f"such pixels cannot go from transfer syntax {source} to {target}")
    coding, wanted = coding_of(source), coding_of(target)
    assert coding is not None and wanted is not None
    if coding in KEEPING_CELLS and wanted in KEEPING_CELLS:
        return _repacked(data, coding, wanted, description)
    if description.has_embedded_overlays:
        return _with_overlays(data, source, target, description)
    decoded = decode(data, source, description)
    encoded = encode(decoded.array, decoded.description, target)
    return Transcoded(encoded, coded(decoded.description, target))


def _with_overlays(data: bytes, source: str, target: str, description: PixelDescription) -> Transcoded:
    """Taking all bits of a cell for stored ones, so that the overlays in the others come along."""
    stored, high_bit = description.stored, description.high_bit
    whole = replace(description, stored=description.allocated, high_bit=description.allocated - 1)
    decoded = decode(data, source, whole)
    encoded = encode(decoded.array, decoded.description, target)
    return Transcoded(encoded, replace(coded(decoded.description, target), stored=stored, high_bit=high_bit))


def _repacked(data: bytes, coding: Coding, wanted: Coding, description: PixelDescription) -> Transcoded:
    """With every bit of the cells as it was, those that are not stored too."""
    if Coding.RLE not in (coding, wanted):
        return Transcoded(wrapped(native_bytes(data, coding, description), wanted), description)
    array = decode_cells(data, coding, description)
    if description.samples == 1:
        return Transcoded(encode_cells(array, wanted, description), description)
    named = decoded_photometric(Coding.NATIVE, description.photometric, description.samples)
    after = replace(description, photometric=named, planar=int(wanted is Coding.RLE))
    return Transcoded(encode_cells(array, wanted, after), after)
