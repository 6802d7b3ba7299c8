"""Whole blocks of an object through one request, each held against its digest before it is handed on."""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from blake3 import blake3

from storage.errors import Invalid, NotFound, Unavailable
from storage.objects import Body, Buffer, ObjectStore
from storage.packs import BLOCK_BYTES, BLOCK_DIGEST_BYTES, Blocks, Damaged
from storage.packs.composed import composed

T = TypeVar("T")


def count_of(blocks: Blocks) -> int:
    """How many blocks an object has."""
    return -(-blocks.length // BLOCK_BYTES)


def is_right(block: bytes | memoryview, number: int, blocks: Blocks) -> bool:
    """Whether these are the bytes of block `number` (from 0)."""
    start = number * BLOCK_DIGEST_BYTES
    return blake3(block).digest(BLOCK_DIGEST_BYTES) == blocks.digests[start : start + BLOCK_DIGEST_BYTES]


class BlockStream:
    """Gives the blocks from number `first` up to `after`, in order, as an iterator. Close it, or read it to its end.

    The request is made at once. A block that is wrong is fetched once more, with those that follow; when it is wrong
    again, from `second`, if there is one; when it is wrong there too, it is made of what is right in either, if that
    can be found. Raises NotFound (at once), Damaged, Unavailable.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: str,
        blocks: Blocks,
        first: int,
        after: int,
        *,
        second: ObjectStore | None = None,
    ) -> None:
        if len(blocks.digests) != count_of(blocks) * BLOCK_DIGEST_BYTES or not 0 <= first < after <= count_of(blocks):
            raise Damaged("there is not a digest for each block of the object", key=key)
        self._store = store
        self._second = second
        self._key = key
        self._blocks = blocks
        self._next = first
        self._after = after
        self._body: Body | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._whole_from(self._open)

    def _whole_from(self, fetch: Callable[[ObjectStore], T]) -> T:
        """What `fetch` gives of the first store, or of the second when the first is Damaged."""
        try:
            return fetch(self._store)
        except Damaged as error:
            if self._second is None:
                raise
            try:
                return fetch(self._second)
            except (NotFound, Unavailable):
                raise error from None

    def _open(self, store: ObjectStore) -> None:
        self.close()
        start = self._next * BLOCK_BYTES
        end = min(self._after * BLOCK_BYTES, self._blocks.length)
        try:
            self._body = store.get(self._key, (start, end - start))
        except Invalid as error:
            raise Damaged("the object is shorter than what was stored", key=self._key) from error
        self._pieces = in_blocks(self._body.chunks(BLOCK_BYTES))

    @property
    def next(self) -> int:
        """The number of the block that comes next."""
        return self._next

    @property
    def after(self) -> int:
        """The number of the block that does not come any more."""
        return self._after

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._next == self._after:
            raise StopIteration
        block = next(self._pieces, b"")
        if not self._is_next(block):
            block = self._again()
        self._next += 1
        if self._next == self._after:
            self._end()
        return block

    def _again(self) -> bytes:
        wrong: list[bytes] = []
        try:
            return self._whole_from(lambda store: self._fetch(store, wrong))
        except NotFound as error:  # it was there a moment ago: what was promised cannot be kept
            raise Unavailable("an object has gone while it was read") from error
        except Damaged:
            block = composed(wrong[0], wrong[1], self._is_next) if len(wrong) == 2 else None
            if block is None:
                raise
            return block

    def _fetch(self, store: ObjectStore, wrong: list[bytes]) -> bytes:
        self._open(store)
        block = next(self._pieces, b"")
        if not self._is_next(block):
            wrong.append(block)
            raise Damaged("a block of the object is not what was stored", key=self._key)
        return block

    def _is_next(self, block: bytes) -> bool:
        return is_right(block, self._next, self._blocks)

    def _end(self) -> None:
        """Read on to the end of the body, where nothing is left, so that its connection is free for others."""
        for _ in self._pieces:
            break
        self.close()

    def close(self) -> None:
        """Give up what is still to come."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def in_blocks(chunks: Iterable[Buffer]) -> Iterator[bytes]:
    """The same bytes in pieces of BLOCK_BYTES, the last one shorter."""
    held = bytearray()
    for chunk in chunks:
        if not held and len(chunk) == BLOCK_BYTES:
            yield bytes(chunk)
            continue
        held += chunk
        while len(held) >= BLOCK_BYTES:
            yield bytes(held[:BLOCK_BYTES])
            del held[:BLOCK_BYTES]
    if held:
        yield bytes(held)


def span_of(blocks: Iterable[bytes], offset: int, length: int) -> Iterator[bytes]:
    """`length` bytes of consecutive blocks, from `offset` of the first one on."""
    for block in blocks:
        piece = block if not offset and len(block) <= length else block[offset : offset + length]
        offset = 0
        length -= len(piece)
        yield piece
        if not length:
            return


class SpanBody(Body):
    """A Body of `length` bytes that are made as they are read; `close` releases what makes them."""

    __slots__ = ("_close", "_length", "_pieces")

    def __init__(self, pieces: Iterable[bytes], length: int, close: Callable[[], None] = lambda: None) -> None:
        self._pieces = pieces
        self._length = length
        self._close = close

    @property
    def length(self) -> int:
        """See `Body`."""
        return self._length

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """See `Body`."""
        left = self._length
        try:
            for piece in self._pieces:
                left -= len(piece)
                for offset in range(0, len(piece), size):
                    yield piece[offset : offset + size]
        finally:
            self.close()
        if left:
            raise Unavailable("an object could not be read to its end")

    def read(self) -> bytes:
        """See `Body`."""
        pieces = list(self.chunks(max(self._length, 1)))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """See `Body`; may be called again."""
        self._close()
