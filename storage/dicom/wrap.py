"""Metadata and the bulk data that came beside it, made one instance: which transfer syntax, which description.

Of pixel data only the lengths and the first bytes are looked at, without a codec (PS3.18 10.5.1.4, Table 10.5.2-1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from storage.dicom import syntax
from storage.dicom.aroundpixels import Encapsulated, Native, Pixels
from storage.dicom.instance import JsonDataset
from storage.dicom.pixels import jpeg_2000_header, jpeg_header, jpeg_xl_header, syntaxes
from storage.dicom.pixels.codestream import CodeStream
from storage.dicom.pixels.syntaxes import Coding, coding_of
from storage.errors import Fault, Invalid

PIXEL_DATA = "7FE00010"
ENCAPSULATED_DOCUMENT = "00420011"
# The values of an instance that may be of any size, and are therefore streamed: an instance has one of them.
STREAMED = (PIXEL_DATA, "7FE00008", "7FE00009", ENCAPSULATED_DOCUMENT)
HEAD_BYTES = 1 << 20  # a header with its colour profile and thumbnail fits in

_TRANSFER_SYNTAX = "00020010"
_NUMBER_OF_FRAMES = "00280008"
_SAMPLES, _PHOTOMETRIC, _PLANAR = "00280002", "00280004", "00280006"
_ROWS, _COLUMNS = "00280010", "00280011"
_ALLOCATED, _STORED, _HIGH_BIT, _SIGNED = "00280100", "00280101", "00280102", "00280103"
_NEEDED = {
    _ROWS: "Rows",
    _COLUMNS: "Columns",
    _SAMPLES: "Samples per Pixel",
    _PHOTOMETRIC: "Photometric Interpretation",
}
_NEEDED_OF_INTEGERS = {
    _ALLOCATED: "Bits Allocated",
    _STORED: "Bits Stored",
    _HIGH_BIT: "High Bit",
    _SIGNED: "Pixel Representation",
}
_LOSSY = "00282110"
_MIME_TYPE, _DOCUMENT_LENGTH = "00420012", "00420015"
_OCTETS = "application/octet-stream"
_SAME_BYTES = frozenset(
    {syntax.EXPLICIT_LITTLE, syntax.IMPLICIT_LITTLE, syntax.DEFLATED, syntaxes.ENCAPSULATED_UNCOMPRESSED}
)
_READERS = (
    ((jpeg_header.START,), jpeg_header.read_jpeg),
    ((jpeg_2000_header.START, jpeg_2000_header.FILE_START), jpeg_2000_header.read_jpeg_2000),
    ((jpeg_xl_header.START, jpeg_xl_header.FILE_START), jpeg_xl_header.read_jpeg_xl),
)
_REVERSIBLE_AND_NOT = {
    Coding.JPEG_LS: (syntaxes.JPEG_LS_LOSSLESS, syntaxes.JPEG_LS_NEAR_LOSSLESS),
    Coding.JPEG_2000: (syntaxes.JPEG_2000_LOSSLESS, syntaxes.JPEG_2000),
    Coding.HTJ2K: (syntaxes.HTJ2K_LOSSLESS, syntaxes.HTJ2K),
    Coding.JPEG_XL: (syntaxes.JPEG_XL, syntaxes.JPEG_XL),  # its header does not tell for certain
}
_PROGRESSIVE = "1.2.840.10008.1.2.4.55"
_START_OF_SCAN = 0xDA


@dataclass(frozen=True, slots=True)
class Sent:
    """Pixel data beside metadata: the lengths of its parts (each a frame, when compressed), and what was said of it."""

    lengths: Sequence[int]
    syntaxes: Sequence[str]  # the transfer syntaxes that its media type may carry; the first is the default
    named: str | None  # the transfer syntax that the part names
    head: bytes  # the first bytes of the first part, up to HEAD_BYTES


class Wrapped(NamedTuple):
    """What `encode` needs: the completed data set, and how the bytes that are streamed stand in it."""

    dataset: JsonDataset
    transfer_syntax: str
    pixels: Pixels


def with_pixels(dataset: JsonDataset, key: str, sent: Sent) -> Wrapped:
    """The data set for pixels that came beside it, its Image Pixel macro completed from their header where it lacks.

    Raises Invalid: TRANSFER_SYNTAX (the media type, the syntax and the bytes do not agree), MALFORMED (no pixels,
    a description that is missing or contradicts their header, another number of frames than parts).
    """
    if not all(sent.lengths):
        raise _malformed("the pixel data that came with the metadata is empty")
    named = _named(dataset, sent)
    if key != PIXEL_DATA or (named or sent.syntaxes[0]) in _SAME_BYTES:
        return _native(dataset, key, sent, named)
    if syntax.is_stream(named or sent.syntaxes[0]):
        _one_part(sent)
        _check_description(dataset, _NEEDED | _NEEDED_OF_INTEGERS)
        return Wrapped(dataset, named or sent.syntaxes[0], Encapsulated(sent.lengths, ()))
    if coding_of(named or sent.syntaxes[0]) is Coding.RLE:
        completed, chosen = dataset, syntax.RLE
    else:
        stream = _code_stream(sent.head)
        chosen = named or _syntax_of(stream, sent.head)
        if coding_of(chosen) is not stream.coding or chosen not in sent.syntaxes:
            raise _unfit(
                f"the pixel data is {stream.coding}, but neither its media type nor its transfer syntax says so"
            )
        completed = _described(dataset, stream)
    completed = _with_frames(completed, len(sent.lengths))
    _check_description(completed, _NEEDED | _NEEDED_OF_INTEGERS)
    return Wrapped(completed, chosen, Encapsulated(sent.lengths))


def with_document(dataset: JsonDataset, media_type: str, length: int) -> Wrapped:
    """The data set for a document that came beside it; its type and length are added when they are missing.

    Raises Invalid (MALFORMED) when the document is empty.
    """
    if not length:
        raise _malformed("the document that came with the metadata is empty")
    added: JsonDataset = {_DOCUMENT_LENGTH: _element("UL", length)}
    if media_type != _OCTETS:
        added[_MIME_TYPE] = _element("LO", media_type)
    pixels = Native(length, "OB", int(ENCAPSULATED_DOCUMENT, 16))
    return Wrapped(_filled(dataset, added), syntax.EXPLICIT_LITTLE, pixels)


def _named(dataset: JsonDataset, sent: Sent) -> str | None:
    """The transfer syntax that the part names, or else the metadata, when the media type can carry that."""
    if sent.named is None:
        declared = _first(dataset, _TRANSFER_SYNTAX)
        return declared if declared in sent.syntaxes else None
    if sent.named not in sent.syntaxes:
        raise _unfit("the media type of the pixel data cannot be in the transfer syntax that it names")
    return sent.named


def _native(dataset: JsonDataset, key: str, sent: Sent, named: str | None) -> Wrapped:
    _one_part(sent)
    if (named or sent.syntaxes[0]) not in _SAME_BYTES:
        raise _unfit("pixel data of floating-point numbers came compressed")
    _check_description(dataset, _NEEDED | _NEEDED_OF_INTEGERS if key == PIXEL_DATA else _NEEDED)
    entry = dataset[key]
    vr = "OF" if key == "7FE00008" else "OD" if key == "7FE00009" else entry.get("vr")
    if key == PIXEL_DATA and (vr != "OB" or str(_first(dataset, _ALLOCATED)).strip() not in ("1", "8")):
        vr = "OW"  # OB has no order of bytes (PS3.5 A.2)
    return Wrapped(dataset, syntax.EXPLICIT_LITTLE, Native(sent.lengths[0], vr, int(key, 16)))


def _one_part(sent: Sent) -> None:
    if len(sent.lengths) != 1:
        raise _malformed("several parts have the Content-Location of one value that is not in frames")


def _code_stream(head: bytes) -> CodeStream:
    for starts, reader in _READERS:
        if head.startswith(starts):
            return reader(head)
    raise _unfit("the pixel data does not begin as its media type says")


def _syntax_of(stream: CodeStream, head: bytes) -> str:
    """The transfer syntax of frames that do not say it otherwise."""
    if stream.coding not in (Coding.JPEG, Coding.JPEG_LOSSLESS):
        reversible, lossy = _REVERSIBLE_AND_NOT[stream.coding]
        return reversible if stream.reversible else lossy
    process, selection = _jpeg_process(head)
    if stream.coding is Coding.JPEG_LOSSLESS:
        return syntaxes.JPEG_LOSSLESS_SV1 if selection == 1 else syntaxes.JPEG_LOSSLESS
    return {0xC0: syntaxes.JPEG_BASELINE, 0xC2: _PROGRESSIVE}.get(process, syntaxes.JPEG_EXTENDED)


def _jpeg_process(head: bytes) -> tuple[int, int]:
    """The marker of the frame header, and the first parameter of the scan; the header has been read once already."""
    position, process = 2, 0
    while position + 4 <= len(head):
        marker, length = head[position + 1], int.from_bytes(head[position + 2 : position + 4], "big")
        if marker == 0xFF:
            position += 1
            continue
        if marker == _START_OF_SCAN:
            return process, head[position + 2 + length - 3]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            process = marker
        position += 2 + length
    return process, 0


def _described(dataset: JsonDataset, stream: CodeStream) -> JsonDataset:
    """The Image Pixel macro of `dataset`, completed from what the pixels say of themselves (PS3.18 10.5.2)."""
    size = {_ROWS: stream.rows, _COLUMNS: stream.columns, _SAMPLES: stream.components}
    for key, number in size.items():
        given = _first(dataset, key)
        if given is not None and str(given).strip() != str(number):
            raise _malformed(f"{_NEEDED[key]} is not what the header of the pixel data says")
    stored = _first(dataset, _STORED)
    stored = stored if isinstance(stored, int) and stored > 0 else stream.precision
    added = {
        **{key: _element("US", number) for key, number in size.items()},
        _ALLOCATED: _element("US", 8 if stream.precision <= 8 else 16 if stream.precision <= 16 else 32),
        _STORED: _element("US", stored),
        _HIGH_BIT: _element("US", stored - 1),
        _SIGNED: _element("US", int(stream.signed)),
    }
    photometric = _photometric(stream)
    if photometric:
        added[_PHOTOMETRIC] = _element("CS", photometric)
    if not stream.reversible:
        added[_LOSSY] = _element("CS", "01")  # it must be said of what has lost something (PS3.3 C.7.6.1.1.5)
    if stream.components > 1:
        added[_PLANAR] = _element("US", 0)
    return _filled(dataset, added)


def _photometric(stream: CodeStream) -> str:
    if stream.components == 1:
        return "MONOCHROME2"
    if stream.components != 3:
        return ""
    match stream.coding:
        case Coding.JPEG:
            return "RGB" if stream.transformed is False else "YBR_FULL_422"
        case Coding.JPEG_2000 | Coding.HTJ2K if stream.transformed:
            return "YBR_RCT" if stream.reversible else "YBR_ICT"
        case Coding.JPEG_XL if not stream.reversible:
            return "XYB"
    return "RGB"


def _with_frames(dataset: JsonDataset, parts: int) -> JsonDataset:
    frames = _first(dataset, _NUMBER_OF_FRAMES)
    if frames is None and parts > 1:
        return _filled(dataset, {_NUMBER_OF_FRAMES: _element("IS", parts)})
    if str(frames if frames is not None else 1).strip() != str(parts):
        raise _malformed(f"compressed pixel data came in {parts} parts, which is not the Number of Frames")
    return dataset


def _check_description(dataset: JsonDataset, needed: dict[str, str]) -> None:
    missing = [name for key, name in needed.items() if _first(dataset, key) is None]
    if missing:
        raise _malformed(f"the metadata of the pixel data lacks {', '.join(missing)}")


def _filled(dataset: JsonDataset, added: JsonDataset) -> JsonDataset:
    """`dataset` with those of `added` that it has no value for."""
    return dataset | {key: entry for key, entry in added.items() if _first(dataset, key) is None}


def _first(dataset: JsonDataset, key: str) -> Any:
    entry = dataset.get(key)
    values = entry.get("Value") if isinstance(entry, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _element(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def _malformed(message: str) -> Invalid:
    return Invalid(Fault.MALFORMED, message)


def _unfit(message: str) -> Invalid:
    return Invalid(Fault.TRANSFER_SYNTAX, message)
