"""Frames that are damaged, cut short, or bombs: each is refused, soon, and without taking memory for it."""

import random
import resource
import struct
import subprocess
import sys
from dataclasses import replace
from functools import cache

import imagecodecs
import numpy as np
import pytest

from storage.dicom.pixels.decode import decode
from storage.dicom.pixels.description import MAX_FRAME_BYTES, PixelDescription
from storage.dicom.pixels.encode import encode
from storage.dicom.pixels.syntaxes import (
    DEFLATED_FRAME,
    HTJ2K_LOSSLESS,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_XL_LOSSLESS,
)
from storage.dicom.syntax import EXPLICIT_LITTLE, RLE
from storage.errors import Fault, Invalid
from tests.unit.pixels.samples import described, in_colours, smooth

LOSSLESS = (
    RLE,
    DEFLATED_FRAME,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_2000_LOSSLESS,
    HTJ2K_LOSSLESS,
    JPEG_XL_LOSSLESS,
)
GREY = described(33, 40, 16, 12)
COLOUR = in_colours(33, 40)
END = b"\xff\xd9"


@cache
def streams() -> tuple[tuple[str, PixelDescription, bytes], ...]:
    """A frame of every coding, in grey and in colour."""
    lossless = [(syntax, kind, encode(smooth(kind), kind, syntax)) for syntax in LOSSLESS for kind in (GREY, COLOUR)]
    colour, grey = smooth(COLOUR), smooth(GREY)
    cosine = [
        (JPEG_BASELINE, COLOUR, bytes(imagecodecs.jpeg8_encode(colour, level=85))),
        (JPEG_BASELINE, described(33, 40, 8, 8), bytes(imagecodecs.jpeg8_encode(colour[..., 0].copy(), level=85))),
        (JPEG_EXTENDED, GREY, bytes(imagecodecs.jpeg8_encode(grey, level=85, bitspersample=12))),
    ]
    return (*lossless, *cosine)


def names(stream: object) -> str | None:
    return stream.rpartition(".")[2] if isinstance(stream, str) else None


@pytest.mark.parametrize(("syntax", "kind", "frame"), streams(), ids=names)
def test_r_trunc_a_frame_that_is_cut_short_is_refused(syntax: str, kind: PixelDescription, frame: bytes) -> None:
    for kept in (0, 1, 2, 10, 40, len(frame) // 2, len(frame) - 20):
        with pytest.raises(Invalid):
            decode(frame[:kept], syntax, kind)


@pytest.mark.parametrize(("syntax", "kind", "frame"), streams(), ids=names)
def test_t_even_padding_after_the_frame_is_left_out(syntax: str, kind: PixelDescription, frame: bytes) -> None:
    expected = decode(frame, syntax, kind).array
    np.testing.assert_array_equal(decode(frame + b"\0", syntax, kind).array, expected)


@pytest.mark.parametrize(("syntax", "kind", "frame"), [one for one in streams() if one[2].endswith(END)], ids=names)
def test_a_frame_that_lacks_only_its_end_mark_is_decoded(syntax: str, kind: PixelDescription, frame: bytes) -> None:
    expected = decode(frame, syntax, kind).array
    np.testing.assert_array_equal(decode(frame.removesuffix(END), syntax, kind).array, expected)


@pytest.mark.parametrize(("syntax", "kind", "frame"), streams(), ids=names)
def test_a_frame_of_another_size_is_refused(syntax: str, kind: PixelDescription, frame: bytes) -> None:
    for changes in ({"rows": 34}, {"columns": 41}, {"rows": 40, "columns": 34}):
        with pytest.raises(Invalid):
            decode(frame, syntax, replace(kind, **changes))


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, *LOSSLESS, JPEG_BASELINE])
def test_a_frame_that_would_take_too_much_memory_is_refused_at_once(syntax: str) -> None:
    huge = described(60000, 60000, 16, 16)
    assert huge.decoded_bytes > MAX_FRAME_BYTES
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for frame in (b"", bytes(2000), *(frame for _, kind, frame in streams() if kind is GREY)):
        with pytest.raises(Invalid):
            decode(frame, syntax, huge)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # KiB


def sized(frame: bytes, rows: int, columns: int) -> bytes:
    """The frame with another size in its header: of JPEG 2000, or of JPEG with 33 rows and 40 columns."""
    if frame.startswith(b"\xff\x4f"):
        return frame[:8] + struct.pack(">II", columns, rows) + frame[16:]
    return frame.replace(struct.pack(">HH", 33, 40), struct.pack(">HH", rows, columns), 1)


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS_SV1, JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS, HTJ2K_LOSSLESS])
def test_a_header_that_claims_a_huge_image_is_refused(syntax: str) -> None:
    (frame,) = (frame for one, kind, frame in streams() if one == syntax and kind is GREY)
    bomb = sized(frame, 60000, 60000)
    assert bomb != frame
    with pytest.raises(Invalid):
        decode(bomb, syntax, GREY)
    with pytest.raises(Invalid) as raised:
        decode(bomb, syntax, described(60000, 60000, 16, 12))
    assert raised.value.fault is Fault.TOO_LARGE


def test_more_scans_than_any_image_needs_are_refused() -> None:
    frame = imagecodecs.jpeg8_encode(smooth(described(33, 40, 8, 8)), level=85)
    bomb = bytes(frame)[:-2] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 300 + END
    with pytest.raises(Invalid) as raised:
        decode(bomb, JPEG_BASELINE, described(33, 40, 8, 8))
    assert raised.value.fault is Fault.TOO_LARGE


def test_a_deflated_bomb_inflates_to_no_more_than_the_frame() -> None:
    zeros = described(2000, 2000, 16, 16)
    bomb = encode(np.zeros((2000, 2000), "<u2"), zeros, DEFLATED_FRAME)
    assert decode(bomb, DEFLATED_FRAME, described(2, 2, 16, 16)).array.shape == (2, 2)


@pytest.mark.parametrize("syntax", [JPEG_BASELINE, JPEG_LOSSLESS_SV1])
def test_a_process_that_is_not_decoded_here_is_named(syntax: str) -> None:
    frame = encode(smooth(GREY), GREY, JPEG_LOSSLESS_SV1)
    hierarchical = frame.replace(b"\xff\xc3", b"\xff\xc7", 1)
    with pytest.raises(Invalid) as raised:
        decode(hierarchical, syntax, GREY)
    assert raised.value.fault is Fault.TRANSFER_SYNTAX


def mutated(frame: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(frame)
    way = chance.randrange(4)
    if way == 0:
        return frame[: chance.randrange(len(frame))]
    if way == 1:
        at = chance.randrange(len(frame))
        damaged[at:at] = chance.randbytes(chance.randrange(1, 40))
        return bytes(damaged)
    if way == 2:
        at = chance.randrange(len(frame))
        del damaged[at : at + chance.randrange(1, 40)]
        return bytes(damaged)
    for _ in range(chance.choice((1, 2, 8, 30))):
        damaged[chance.randrange(min(len(damaged), chance.choice((120, len(damaged)))))] = chance.choice(
            (0, 255, chance.randrange(256))
        )
    return bytes(damaged)


def fuzz(seed: int, count: int) -> None:
    """Nothing but Invalid comes out of damaged frames: no other error, no crash, no hang."""
    chance = random.Random(seed)
    for _ in range(count):
        syntax, kind, frame = chance.choice(streams())
        try:
            found = decode(mutated(frame, chance), syntax, kind)
        except Invalid:
            continue
        assert found.array.shape[:2] == (kind.rows, kind.columns)


def run_fuzz(seed: int, count: int) -> None:
    """In a process of its own, which a codec may crash, and where what it writes to stderr is not lost."""
    code = f"from tests.unit.pixels.test_damaged import fuzz; fuzz({seed}, {count})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_mutated_frames_are_refused_or_decoded() -> None:
    run_fuzz(seed=1, count=600)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 16))
def test_many_mutated_frames_are_refused_or_decoded(seed: int) -> None:
    run_fuzz(seed, count=5000)
