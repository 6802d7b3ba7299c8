"""A stored instance made into a Part in another transfer syntax: elements rewritten, frames transcoded."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain

from gateway.archive import BY_DEFAULT, Part
from gateway.archive.frame_work import Done, FrameWork, Recoding
from gateway.archive.incoming import Incoming
from gateway.archive.stored_instance import Room, StoredInstance
from gateway.archive.wanted import chosen, is_never_sent
from storage.dicom import syntax
from storage.dicom.aroundpixels import AroundPixels, Encapsulated, Native, fragment
from storage.dicom.identity import Identity
from storage.dicom.pixels.conversion import changes
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.pixels.syntaxes import is_encoded_here
from storage.dicom.rewrite import rewrite
from storage.errors import Fault, Invalid, NotAcceptable, Unavailable

_MAX_NATIVE_BYTES = (1 << 32) - 2  # PS3.5 7.1.2


@dataclass(slots=True)
class MadePart:
    """A Part whose bytes are all here."""

    identity: Identity
    transfer_syntax: str
    place: str
    length: int
    data: Callable[[], Iterator[bytes]]
    release: Callable[[], None] = lambda: None

    def chunks(self) -> Iterator[bytes]:
        """See `Part`."""
        try:
            yield from self.data()
        finally:
            self.release()

    def close(self) -> None:
        """See `Part`."""
        self.release()


class Rewriting:
    """An instance on its way into another transfer syntax: its first frame is being transcoded, `finish` does the rest.

    Not safe under threads; `close` it when it shall not be finished.
    """

    def __init__(self, part: Part, accept: Sequence[str], work: FrameWork, room: Room) -> None:
        """Read `part`. Raises NotAcceptable when none of `accept` is possible, and what reading raises."""
        self._accept = accept
        self._work = work
        self._room = room
        self._first: Future[Done] | None = None
        try:
            self._stored = StoredInstance(part, room)
        except Invalid as error:
            raise Unavailable(f"a stored instance cannot be read any more: {error}") from error
        try:
            self._target = self._chosen()
            self._recoding = self._needed()
            if self._recoding is not None:
                self._frames = self._stored.frames()
                self._first = work.begin(next(self._frames), self._recoding)
        except BaseException:
            self._stored.close()
            raise

    def _chosen(self) -> str:
        stored, instance = self._stored, self._stored.instance
        if stored.pixel_path is not None:
            return chosen(self._accept, instance.transfer_syntax, lambda: self._description)
        # Without pixel data every syntax is as good as Explicit VR Little Endian.
        own = syntax.EXPLICIT_LITTLE if is_never_sent(instance.transfer_syntax) else instance.transfer_syntax
        possible = [wanted for wanted in self._accept if wanted != syntax.DEFLATED and is_encoded_here(wanted)]
        if own in self._accept:
            return own
        return possible[0] if possible else chosen(self._accept, instance.transfer_syntax, lambda: None)

    @property
    def _description(self) -> PixelDescription | None:
        """None when it is of no use, as not all of the frames can be told apart."""
        described = self._stored.description
        return described if described is not None and described.frames == self._stored.frame_count else None

    def _needed(self) -> Recoding | None:
        """What is to be done to each frame; None when pixel data stays as it is."""
        stored, source = self._stored, self._stored.instance.transfer_syntax
        is_native = syntax.is_native(source) and syntax.is_native(self._target)
        if self._target == source or stored.pixel_path is None or is_native:
            return None
        if self._description is None:
            raise NotAcceptable("its frames cannot be told apart, or are not all there")
        readable = syntax.EXPLICIT_LITTLE if syntax.is_native(source) else source  # frames come little endian
        return Recoding(readable, self._target, self._description)

    def finish(self) -> Part:
        """The part. Raises NotAcceptable for pixels that cannot be decoded, unless any syntax will do then."""
        try:
            if self._target == self._stored.instance.transfer_syntax:
                return self._as_stored()
            return self._made()
        except Invalid as error:
            if BY_DEFAULT in self._accept and not is_never_sent(self._stored.instance.transfer_syntax):
                return self._as_stored()
            self.close()
            raise NotAcceptable(f"it cannot be had in transfer syntax {self._target}: {error}") from error
        except BaseException:
            self.close()
            raise

    def _as_stored(self) -> MadePart:
        file, instance = self._stored.file, self._stored.instance
        return MadePart(instance.identity, instance.transfer_syntax, "", len(file), file.chunks, self.close)

    def _made(self) -> MadePart:
        stored = self._stored
        if self._recoding is not None:
            return self._recoded(self._recoding)
        path = stored.pixel_path or stored.large_path
        if path is None:
            around = self._rewritten(stored.whole(), b"", None)
            return self._part(around, lambda: iter(()))
        before, after = stored.around(path)
        (span,) = stored.instance.bulk[path].spans
        around = self._rewritten(before, after, Native(span.length, tag=int(path, 16)))
        return self._part(around, lambda: stored.value(path))

    def _recoded(self, recoding: Recoding) -> MadePart:
        pixels = self._room()
        try:
            lengths, after = self._write(pixels, recoding)
            path = self._stored.pixel_path
            assert path is not None
            is_native = syntax.is_native(self._target)
            description = Native(len(pixels)) if is_native else Encapsulated(lengths)
            changed = changes(recoding.description, after)
            around = self._rewritten(*self._stored.around(path), description, changed)
        except BaseException:
            pixels.close()
            raise
        return self._part(around, pixels.chunks, pixels.close)

    def _write(self, pixels: Incoming, recoding: Recoding) -> tuple[list[int], PixelDescription]:
        """All frames, as they stand in the file: their lengths, and what describes every one of them."""
        assert self._first is not None
        data, description = self._first.result()
        done = chain([(data, description)], self._work.in_order(self._frames, recoding))
        lengths: list[int] = []
        if syntax.is_native(self._target) and description.frame_bytes * description.frames > _MAX_NATIVE_BYTES:
            raise Invalid(Fault.TOO_LARGE, "pixel data of 4 GiB or more has no room in a native element")

        def frames() -> Iterator[bytes]:
            for frame, described in done:
                if described != description:
                    raise Invalid(Fault.MALFORMED, "its frames differ in what they say of their pixels")
                lengths.append(len(frame))
                yield frame

        if syntax.is_native(self._target):
            for piece in one_value(frames(), description):
                pixels.write(piece)
        else:
            for frame in frames():
                pixels.write(fragment(frame))
        return lengths, description

    def _rewritten(
        self,
        before: bytes,
        after: bytes,
        pixels: Native | Encapsulated | None,
        changed: dict[str, object] | None = None,
    ) -> AroundPixels:
        instance = self._stored.instance
        return rewrite(
            before,
            instance.transfer_syntax,
            self._target,
            instance.identity,
            pixels=pixels,
            changes=changed,  # type: ignore[arg-type]
            rest=after,
        )

    def _part(
        self, around: AroundPixels, pixels: Callable[[], Iterator[bytes]], release: Callable[[], None] = lambda: None
    ) -> MadePart:
        def data() -> Iterator[bytes]:
            yield around.head
            yield from pixels()
            yield around.tail

        def let_go() -> None:
            release()
            self.close()

        assert around.length is not None
        return MadePart(self._stored.instance.identity, self._target, "", around.length, data, let_go)

    def close(self) -> None:
        """Give it up, or let go of what it was made from. May be called again."""
        if self._first is not None:
            self._first.cancel()
        self._stored.close()


def one_value(frames: Iterator[bytes], description: PixelDescription) -> Iterator[bytes]:
    """Native frames as one value; single bits follow each other without padding between frames (PS3.5 8.1.1)."""
    if description.frame_bits % 8 == 0:
        return frames
    from storage.dicom.pixels.native import joined  # here: numpy, for who meets such frames

    return joined(frames, description)
