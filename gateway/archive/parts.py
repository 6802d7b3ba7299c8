"""Instances, frames and bulk values on their way out: where their bytes lie, and what is done to them on the way."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol, Self

from gateway import log
from gateway.archive.chunks import cut, inflated, shifted, swapped
from gateway.archive.seldom import Seldom
from storage.dicom import syntax
from storage.dicom.frames import FrameTable, Layout, Span
from storage.dicom.identity import Identity
from storage.dicom.instance import BulkValue
from storage.errors import Invalid, NotFound
from storage.index import Contents, Stored
from storage.objects import Body
from storage.packs import Damaged

_ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
PIXEL_DATA = ("7FE00010", "7FE00008", "7FE00009")  # Pixel Data, Float, Double Float
_WHOLE_BYTES = 1 << 20  # up to this, one read and one chunk
# Bytes of a word that big endian turns round, by VR; AT is two words of two. All others are bytes or text.
_WIDTHS = {"OW": 2, "US": 2, "SS": 2, "AT": 2, "OL": 4, "OF": 4, "UL": 4, "SL": 4, "FL": 4}
_WIDTHS |= dict.fromkeys(("OD", "OV", "FD", "SV", "UV"), 8)

Step = Callable[[Iterable[bytes]], Iterator[bytes]]

_log = log.get(__name__)
_seldom = Seldom()


class Reading(NamedTuple):
    """A span of the stored object, and the steps that make of it the `length` bytes of a part."""

    span: tuple[int, int]
    steps: tuple[Step, ...]
    length: int


class Opener(Protocol):
    """What opens a span of an object: an ObjectStore, or what stands before one."""

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body: ...


class StoredPart:
    """A Part of a stored instance; its object is opened by `open` or when its chunks are asked for."""

    __slots__ = ("_body", "_key", "_reading", "_store", "identity", "place", "transfer_syntax")

    def __init__(self, store: Opener, stored: Stored, transfer_syntax: str, place: str, reading: Reading) -> None:
        self.identity: Identity = stored.identity
        self.transfer_syntax = transfer_syntax
        self.place = place
        self._store = store
        self._key = stored.location.key
        self._reading = reading
        self._body: Body | None = None

    @property
    def length(self) -> int:
        """See `Part`."""
        return self._reading.length

    def open(self) -> Body:
        """Open the object; raises Damaged when it is not there or not as long as it was when it was stored."""
        if self._body is None:
            try:
                self._body = self._store.get(self._key, self._reading.span)
            except (NotFound, Invalid) as error:
                _tell("it is missing or cut short", self._key)
                raise Damaged("the stored object of an instance is missing or cut short", key=self._key) from error
            except Damaged as error:
                _tell(str(error), error.key or self._key)
                raise
        return self._body

    def chunks(self) -> Iterator[bytes]:
        """See `Part`. Raises Damaged or Unavailable rather than ending short."""
        left = self.length
        try:
            body = self.open()
            chunks = iter([body.read()]) if body.length <= _WHOLE_BYTES else body.chunks()
            for step in self._reading.steps:
                chunks = step(chunks)
            for chunk in chunks:
                left -= len(chunk)
                if chunk:
                    yield chunk
        except Damaged as error:
            _tell(str(error), error.key or self._key)
            raise
        finally:
            self.close()
        if left:
            _tell("it does not hold what the index says", self._key)
            raise Damaged("the stored object of an instance does not hold what the index says", key=self._key)

    def close(self) -> None:
        """See `Part`."""
        if self._body is not None:
            body, self._body = self._body, None
            body.close()


def _tell(why: str, key: str) -> None:
    if _seldom.is_due(key):
        _log.error("a stored object is lost or damaged: run `gateway verify`", key=key, why=why)


class Parts:
    """Parts one after another. The first is opened at once, so that a missing object is an error before the answer.

    `release` is called when they are closed.
    """

    def __init__(self, parts: Iterator[StoredPart], release: Callable[[], None] = lambda: None) -> None:
        self._parts = parts
        self._release = release
        self._first: StoredPart | None = next(parts)
        try:
            self._first.open()
        except BaseException:
            release()
            raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StoredPart:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._parts)

    def close(self) -> None:
        """Give up what is left; a part that was handed out is closed by whoever has it."""
        if self._first is not None:
            self._first.close()
        self._first, self._parts = None, iter(())
        self._release()


def whole(stored: Stored, *steps: Step) -> Reading:
    """The instance as a Part 10 file, as it is stored."""
    location = stored.location
    return Reading((location.offset, location.length), steps, location.length)


def frame(stored: Stored, contents: Contents, number: int) -> Reading:
    """Frame `number` (from 1), native ones little endian and from bit 0 on (PS3.18 8.7.3.3). Raises NotFound."""
    table = contents.frames
    spans = table.spans(number)
    if table.layout is Layout.FRAGMENTS:
        return _reading(stored, spans)
    pixels = next((contents.bulk[path] for path in PIXEL_DATA if path in contents.bulk), None)
    reading = _reading(stored, spans, pixels)
    if table.layout is not Layout.BITS:
        return reading
    shift = partial(shifted, skip=table.bit_offset(number), bits=table.bit_length)
    return Reading(reading.span, (*reading.steps, shift), (table.bit_length + 7) // 8)


def value(stored: Stored, bulk: BulkValue) -> Reading:
    """A bulk value, little endian (PS3.18 10.4.1.1.5)."""
    return _reading(stored, bulk.spans, bulk)


def frames_of_value(contents: Contents, path: str) -> range | None:
    """The numbers of the frames when the value at `path` is encapsulated and answered frame by frame, else None."""
    table: FrameTable = contents.frames
    if path in PIXEL_DATA and table.layout is Layout.FRAGMENTS and table.count:
        return range(1, table.count + 1)
    return None


def pixel_syntax(stored: Stored) -> str:
    """The transfer syntax that tells how the frames of an answer are encoded: uncompressed ones are little endian."""
    found = stored.transfer_syntax
    plain = found == syntax.plain_syntax(syntax.encoding_of(found))  # a private form of it stays under its own name
    uncompressed = plain or syntax.is_deflated(found) or found == _ENCAPSULATED_UNCOMPRESSED
    return syntax.EXPLICIT_LITTLE if uncompressed else found


def _reading(stored: Stored, spans: Sequence[Span], value: BulkValue | None = None) -> Reading:
    """One read from the first to the last of `spans`; the item headers between fragments are cut out of it.

    `value` is the value they lie in, which tells how it is swapped when it is big endian.
    """
    length = sum(span.length for span in spans)
    location, header = stored.location, stored.header_length
    if not length:
        return Reading((location.offset, 0), (), 0)
    if syntax.is_deflated(stored.transfer_syntax):
        rest = (location.offset + header, location.length - header)
        return Reading(rest, (inflated, partial(cut, spans=spans)), length)
    start, end = spans[0].offset, spans[-1].offset + spans[-1].length
    steps: tuple[Step, ...] = ()
    big = syntax.encoding_of(stored.transfer_syntax).big
    width = _WIDTHS.get(value.vr, 1) if value is not None and big else 1
    if value is not None and width > 1:
        start, end = _widened(start, end, width, value.spans[0])
        steps = (partial(swapped, width=width),)
    if end - start != length:
        steps += (partial(cut, spans=[Span(span.offset - start, span.length) for span in spans]),)
    return Reading((location.offset + header + start, end - start), steps, length)


def _widened(start: int, end: int, width: int, within: Span) -> tuple[int, int]:
    """From `start` to `end`, out to whole words of the value `within`."""
    start -= (start - within.offset) % width
    end += -(end - within.offset) % width
    return start, min(end, within.offset + within.length)
