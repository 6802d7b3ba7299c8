"""A pack object from its first byte to its last, every block held against its digest before it is passed on."""

from collections.abc import Iterable, Iterator

from blake3 import blake3

from storage.objects import Buffer
from storage.packs import BLOCK_BYTES, BLOCK_DIGEST_BYTES, Blocks, Damaged


def verified_whole(chunks: Iterable[Buffer], blocks: Blocks, *, key: str) -> Iterator[bytes]:
    """The blocks of the object that `chunks` make up. Raises Damaged instead of passing on one that is not right, and
    at the end when there are not as many bytes as there should be.
    """
    passed = 0
    for block in _blocks(chunks):
        number = passed // BLOCK_BYTES * BLOCK_DIGEST_BYTES
        if blake3(block).digest(BLOCK_DIGEST_BYTES) != blocks.digests[number : number + BLOCK_DIGEST_BYTES]:
            raise Damaged("a block of the pack is not what was written", key=key)
        passed += len(block)
        yield block
    if passed != blocks.length:
        raise Damaged("the pack is not as long as it was", key=key)


def _blocks(chunks: Iterable[Buffer]) -> Iterator[bytes]:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= BLOCK_BYTES:
            yield bytes(held[:BLOCK_BYTES])
            del held[:BLOCK_BYTES]
    if held:
        yield bytes(held)
