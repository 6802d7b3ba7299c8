"""Which packs of a series are to become one. Pure; no byte of a pack is read.

A series that trickles in gets a pack each time that it is quiet. Packs are of *like size* when no bound of SIZES lies
between them; eight or more of like size are merged, and the result is of a larger one, or, since eight directories and
manifests become one, nearly so. So each byte is written anew once or twice for each factor of eight, and of a size at
most seven packs stay.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence

from storage.packs import Pack
from storage.packs.write import place

AT_LEAST, AT_MOST = 8, 16  # packs that become one
SIZES = tuple(8**power for power in range(4, 10))  # bytes; a pack of 128 MiB or more is left as it is
MAX_INSTANCES = 1250  # of a pack that is merged: sixteen of them still make an ordinary pack
MAX_METADATA_BYTES = 256 << 10  # of a pack that is merged, compressed


def size(length: int) -> int:
    """Which of the sizes a pack of so many bytes has; len(SIZES): it is large."""
    return bisect_right(SIZES, length)


def to_be_merged(packs: Sequence[Pack], max_bytes: int) -> list[Pack]:
    """Of all packs of a series those that are to become one of up to `max_bytes`: neighbours in the series, of the
    smallest size of which there are enough; none when there are not. Packs that share a version of an instance, since
    the index was lost between writing them, stay as they are.
    """
    versions = Counter((one.sop_uid, one.revision) for pack in packs for one in pack.instances)
    by_size: dict[int, list[Pack]] = defaultdict(list)
    for pack in packs:
        if _is_small(pack) and all(versions[one.sop_uid, one.revision] == 1 for one in pack.instances):
            by_size[size(pack.location.length)].append(pack)
    for _, found in sorted(by_size.items()):
        neighbours = sorted(found, key=lambda pack: place(pack.instances[0]))[:AT_MOST]
        while sum(pack.location.length for pack in neighbours) > max_bytes:
            neighbours.pop()
        if len(neighbours) >= AT_LEAST:
            return neighbours
    return []


def _is_small(pack: Pack) -> bool:
    return (
        bool(pack.instances)
        and len(pack.instances) <= MAX_INSTANCES
        and pack.metadata.length <= MAX_METADATA_BYTES
        and size(pack.location.length) < len(SIZES)
    )
