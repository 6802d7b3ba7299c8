"""Steps between an object's bytes and a part's: inflate, swap, cut, shift. Each takes chunks and gives chunks."""

import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from storage.dicom.frames import Span
from storage.dicom.parse import MAX_INFLATED_BYTES
from storage.errors import Unavailable

_INFLATE_STEP = 1 << 20
_WORDS = {2: "H", 4: "I", 8: "Q"}


def inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The data set of a deflated transfer syntax (PS3.5 A.5). Raises Unavailable when it does not inflate."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    produced = 0
    for chunk in chunks:
        while chunk and not inflater.eof:
            try:
                piece = inflater.decompress(chunk, _INFLATE_STEP)
            except zlib.error as error:
                raise Unavailable("the stored data set does not inflate") from error
            produced += len(piece)
            if produced > MAX_INFLATED_BYTES:
                raise Unavailable("the stored data set inflates to more than the limit")
            yield piece
            chunk = inflater.unconsumed_tail
    yield inflater.flush()


def swapped(chunks: Iterable[bytes], width: int) -> Iterator[bytes]:
    """Words of `width` bytes in the other byte order; what is left over at the end stays as it is."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        whole = len(data) - len(data) % width
        words = array(_WORDS[width], data[:whole])
        words.byteswap()
        rest = data[whole:]
        yield words.tobytes()
    yield rest


def cut(chunks: Iterable[bytes], spans: Sequence[Span]) -> Iterator[bytes]:
    """The bytes in `spans`, which ascend and count from the first byte of `chunks`."""
    following = iter(spans)
    span = next(following, None)
    position = 0
    for chunk in chunks:
        end = position + len(chunk)
        while span is not None and span.offset < end:
            yield chunk[max(span.offset - position, 0) : span.offset + span.length - position]
            if span.offset + span.length > end:
                break
            span = next(following, None)
        if span is None:
            return
        position = end


def shifted(chunks: Iterable[bytes], skip: int, bits: int) -> Iterator[bytes]:
    """`bits` bits from bit `skip` (0 to 7) of the first byte on, so that they begin at bit 0 of a byte (PS3.5 8.1.1).

    The unused bits of the last byte are zero.
    """
    left = (bits + 7) // 8
    rest = b""
    for chunk in chain(chunks, (b"\0",)):
        data = rest + chunk
        rest = data[-1:]
        piece = (int.from_bytes(data, "little") >> skip).to_bytes(len(data), "little")[: len(data) - 1][:left]
        left -= len(piece)
        if piece and not left and bits % 8:
            piece = piece[:-1] + bytes([piece[-1] & (1 << bits % 8) - 1])
        yield piece
        if not left:
            return
