"""The blocks that were fetched last, in memory, where no folder keeps them: what was read ahead is soon wanted."""

import threading
from collections import OrderedDict
from typing import NamedTuple

from storage.packs import BLOCK_DIGEST_BYTES, Blocks


class _Held(NamedTuple):
    digest: bytes  # under which it was found right: another object may lie under the same key by now
    block: bytes


class RecentBlocks:
    """At most `max_bytes` of verified blocks; those unused for longest are given up first. Safe under threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, int], _Held] = OrderedDict()
        self._held_bytes = 0

    def get(self, key: str, number: int, blocks: Blocks) -> bytes | None:
        """Block `number` (from 0) of an object, if it is here."""
        with self._lock:
            held = self._held.get((key, number))
            if held is None or held.digest != _digest(blocks, number):
                return None
            self._held.move_to_end((key, number))
            return held.block

    def has(self, key: str, number: int) -> bool:
        """Whether the block is here."""
        return (key, number) in self._held

    def put(self, key: str, number: int, block: bytes, blocks: Blocks) -> None:
        """Keep a block that was found right."""
        with self._lock:
            self._drop((key, number))
            self._held[key, number] = _Held(_digest(blocks, number), block)
            self._held_bytes += len(block)
            while self._held_bytes > self._max_bytes:
                self._drop(next(iter(self._held)))

    def forget(self, key: str) -> None:
        """Hold no block of an object any more."""
        with self._lock:
            for name in [name for name in self._held if name[0] == key]:
                self._drop(name)

    def keys(self) -> list[str]:
        """The objects of which blocks are here."""
        with self._lock:
            return list({key for key, _ in self._held})

    def _drop(self, name: tuple[str, int]) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            self._held_bytes -= len(held.block)


def _digest(blocks: Blocks, number: int) -> bytes:
    start = number * BLOCK_DIGEST_BYTES
    return blocks.digests[start : start + BLOCK_DIGEST_BYTES]
