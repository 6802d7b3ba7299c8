"""A pack object from its first byte to its last, every block held against its digest before it is passed on."""

from collections.abc import Iterable, Iterator

from storage.objects import Buffer
from storage.packs import Blocks, Damaged
from storage.packs.stream import in_blocks, is_right


def verified_whole(chunks: Iterable[Buffer], blocks: Blocks, *, key: str) -> Iterator[bytes]:
    """The blocks of the object that `chunks` make up. Raises Damaged instead of passing on one that is not right, and
    at the end when there are not as many bytes as there should be.
    """
    passed = 0
    for number, block in enumerate(in_blocks(chunks)):
        if not is_right(block, number, blocks):
            raise Damaged("a block of the pack is not what was written", key=key)
        passed += len(block)
        yield block
    if passed != blocks.length:
        raise Damaged("the pack is not as long as it was", key=key)
