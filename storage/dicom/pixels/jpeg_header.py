"""The header of a JPEG or JPEG-LS frame (ISO 10918-1 annex B, 10918-6, 14495-1 annex C)."""

from collections.abc import Iterator
from typing import NamedTuple

from storage.dicom.pixels.codestream import CodeStream, damaged, unsupported
from storage.dicom.pixels.syntaxes import Coding
from storage.errors import Fault, Invalid

START = b"\xff\xd8"
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_APP0, _APP14 = 0xE0, 0xEE
_RESTARTS = range(0xD0, 0xD8)
_CODINGS = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2, 0xC9, 0xCA), Coding.JPEG),  # Huffman coding, then arithmetic
    0xC3: Coding.JPEG_LOSSLESS,
    0xF7: Coding.JPEG_LS,
}
_OTHERS = (0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)
_MAX_SEGMENTS = 4096
_MAX_SCANS = 256  # each goes over the whole image again
_RGB_IDENTIFIERS = (b"RGB", b"rgb")


class _Segment(NamedTuple):
    marker: int
    body: bytes
    after: int  # where the next begins


def read_jpeg(data: bytes) -> CodeStream:
    """What its header says; raises Invalid (MALFORMED; TRANSFER_SYNTAX for a process that cannot be decoded)."""
    frame: _Segment | None = None
    adobe, jfif = -1, False
    for segment in _segments(data):
        if segment.marker in _CODINGS:
            frame = segment
        elif segment.marker in _OTHERS:
            raise unsupported(f"JPEG with the frame header SOF{segment.marker - 0xC0}")
        elif segment.marker == _APP14 and segment.body.startswith(b"Adobe") and len(segment.body) >= 12:
            adobe = segment.body[11]
        elif segment.marker == _APP0:
            jfif = jfif or segment.body.startswith(b"JFIF\0")
        elif segment.marker == _SOS:
            if frame is None:
                break
            return _read(data, frame, segment, adobe, jfif)
    raise damaged("it has no frame header before its first scan")


def _segments(data: bytes) -> Iterator[_Segment]:
    """The marker segments up to the first scan."""
    position = len(START)
    for _ in range(_MAX_SEGMENTS):
        marker, position = _marker(data, position)
        if marker in _RESTARTS or marker == _TEM:
            continue
        if marker in (_SOI, _EOI):
            return
        length = int.from_bytes(data[position : position + 2], "big")
        after = position + length
        if length < 2 or after > len(data):
            raise damaged("a segment is cut short")
        yield _Segment(marker, data[position + 2 : after], after)
        position = after


def _marker(data: bytes, position: int) -> tuple[int, int]:
    """The marker at `position`, behind any fill bytes, and what follows it."""
    end = position
    while data[end : end + 1] == b"\xff":
        end += 1
    if end == position or end >= len(data):
        raise damaged("a marker is missing")
    return data[end], end + 1


def _read(data: bytes, frame: _Segment, scan: _Segment, adobe: int, jfif: bool) -> CodeStream:
    body = frame.body
    if len(body) < 6 or len(body) < 6 + 3 * body[5] or not body[5] or len(scan.body) < 4:
        raise damaged("a header is cut short")
    if data.count(b"\xff\xda", scan.after) >= _MAX_SCANS:
        raise Invalid(Fault.TOO_LARGE, f"the compressed frame has more than {_MAX_SCANS} scans")
    rows = int.from_bytes(body[1:3], "big")
    if rows == 0:
        raise unsupported("the number of lines comes after the first scan")
    coding, components = _CODINGS[frame.marker], body[5]
    return CodeStream(
        coding,
        rows=rows,
        columns=int.from_bytes(body[3:5], "big"),
        components=components,
        precision=body[0],
        reversible=_is_reversible(coding, scan.body),
        transformed=_is_transformed(body, adobe, jfif) if coding is Coding.JPEG and components == 3 else False,
        is_whole=data.rfind(b"\xff\xd9", scan.after) >= 0,
    )


def _is_reversible(coding: Coding, scan: bytes) -> bool:
    if coding is Coding.JPEG_LS:
        return scan[-3] == 0  # NEAR
    return coding is Coding.JPEG_LOSSLESS and scan[-1] & 0x0F == 0  # the point transform


def _is_transformed(body: bytes, adobe: int, jfif: bool) -> bool | None:
    """Whether the three components are YCbCr; what is subsampled can be nothing else."""
    if adobe in (0, 1):
        return adobe == 1
    if bytes(body[6:15:3]) in _RGB_IDENTIFIERS:
        return False
    if jfif or len(set(body[7:15:3])) > 1:
        return True
    return None
