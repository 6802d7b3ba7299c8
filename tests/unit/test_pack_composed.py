"""A block is made of two that are wrong, when that can be done in few attempts."""

import random

import pytest

from storage.packs import BLOCK_BYTES
from storage.packs.composed import composed

RIGHT = random.Random(1).randbytes(BLOCK_BYTES // 2) + bytes(BLOCK_BYTES // 2)


class Judge:
    """Knows the right block, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, block: bytes) -> bool:
        self.asked += 1
        return block == RIGHT


def harmed(*spans: tuple[int, int], byte: int | None = None) -> bytes:
    """Flipped, or overwritten with a byte."""
    block = bytearray(RIGHT)
    for start, end in spans:
        flipped = bytes(each ^ 1 for each in block[start:end])
        block[start:end] = flipped if byte is None else bytes([byte]) * (end - start)
    return bytes(block)


def sector(number: int, count: int = 1) -> tuple[int, int]:
    return number * 4096, (number + count) * 4096


CASES: dict[str, tuple[bytes, bytes]] = {
    "neighbouring bytes": (harmed((5000, 5001)), harmed((5001, 5002))),
    "bytes far away": (harmed((0, 1), (BLOCK_BYTES - 1, BLOCK_BYTES)), harmed((5000, 5001))),
    "neighbouring sectors": (harmed(sector(3), byte=0), harmed(sector(4), byte=0)),
    "sectors apart": (harmed(sector(3, 20), byte=0), harmed(sector(40), sector(200, 2), byte=0xFF)),
    "where much is zero": (harmed(sector(150), byte=7), harmed((5, 6), sector(160))),
}


@pytest.mark.parametrize("case", CASES)
def test_each_place_is_taken_from_where_it_is_right(case: str) -> None:
    one, other = CASES[case]
    assert one != RIGHT != other
    for pair in ((one, other), (other, one)):
        assert composed(*pair, Judge()) == RIGHT


@pytest.mark.parametrize(
    "other",
    [
        harmed((5000, 5001)),
        harmed((5000, 5001), (9000, 9001)),
        RIGHT[:-1],
        b"",
        harmed(*((at, at + 1) for at in range(0, BLOCK_BYTES, 70_000))),
    ],
    ids=["the same damage", "the same and more", "cut short", "nothing", "too many places"],
)
def test_what_cannot_be_found_is_given_up_soon(other: bytes) -> None:
    judge = Judge()
    assert composed(harmed((5000, 5001)), other, judge) is None
    assert judge.asked <= 5 * 64
