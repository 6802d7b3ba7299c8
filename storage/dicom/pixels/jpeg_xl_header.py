"""The header of a JPEG XL frame, raw or in its file format (ISO 18181-1 clause 9 and annex D, 18181-2 clause 9)."""

from storage.dicom.pixels.codestream import CodeStream, damaged, unsupported
from storage.dicom.pixels.syntaxes import Coding

START = b"\xff\x0a"
FILE_START = b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a"
_RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZE_BITS = (9, 13, 18, 30)
_HEADER_BYTES = 64
_MAX_BOXES = 256


class _Bits:
    """Reads from the least significant bit on."""

    def __init__(self, data: bytes) -> None:
        self._left = int.from_bytes(data, "little")
        self._count = 8 * len(data)

    def take(self, bits: int) -> int:
        if bits > self._count:
            raise damaged("its header is cut short")
        value = self._left & ((1 << bits) - 1)
        self._left >>= bits
        self._count -= bits
        return value

    def one_of(self, *ways: tuple[int, int]) -> int:
        """A number in one of four ways, each so many bits and what is added to them."""
        bits, added = ways[self.take(2)]
        return self.take(bits) + added


def read_jpeg_xl(data: bytes) -> CodeStream:
    """What its header says; raises Invalid (MALFORMED; TRANSFER_SYNTAX for animations, floats, other channels)."""
    bits = _Bits(_code_stream(data))
    rows, columns = _size(bits)
    if bits.take(1):  # all is as by default
        return CodeStream(Coding.JPEG_XL, rows, columns, components=3, precision=8, reversible=False)
    if bits.take(1):
        bits.take(3)  # the orientation
        if bits.take(1):
            _size(bits)  # the intrinsic size
        if bits.take(2):
            raise unsupported("JPEG XL with a preview or an animation")
    if bits.take(1):
        raise unsupported("JPEG XL with floating-point samples")
    precision = bits.one_of((0, 8), (0, 10), (0, 12), (6, 1))
    bits.take(1)  # whether sixteen bits suffice to decode
    if bits.one_of((0, 0), (0, 1), (4, 2), (12, 1)):
        raise unsupported("JPEG XL with other channels than colours")
    transformed = bool(bits.take(1))
    return CodeStream(
        Coding.JPEG_XL, rows, columns, components=_colours(bits), precision=precision, reversible=not transformed
    )


def _colours(bits: _Bits) -> int:
    """Components of the colour encoding."""
    if bits.take(1):  # sRGB by default
        return 3
    bits.take(1)  # whether a profile follows
    return 1 if bits.one_of((0, 0), (0, 1), (4, 2), (6, 18)) == 1 else 3


def _size(bits: _Bits) -> tuple[int, int]:
    """Rows and columns."""
    small = bits.take(1)
    rows = _length(bits, small)
    numerator, denominator = _RATIOS[bits.take(3)]
    if numerator:
        return rows, rows * numerator // denominator
    return rows, _length(bits, small)


def _length(bits: _Bits, small: int) -> int:
    if small:
        return 8 * (bits.take(5) + 1)
    return bits.one_of(*((size, 1) for size in _SIZE_BITS))


def _code_stream(data: bytes) -> bytes:
    """The first bytes of the code stream, which a file may hold in a box."""
    if data.startswith(START):
        return data[len(START) : _HEADER_BYTES]
    position = 0
    for _ in range(_MAX_BOXES):
        head = data[position : position + 16]
        length, kind, header = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, header = int.from_bytes(head[8:], "big"), 16
        skipped = {b"jxlc": 0, b"jxlp": 4}.get(kind)
        if skipped is not None:
            start = position + header + skipped
            if data.startswith(START, start):
                return data[start + len(START) : start + _HEADER_BYTES]
        if length < header:
            break
        position += length
    raise damaged("its file format holds no code stream")
