"""gzip for JSON when the caller takes it; pixel data is never coded (PS3.18 8.4; RFC 9110 8.4.1, 12.5.3)."""

import re
import zlib
from collections.abc import Generator
from contextlib import closing
from functools import lru_cache

WORTHWHILE_BYTES = 1024
_LEVEL = 1  # metadata shrinks some fifteen times already; higher levels cost more time than they save
_GZIP = 16 + zlib.MAX_WBITS
_CODING = re.compile(r"\s*(gzip|x-gzip|\*)\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?", re.IGNORECASE)


@lru_cache(maxsize=128)
def takes_gzip(accept_encoding: str) -> bool:
    """Whether this Accept-Encoding takes gzip: named or by `*`, and not with q=0."""
    weights: dict[str, bool] = {}
    for entry in accept_encoding.split(","):
        coding = _CODING.fullmatch(entry)
        if coding is not None:
            weights[coding[1].lower().removeprefix("x-")] = (coding[2] or "1").strip("0.") != ""
    return weights.get("gzip", weights.get("*", False))


def gzipped(chunks: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    """The chunks as one gzip stream; an error in `chunks` leaves it without its end."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    with closing(chunks):
        for chunk in chunks:
            if coded := compressor.compress(chunk):
                yield coded
    yield compressor.flush()


def gzip(body: bytes) -> bytes:
    """A small body, whole."""
    return zlib.compress(body, _LEVEL, _GZIP)
