"""Frames to arrays, in whatever transfer syntax, with a description that is true to the array (PS3.5 8.2)."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from storage.dicom.pixels import jpeg_2000_header, jpeg_header, jpeg_xl_header, rle
from storage.dicom.pixels.codecs import DECODERS
from storage.dicom.pixels.codestream import CodeStream, damaged, unsupported
from storage.dicom.pixels.colour import rgb_of_ybr_partial
from storage.dicom.pixels.conversion import decoded_photometric
from storage.dicom.pixels.description import MAX_FRAME_BYTES, Kind, PixelDescription
from storage.dicom.pixels.native import Pixels, cell_type, cells, lowered, values
from storage.dicom.pixels.syntaxes import JPEG_XL_RECOMPRESSION, KEEPING_CELLS, Coding, coding_of
from storage.errors import Fault, Invalid

_HEADERS = {
    jpeg_header.START: jpeg_header.read_jpeg,
    jpeg_2000_header.START: jpeg_2000_header.read_jpeg_2000,
    jpeg_2000_header.FILE_START: jpeg_2000_header.read_jpeg_2000,
    jpeg_xl_header.START: jpeg_xl_header.read_jpeg_xl,
    jpeg_xl_header.FILE_START: jpeg_xl_header.read_jpeg_xl,
}
_OWN_TRANSFORM = frozenset({Coding.JPEG_2000, Coding.HTJ2K})


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """One frame: rows x columns [x samples], samples last, perhaps read-only, and what describes it now."""

    array: Pixels
    description: PixelDescription


def decode(data: bytes, transfer_syntax: str, description: PixelDescription) -> Decoded:
    """The pixels of one frame, whose bytes of Bits Allocated 1 begin at its first pixel.

    Values have the type that Bits Allocated and Pixel Representation say (0 and 1 in bytes for single bits), and
    nothing in the bits that are not stored. Colours of JPEG and of JPEG 2000's own transform are RGB, others stay as
    they are but for subsampled ones, which become YBR_FULL. Where code stream and data set contradict each other, the
    code stream is right (PS3.5 8.2.4).

    Raises Invalid: MALFORMED when the frame is damaged, cut short or not of the size described; TRANSFER_SYNTAX when
    nothing here can decode it; TOO_LARGE before memory is taken for more than MAX_FRAME_BYTES. And nothing else.
    """
    coding = coding_of(transfer_syntax)
    if coding is None or (description.kind is not Kind.INTEGER and coding is not Coding.NATIVE):
        raise unsupported(f"its transfer syntax is {transfer_syntax}, its pixels are of the kind {description.kind}")
    if coding in KEEPING_CELLS:
        return _cells_to_values(decode_cells(data, coding, description), description)
    with _refusals(coding):
        return _decompressed(data, _as_lossy(transfer_syntax, description))


@contextmanager
def _refusals(coding: Coding) -> Iterator[None]:
    """Make Invalid of the errors of a codec: each has its own, and what nobody foresaw is damage too."""
    try:
        yield
    except (Invalid, MemoryError):
        raise
    except Exception as error:
        raise damaged(f"the decoder of {coding} refuses it") from error


def decode_cells(data: bytes, coding: Coding, description: PixelDescription) -> Pixels:
    """Cells as they were stored, every bit of them, of a coding that keeps these; raises Invalid as `decode` does."""
    _refuse_large(description)
    if coding is Coding.RLE:
        with _refusals(coding):
            return rle.decoded(data, description)
    return cells(native_bytes(data, coding, description), description)


def native_bytes(data: bytes, coding: Coding, description: PixelDescription) -> bytes:
    """The native frame in one of a coding that keeps it whole (not RLE), without padding; raises Invalid."""
    length = description.frame_bytes
    native = _inflated(data, length) if coding is Coding.DEFLATED else data[:length]
    if len(native) < length:
        raise Invalid(Fault.MALFORMED, f"the frame is cut short: it has {len(native)} bytes instead of {length}")
    return native


def _refuse_large(description: PixelDescription) -> None:
    if description.decoded_bytes > MAX_FRAME_BYTES:
        raise Invalid(Fault.TOO_LARGE, f"a frame takes {description.decoded_bytes} bytes: more than {MAX_FRAME_BYTES}")


def _inflated(data: bytes, length: int) -> bytes:
    """The first `length` bytes, which are all but for padding."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, length)
    except zlib.error:
        raise damaged("it is not deflated as its transfer syntax says") from None


def _cells_to_values(array: Pixels, description: PixelDescription) -> Decoded:
    array, description = lowered(array, description)
    array = values(array, description)
    if description.samples == 1:
        return Decoded(array, description)
    if description.photometric == "YBR_PARTIAL_422":
        array = rgb_of_ybr_partial(array, description.stored)
    return Decoded(array, _described(description, Coding.NATIVE, description.photometric))


def _described(description: PixelDescription, coding: Coding, named: str) -> PixelDescription:
    if description.samples == 1:
        return description
    return replace(description, photometric=decoded_photometric(coding, named, description.samples), planar=0)


def _as_lossy(transfer_syntax: str, description: PixelDescription) -> PixelDescription:
    """JPEG in another form does not say in its own header that it has lost something."""
    return replace(description, lossy=True) if transfer_syntax == JPEG_XL_RECOMPRESSION else description


def _decompressed(data: bytes, description: PixelDescription) -> Decoded:
    stream = _header(data)
    description = _believing(stream, description)
    _refuse_large(description)
    array = DECODERS[stream.coding](data, _with_colours(stream, description))
    expected = (stream.rows, stream.columns) if stream.components == 1 else (stream.rows, stream.columns, 3)
    if array.shape != expected:
        raise damaged(f"it decodes to {array.shape} instead of {expected}")
    array = values(array.astype(cell_type(description), copy=False), description, stream.precision)
    return Decoded(array, _described(description, stream.coding, description.photometric))


def _header(data: bytes) -> CodeStream:
    """What the frame says of itself. The transfer syntax may name another coding: then it is wrong."""
    for start, read in _HEADERS.items():
        if data.startswith(start):
            return read(data)
    raise damaged("it does not begin as any code stream does")


def _believing(stream: CodeStream, description: PixelDescription) -> PixelDescription:
    """The description corrected by what the code stream says; raises Invalid when they have nothing in common."""
    if (stream.rows, stream.columns) != (description.rows, description.columns):
        raise damaged(
            f"it has {stream.rows} rows and {stream.columns} columns instead of "
            f"{description.rows} and {description.columns}"
        )
    if stream.components not in (1, 3):
        raise unsupported(f"it has {stream.components} components")
    if stream.precision > max(description.allocated, 8):
        raise damaged(f"it has {stream.precision} bits a sample instead of {description.allocated} at most")
    return replace(
        description,
        samples=stream.components,
        photometric=_photometric(stream, description),
        high_bit=description.stored - 1,
        lossy=description.lossy or not stream.reversible,
    )


def _photometric(stream: CodeStream, description: PixelDescription) -> str:
    if stream.components != description.samples:
        return "RGB" if stream.components == 3 else "MONOCHROME2"
    if stream.components == 3 and stream.coding in _OWN_TRANSFORM and stream.transformed:
        return "RGB"
    return description.photometric


def _with_colours(stream: CodeStream, description: PixelDescription) -> CodeStream:
    """A JPEG stream that is silent about its colours has those that the data set names."""
    if stream.transformed is not None:
        return stream
    return replace(stream, transformed=description.photometric != "RGB")
