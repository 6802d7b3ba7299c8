"""The codecs of the library, one call for each coding: bytes to an array as coded, and an array to bytes."""

from collections.abc import Callable

import imagecodecs
import numpy as np

from storage.dicom.pixels import htj2k
from storage.dicom.pixels.codestream import CodeStream, damaged
from storage.dicom.pixels.jpeg_2000_header import END
from storage.dicom.pixels.native import Pixels
from storage.dicom.pixels.syntaxes import Coding

_EOI = b"\xff\xd9"
_PROBES = (b"\x00", b"\xa5")  # either can be entropy-coded data
_PROBE_BYTES = 1 << 16
_JPEG_XL_EFFORT = 3  # more takes many times as long for a few percent


def decode_jpeg(data: bytes, stream: CodeStream) -> Pixels:
    """JPEG of any kind; luminance and chrominance become RGB when the stream is `transformed`."""
    if stream.is_whole:
        return _decode_jpeg(data, stream)
    # Without an end mark nothing tells the decoder that bytes are missing: it would make up the rest of the image.
    # So give it more bytes, once these and once those: what does not depend on them was all there.
    first, second = (_decode_jpeg(data + probe * _PROBE_BYTES + _EOI, stream) for probe in _PROBES)
    if not np.array_equal(first, second):
        raise damaged("it is cut short")
    return first


def _decode_jpeg(data: bytes, stream: CodeStream) -> Pixels:
    if stream.components == 1:
        return imagecodecs.jpeg8_decode(data)
    space = "YCBCR" if stream.transformed else "RGB"
    return imagecodecs.jpeg8_decode(data, colorspace=space, outcolorspace="RGB")


def decode_jpeg_ls(data: bytes, stream: CodeStream) -> Pixels:
    """JPEG-LS. Without an end mark, the decoder may take half a minute to say so."""
    return imagecodecs.jpegls_decode(data if stream.is_whole else data + _EOI)


def decode_jpeg_2000(data: bytes, stream: CodeStream) -> Pixels:
    """JPEG 2000; what went through a colour transform is RGB again."""
    return imagecodecs.jpeg2k_decode(_ended(data, stream), numthreads=1)


def decode_htj2k(data: bytes, stream: CodeStream) -> Pixels:
    """High-throughput JPEG 2000; what went through a colour transform is RGB again."""
    return htj2k.decoded(_ended(data, stream))


def decode_jpeg_xl(data: bytes, stream: CodeStream) -> Pixels:
    """JPEG XL."""
    return imagecodecs.jpegxl_decode(data, index=0, numthreads=1)


def _ended(data: bytes, stream: CodeStream) -> bytes:
    if not stream.is_whole:
        raise damaged("it is cut short")
    return data if END in data[-4:] else data + END


DECODERS: dict[Coding, Callable[[bytes, CodeStream], Pixels]] = {
    Coding.JPEG: decode_jpeg,
    Coding.JPEG_LOSSLESS: decode_jpeg,
    Coding.JPEG_LS: decode_jpeg_ls,
    Coding.JPEG_2000: decode_jpeg_2000,
    Coding.HTJ2K: decode_htj2k,
    Coding.JPEG_XL: decode_jpeg_xl,
}


def encode_jpeg_lossless(array: Pixels, bits: int, is_rgb: bool) -> bytes:
    """JPEG lossless, first-order prediction (process 14, selection value 1)."""
    space = None if array.ndim == 2 else "RGB" if is_rgb else "UNKNOWN"
    return bytes(
        imagecodecs.jpeg8_encode(
            array, lossless=True, predictor=1, bitspersample=max(bits, 2), colorspace=space, outcolorspace=space
        )
    )


def encode_jpeg_ls(array: Pixels, bits: int, is_rgb: bool) -> bytes:
    """JPEG-LS without loss."""
    return bytes(imagecodecs.jpegls_encode(array, out=2 * array.nbytes + 4096))  # noise takes more than it was


def encode_jpeg_2000(array: Pixels, bits: int, is_rgb: bool) -> bytes:
    """JPEG 2000 with the reversible wavelet, and for RGB the reversible colour transform."""
    return bytes(
        imagecodecs.jpeg2k_encode(
            array, reversible=True, codecformat="J2K", bitspersample=bits, mct=is_rgb, numthreads=1
        )
    )


def encode_jpeg_xl(array: Pixels, bits: int, is_rgb: bool) -> bytes:
    """JPEG XL without loss."""
    return bytes(
        imagecodecs.jpegxl_encode(
            array, lossless=True, effort=_JPEG_XL_EFFORT, bitspersample=bits, usecontainer=False, numthreads=1
        )
    )


ENCODERS: dict[Coding, Callable[[Pixels, int, bool], bytes]] = {
    Coding.JPEG_LOSSLESS: encode_jpeg_lossless,
    Coding.JPEG_LS: encode_jpeg_ls,
    Coding.JPEG_2000: encode_jpeg_2000,
    Coding.HTJ2K: htj2k.encoded,
    Coding.JPEG_XL: encode_jpeg_xl,
}
# These code signed values as such; the others get the bits of their two's complement.
WITH_SIGN = frozenset({Coding.JPEG_2000, Coding.HTJ2K})
