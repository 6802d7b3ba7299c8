"""A block made whole of two that are wrong, each at another place."""

from collections.abc import Callable, Iterator

_SECTOR_BYTES = 4096
# What is taken from one or the other as a whole: bytes, sectors, or all that lies nearer to each other than so much.
_GRAINS = ((1, 0), (1, 64), (_SECTOR_BYTES, 0), (1, _SECTOR_BYTES), (1, 64 << 10))
_MAX_DIFFERENCES = 6  # of a grain: with each one more, twice as many blocks are tried

Difference = tuple[int, int]


def composed(one: bytes, other: bytes, is_right: Callable[[bytes], bool]) -> bytes | None:
    """The block of which `one` or `other` is right at each place; None when it cannot be found.

    Where they differ one of them is wrong, so each difference is taken from either until it `is_right`.
    """
    if len(one) != len(other):
        return None
    for unit, gap in _GRAINS:
        for block in _choices(one, other, _differences(one, other, unit, gap)):
            if is_right(block):
                return block
    return None


def _choices(one: bytes, other: bytes, differences: list[Difference]) -> Iterator[bytes]:
    """All blocks that take some differences from `other`; all of them from the same is what was wrong already."""
    for choice in range(1, (1 << len(differences)) - 1):
        block = bytearray(one)
        for position, (start, end) in enumerate(differences):
            if choice >> position & 1:
                block[start:end] = other[start:end]
        yield bytes(block)


def _differences(one: bytes, other: bytes, unit: int, gap: int) -> list[Difference]:
    """Where the two differ, in such units; nothing when there are too many places to be tried."""
    found: list[Difference] = []
    for at in _differing(one, other):
        start = at // unit * unit
        end = min(start + unit, len(one))
        if found and (start < found[-1][1] or start - found[-1][1] < gap):
            found[-1] = (found[-1][0], end)
        elif len(found) == _MAX_DIFFERENCES:
            return []
        else:
            found.append((start, end))
    return found


def _differing(one: bytes, other: bytes) -> Iterator[int]:
    for start in range(0, len(one), _SECTOR_BYTES):
        end = start + _SECTOR_BYTES
        if one[start:end] != other[start:end]:
            yield from (at for at in range(start, min(end, len(one))) if one[at] != other[at])
