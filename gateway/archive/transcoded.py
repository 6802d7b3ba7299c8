"""An archive whose instances and frames can be had in other transfer syntaxes than the one they are stored in.

What is stored in an acceptable one passes through untouched. All else is read, rewritten or transcoded, and sent in the
same order, a few ahead of the one that is being sent. Never with another loss. See docs/decisions/0024-transcoding.md.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from typing import Self

import orjson

from gateway.archive import AS_STORED, Archive, Expected, Found, Part, Receipt
from gateway.archive.chunks import swapped
from gateway.archive.frame_work import Done, FrameWork, Recoding
from gateway.archive.incoming import Incoming
from gateway.archive.parts import PIXEL_DATA
from gateway.archive.rewritten import MadePart, Rewriting, one_value
from gateway.archive.stored_instance import Room
from gateway.archive.wanted import chosen, passes
from gateway.security.caller import Caller
from storage.dicom import syntax
from storage.dicom.identity import Identity, Scope
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.query import Query
from storage.errors import Invalid, NotAcceptable
from storage.index import Removed


class TranscodedArchive:
    """The Archive `inner`, which knows only what is stored; the same in all else.

    `room` gives a place for the bytes of an instance while it is being made into another.
    """

    def __init__(self, inner: Archive, work: FrameWork, room: Room) -> None:
        self._inner = inner
        self._work = work
        self._room = room

    def retrieve(self, scope: Scope, *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`. What none of `accept` is possible for is NotAcceptable, for the first instance before
        anything is returned.
        """
        return Begun(self._rewritten(self._inner.retrieve(scope, accept=[AS_STORED], by=by), accept))

    def _rewritten(self, stored: Iterator[Part], accept: Sequence[str]) -> Generator[Part, None, None]:
        """Instances are read one after another, as whoever reads them from a pack best likes it."""
        begun: deque[Rewriting] = deque()
        try:
            for part in stored:
                if passes(accept, part.transfer_syntax):
                    while begun:
                        yield begun.popleft().finish()
                    yield part
                    continue
                begun.append(Rewriting(part, accept, self._work, self._room))
                if len(begun) > self._work.at_once:
                    yield begun.popleft().finish()
            while begun:
                yield begun.popleft().finish()
        finally:
            for unwanted in begun:
                unwanted.close()
            _close(stored)

    def frames(self, scope: Scope, numbers: Sequence[int], *, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`; NotAcceptable also for frames that cannot be decoded."""
        stored = Begun(self._inner.frames(scope, numbers, accept=[AS_STORED], by=by))
        if passes(accept, stored.first.transfer_syntax):
            return stored
        try:
            return self._transcoded(stored, scope, accept, by)
        except BaseException:
            stored.close()
            raise

    def _transcoded(self, stored: "Begun", scope: Scope, accept: Sequence[str], by: Caller) -> Iterator[Part]:
        source = stored.first.transfer_syntax
        description = self._description(scope, by)
        target = chosen(accept, source, lambda: description)
        if target == source:
            return stored
        if syntax.is_native(source) and syntax.is_native(target):
            width = 1 if description is None else max(description.allocated // 8, 1)
            return Begun(_swapped(stored, target, width if syntax.has_big_pixels(source) else 1))
        assert description is not None, "nothing is possible without"
        return Begun(_recoded(stored, self._work, Recoding(source, target, description)))

    def _description(self, scope: Scope, by: Caller) -> PixelDescription | None:
        datasets = self._inner.metadata(scope, by=by)
        try:
            _, dataset = next(datasets)
            with suppress(Invalid):  # what cannot be read cannot be transcoded, and is said to be so
                return PixelDescription.of(orjson.loads(dataset))
        finally:
            _close(datasets)
        return None

    def bulk(self, scope: Scope, path: str, *, accept: Sequence[str] = (AS_STORED,), by: Caller) -> Iterator[Part]:
        """See `ArchiveReader`. Pixel data that was in fragments is one part when it comes uncompressed."""
        stored = Begun(self._inner.bulk(scope, path, by=by))
        if path not in PIXEL_DATA or passes(accept, stored.first.transfer_syntax):
            return stored
        stored.close()
        description = self._description(scope, by)
        if description is None or syntax.is_stream(stored.first.transfer_syntax):
            raise NotAcceptable(
                f"it is stored in transfer syntax {stored.first.transfer_syntax}, and cannot be decoded"
            )
        frames = Begun(self.frames(scope, range(1, description.frames + 1), accept=accept, by=by))
        if frames.first.transfer_syntax != syntax.EXPLICIT_LITTLE:
            return _renamed(frames, f"bulkdata/{path}")
        return iter([self._joined(frames, f"bulkdata/{path}", description)])

    def _joined(self, frames: "Begun", place: str, description: PixelDescription) -> MadePart:
        first, room = frames.first, self._room()
        try:
            with closing(frames):
                for piece in one_value((b"".join(part.chunks()) for part in frames), description):
                    room.write(piece)
        except BaseException:
            room.close()
            raise
        return MadePart(first.identity, first.transfer_syntax, place, len(room), room.chunks, room.close)

    def search(self, query: Query, *, by: Caller) -> Found:
        """See `ArchiveReader`."""
        return self._inner.search(query, by=by)

    def metadata(self, scope: Scope, *, by: Caller) -> Iterator[tuple[Identity, bytes]]:
        """See `ArchiveReader`."""
        return self._inner.metadata(scope, by=by)

    def incoming(self) -> Incoming:
        """See `Archive`."""
        return self._inner.incoming()

    def store(self, incoming: Incoming, expected: Expected, *, by: Caller) -> Receipt:
        """See `Archive`."""
        return self._inner.store(incoming, expected, by=by)

    def delete(self, scope: Scope, *, by: Caller) -> Removed:
        """See `Archive`."""
        return self._inner.delete(scope, by=by)

    def check(self) -> str:
        """See `Archive`."""
        return self._inner.check()


class Begun:
    """Parts, the first of which is there already: what is wrong with it is an error before the answer."""

    def __init__(self, parts: Iterator[Part]) -> None:
        self._parts = parts
        self.first = next(parts)
        self._waits = True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Part:
        if self._waits:
            self._waits = False
            return self.first
        return next(self._parts)

    def close(self) -> None:
        """Give up what was not handed out."""
        if self._waits:
            self._waits = False
            self.first.close()
        _close(self._parts)


def _recoded(stored: Begun, work: FrameWork, recoding: Recoding) -> Generator[Part, None, None]:
    """The frames in another syntax; Invalid ones are NotAcceptable."""
    taken: deque[Part] = deque()

    def datas() -> Iterator[bytes]:
        for part in stored:
            taken.append(part)
            yield b"".join(part.chunks())

    with closing(stored):
        done = work.in_order(datas(), recoding)
        while (frame := _next(done, recoding.target)) is not None:
            yield _frame(taken.popleft(), recoding.target, frame[0])


def _next(done: Iterator[Done], target: str) -> Done | None:
    try:
        return next(done, None)
    except Invalid as error:
        raise NotAcceptable(f"it cannot be had in transfer syntax {target}: {error}") from error


def _swapped(stored: Begun, target: str, width: int) -> Generator[Part, None, None]:
    with closing(stored):
        for part in stored:
            data = b"".join(part.chunks())
            yield _frame(part, target, data if width == 1 else b"".join(swapped([data], width)))


def _frame(part: Part, target: str, data: bytes) -> MadePart:
    return MadePart(part.identity, target, part.place, len(data), lambda: iter((data,)))


def _renamed(parts: Begun, place: str) -> Generator[Part, None, None]:
    with closing(parts):
        for part in parts:
            yield MadePart(part.identity, part.transfer_syntax, place, part.length, part.chunks, part.close)


def _close(items: object) -> None:
    close = getattr(items, "close", None)  # an iterator need not have it, a generator has
    if close is not None:
        close()
