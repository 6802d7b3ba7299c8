"""An instance as it is stored, read whole, so that its parts can be taken in any order; large ones lie in a file."""

import mmap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property

from gateway.archive import Part
from gateway.archive.chunks import inflated, swapped
from gateway.archive.incoming import Incoming
from gateway.archive.parts import PIXEL_DATA
from storage.dicom import syntax
from storage.dicom.frames import Layout, Span
from storage.dicom.instance import BulkValue, Instance
from storage.dicom.parse import parse
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.rewrite import pixel_unit
from storage.errors import Invalid

Room = Callable[[], Incoming]  # an empty place for bytes
_STEP = 1 << 20
_STREAMED_BYTES = 4 << 20  # a value of the data set that is larger is not taken into memory


class StoredInstance:
    """Everything that rewriting asks of a stored instance. Close it when done; not safe under threads."""

    def __init__(self, part: Part, room: Room) -> None:
        """Read `part`, a Part 10 file. Raises what its chunks raise, Exhausted, and Invalid when it cannot be read."""
        with ExitStack() as opened:
            self.file = opened.enter_context(room())
            for chunk in part.chunks():
                self.file.write(chunk)
            view = opened.enter_context(self.file.view())
            self.instance: Instance = parse(view)
            self._body: memoryview | mmap.mmap = view
            self._start = self.instance.header_length
            if syntax.is_deflated(self.instance.transfer_syntax):
                self._body, self._start = self._inflated(opened.enter_context(room()), opened), 0
            self._opened = opened.pop_all()

    def _inflated(self, place: Incoming, opened: ExitStack) -> memoryview | mmap.mmap:
        for chunk in inflated(self.file.chunks(start=self._start)):
            place.write(chunk)
        return opened.enter_context(place.view())

    @cached_property
    def description(self) -> PixelDescription | None:
        """How its pixels are to be read; None when it has none, or does not say."""
        if self.pixel_path is None:
            return None
        try:
            return PixelDescription.of(self.instance.dataset)
        except Invalid:
            return None

    @cached_property
    def pixel_path(self) -> str | None:
        """Which of the elements for pixel data it has; None when that is empty."""
        return next((path for path in PIXEL_DATA if self._holds(path)), None)

    def _holds(self, path: str) -> bool:
        found = self.instance.bulk.get(path)
        return found is not None and any(span.length for span in found.spans)

    @cached_property
    def large_path(self) -> str | None:
        """The largest other value of the data set itself, such as a document, when it is better not read at once."""
        sizes = {
            path: found.spans[0].length
            for path, found in self.instance.bulk.items()
            if len(found.spans) == 1 and "/" not in path and path not in PIXEL_DATA
        }
        largest = max(sizes, key=sizes.__getitem__, default=None)
        return largest if largest is not None and sizes[largest] > _STREAMED_BYTES else None

    @property
    def is_encapsulated(self) -> bool:
        """Whether pixel data is in fragments."""
        return self.pixel_path is not None and not syntax.is_native(self.instance.transfer_syntax)

    def around(self, path: str) -> tuple[bytes, bytes]:
        """The data set before the first byte of the value (or first fragment) at `path`, and after its last."""
        spans = self.instance.bulk[path].spans
        end = spans[-1].offset + spans[-1].length
        return self._read(Span(0, spans[0].offset)), bytes(self._body[self._start + end :])

    def whole(self) -> bytes:
        """The whole data set."""
        return bytes(self._body[self._start :])

    def value(self, path: str) -> Iterator[bytes]:
        """The bytes of a value that is not in fragments, little endian."""
        found: BulkValue = self.instance.bulk[path]
        (span,) = found.spans
        bits = self.description.allocated if path == self.pixel_path and self.description is not None else 8
        unit = pixel_unit(self.instance.transfer_syntax, found.vr, bits)
        chunks = self._chunks(span)
        return chunks if unit == 1 else swapped(chunks, unit)

    @property
    def frame_count(self) -> int:
        """How many frames can be had; 0 when they cannot be told apart, or do not begin at whole bytes."""
        frames = self.instance.frames
        return frames.count if frames.layout in (Layout.NATIVE, Layout.FRAGMENTS) else 0

    def frames(self) -> Iterator[bytes]:
        """Each frame as it is stored, native ones little endian."""
        path = self.pixel_path
        assert path is not None
        bits = self.description.allocated if self.description is not None else 8
        unit = (
            1 if self.is_encapsulated else pixel_unit(self.instance.transfer_syntax, self.instance.bulk[path].vr, bits)
        )
        for number in range(1, self.frame_count + 1):
            data = b"".join(map(self._read, self.instance.frames.spans(number)))
            yield data if unit == 1 else b"".join(swapped([data], unit))

    def _read(self, span: Span) -> bytes:
        start = self._start + span.offset
        return bytes(self._body[start : start + span.length])

    def _chunks(self, span: Span) -> Iterator[bytes]:
        for offset in range(0, span.length, _STEP):
            yield self._read(Span(span.offset + offset, min(_STEP, span.length - offset)))

    def close(self) -> None:
        """Forget the bytes. May be called again."""
        self._opened.close()
