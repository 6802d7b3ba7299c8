"""The header of a JPEG 2000 or HTJ2K frame, raw or in a JP2 file (ISO 15444-1 annexes A and I, 15444-15)."""

import struct
from collections.abc import Iterator

from storage.dicom.pixels.codestream import CodeStream, damaged
from storage.dicom.pixels.syntaxes import Coding

END = b"\xff\xd9"
START = b"\xff\x4f\xff\x51"
FILE_START = b"\0\0\0\x0cjP  "
_CAP, _COD, _SOT = 0xFF50, 0xFF52, 0xFF90
_HIGH_THROUGHPUT = 0x00020000  # part 15, in the capabilities
_SIZ = struct.Struct(">2xIIIIIIIIH")
_TILE_PART = struct.Struct(">HHHI")
_COD_LENGTH = 10
_MAX_BOXES = 256
_MAX_SEGMENTS = 1 << 16
_MAX_TILE_PARTS = 1 << 17
_LONG_BOX = 1


def read_jpeg_2000(data: bytes) -> CodeStream:
    """What its header says, and whether all its tiles are there; raises Invalid (MALFORMED)."""
    start = _code_stream(data)
    length = int.from_bytes(data[start + 4 : start + 6], "big")
    size = data[start + 6 : start + 4 + length]
    if len(size) < _SIZ.size + 3:
        raise damaged("its size is cut short")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = _SIZ.unpack_from(size)
    if not (left < right and top < bottom and tile_width and tile_height and tile_left <= left and tile_top <= top):
        raise damaged("its size is impossible")
    coding, style, position = _main_header(data, start + 4 + length)
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    depth = size[_SIZ.size]
    return CodeStream(
        coding,
        rows=bottom - top,
        columns=right - left,
        components=components,
        precision=(depth & 0x7F) + 1,
        signed=depth >= 0x80,
        reversible=style[9] == 1,
        transformed=style[4] == 1,
        is_whole=_has_all(data, position, tiles),
    )


def _code_stream(data: bytes) -> int:
    """Where the code stream begins: at once, or in a box of a JP2 file."""
    if data.startswith(START):
        return 0
    for kind, start in _boxes(data):
        if kind == b"jp2c" and data.startswith(START, start):
            return start
    raise damaged("its file format holds no code stream")


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The kinds of the boxes of a JP2 file, and where the content of each begins."""
    position = 0
    for _ in range(_MAX_BOXES):
        head = data[position : position + 16]
        if len(head) < 8:
            return
        length, header = int.from_bytes(head[:4], "big"), 8
        if length == _LONG_BOX:
            length, header = int.from_bytes(head[8:], "big"), 16
        yield head[4:8], position + header
        if length < header:
            return
        position += length


def _main_header(data: bytes, position: int) -> tuple[Coding, bytes, int]:
    """Which JPEG 2000 it is, its default coding style, and where the first tile-part begins."""
    coding, style = Coding.JPEG_2000, b""
    for _ in range(_MAX_SEGMENTS):
        marker, length = int.from_bytes(data[position : position + 2], "big"), data[position + 2 : position + 4]
        if marker == _SOT:
            break
        after = position + 2 + int.from_bytes(length, "big")
        if marker < 0xFF00 or after < position + 4 or after > len(data):
            raise damaged("its main header is cut short")
        body = data[position + 4 : after]
        if marker == _COD:
            style = body
        elif marker == _CAP and int.from_bytes(body[:4], "big") & _HIGH_THROUGHPUT:
            coding = Coding.HTJ2K
        position = after
    if len(style) < _COD_LENGTH:
        raise damaged("it has no coding style")
    return coding, style, position


def _has_all(data: bytes, position: int, tiles: int) -> bool:
    """Whether no tile-part is cut short, and there is one at least for each tile. The end mark may be missing."""
    seen = set()
    for _ in range(_MAX_TILE_PARTS):
        if position + _TILE_PART.size > len(data):
            break
        marker, _, number, length = _TILE_PART.unpack_from(data, position)
        if marker != _SOT:
            break
        seen.add(number)
        if length == 0:  # up to the end mark
            return len(seen) == tiles and data.rfind(END, position) >= 0
        position += length
    return position <= len(data) and len(seen) == tiles
