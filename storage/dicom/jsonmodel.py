"""A data set in one pass over its bytes to the DICOM JSON Model (PS3.18 Annex F). Pixel data is passed over.

Everything is read in place; only values that go into the JSON are copied.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from storage.dicom.dictionary import key_of, vr_of
from storage.dicom.elements import (
    FIRST_TAG,
    HEADER_BYTES,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    Encoding,
    first_non_zero,
    is_no_element,
    is_trailing_padding,
    looks_explicit,
    malformed,
    name_of,
)
from storage.dicom.fragments import Forget, Fragments, read_fragments
from storage.dicom.frames import Span
from storage.dicom.instance import BulkValue, JsonDataset
from storage.dicom.texts import CHARSET_VRS, Entry, WaitingTexts, means_ascii
from storage.dicom.values import BY_NAME, SENT_AS_UNKNOWN, SQ, UN, UN_SQ, VR, inline, swapped
from storage.errors import Fault, Invalid

MAX_DEPTH = 80  # of sequences; the encoder of JSON gives up at 254 levels, and one sequence makes three
MAX_ELEMENTS = 500_000  # items and delimiters are counted, too
MAX_MEMORY_BYTES = 192 << 20  # of what is read, beside pixel data; estimated, and rather too high
MAX_FRAGMENTS = 1_000_000
PIXEL_DATA = 0x7FE00010
PIXEL_TAGS = range(0x7FE00008, PIXEL_DATA + 1)  # Float, Double Float and (integer) Pixel Data

_MAX_WARNINGS = 32
_LAST_ROOM = MAX_MEMORY_BYTES // 4  # when only this is left, every value that may be is given by BulkDataURI
_ELEMENT_BYTES, _ITEM_BYTES, _TEXT_BYTES, _BULK_BYTES = 360, 96, 256, 480  # what each takes in memory
_PER_BYTE = 6  # of a value: itself, and in JSON, where a control character is escaped to 6 characters
_DELIMITERS = 0xFFFE0000
_PRIVATE = 0x00010000
_SPECIFIC_CHARACTER_SET = 0x00080005
_PIXEL_REPRESENTATION = 0x00280103
_INHERITED = frozenset({_SPECIFIC_CHARACTER_SET, _PIXEL_REPRESENTATION})
_EXTENDED_OFFSET_TABLE = 0x7FE00001
_ESCAPE = b"\x1b"
_LEFTOVERS = "bytes after the end of the data set are ignored"


class PixelData(NamedTuple):
    """The pixel data of the instance itself, not of an icon within it; positions in the bytes."""

    tag: int
    start: int
    length: int
    fragments: Fragments | None


@dataclass(slots=True)
class Reading:
    """What reading a data set gives; `bulk` spans count from its first byte."""

    dataset: JsonDataset = field(default_factory=dict)
    bulk: dict[str, BulkValue] = field(default_factory=dict)
    pixel_data: PixelData | None = None
    extended_offsets: Span | None = None
    repair: str | None = None
    warnings: list[str] = field(default_factory=list)

    def warn(self, message: str) -> None:
        """Note an oddity once; a flood of them ends at a fixed number."""
        if message not in self.warnings and len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(message)


class _Scope(NamedTuple):
    """Where a data set stands, and what it inherits from the one around it."""

    encoding: Encoding
    path: str = ""
    depth: int = 0
    declared: tuple[str, ...] = ()  # Specific Character Set
    plain: bool = True  # in which ASCII bytes mean ASCII
    signed: bool = False


def read(view: memoryview, start: int, end: int, encoding: Encoding, forget: Forget) -> Reading:
    """Read the data set from `start` to `end`.

    Raises Invalid (MALFORMED, TOO_LARGE). `forget` is told of long stretches that will not be read again.
    """
    reader = _Reader(view, start, forget)
    reader.reading.dataset, _ = reader.dataset(start, end, _Scope(encoding))
    reader.reading.repair, warnings = reader.texts.settle()
    for warning in warnings:
        reader.reading.warn(warning)
    return reader.reading


class _Reader:
    """The pass itself: the bytes, and what has been found in them."""

    def __init__(self, view: memoryview, base: int, forget: Forget) -> None:
        self.reading = Reading()
        self.texts = WaitingTexts()
        self._view = view
        self._base = base
        self._forget = forget
        self._budget = iter(range(MAX_ELEMENTS))
        self._room = MAX_MEMORY_BYTES
        self._fragments_left = MAX_FRAGMENTS
        self._non_zero = 0  # a position before which some byte is known not to be zero

    def dataset(self, position: int, end: int, scope: _Scope, *, open_ended: bool = False) -> tuple[JsonDataset, int]:
        """The data set or item from `position`, and where it ends: at `end` or, `open_ended`, after its delimiter.

        This is the hot path: the headers of short form are read here, everything uncommon elsewhere.
        """
        view, encoding = self._view, scope.encoding
        read_short, vr_of_code, big = encoding.short, encoding.vrs, encoding.big
        dataset: JsonDataset = {}
        last, ascending = 0, True
        for _ in self._budget:
            if (last >= PIXEL_DATA or end - position < HEADER_BYTES) and self._is_over(position, end, last, scope):
                break
            group, element, code, length = read_short(view, position)
            vr = vr_of_code.get(code)
            if vr is None or vr.long:
                try:
                    tag, vr, start, length = encoding.header(view, position, end)
                except Invalid:
                    if self._is_padding(position, end, scope):
                        break
                    raise
            else:
                tag, start = group << 16 | element, position + HEADER_BYTES
            if last < tag < _DELIMITERS:
                last = tag
            elif tag >= _DELIMITERS:
                self._check_delimiter(tag, position, scope)
                position = start
                if open_ended:
                    return _ordered(dataset, ascending), position
                continue
            elif tag == 0 and self._is_padding(position, end, scope):
                break
            else:
                ascending = False
                self.reading.warn("elements are not in ascending order, or there twice")
            if vr is None or vr is UN:
                vr = self._known(tag, vr, length, dataset, scope)
            key = key_of(tag)
            if tag < FIRST_TAG or not tag & 0xFFFF or (not ascending and key in dataset):
                position = self._skip(tag, vr, start, length, end, scope)
                continue
            after = start + length
            if length > vr.max_short or after > end or tag >= _EXTENDED_OFFSET_TABLE:
                dataset[key], position = self._large(tag, vr, start, length, end, scope)
                continue
            raw = view[start:after].tobytes()
            dataset[key] = entry = self._entry(tag, vr, swapped(raw, vr.unit) if big else raw, scope)
            position = after
            if tag in _INHERITED:
                scope = _inheriting(scope, tag, entry)
        else:
            raise _too_many_elements()
        if open_ended:
            raise malformed("an item of undefined length has no end, the bytes stop", position)
        return _ordered(dataset, ascending), end

    def _known(self, tag: int, vr: VR | None, length: int, dataset: JsonDataset, scope: _Scope) -> VR:
        """The VR by the dictionary: in implicit VR (`vr` is None), of public elements and creators sent as UN."""
        if vr is UN and (length == UNDEFINED or (tag & _PRIVATE and not 0x10 <= tag & 0xFFFF <= 0xFF)):
            return UN
        known = BY_NAME[vr_of(tag, dataset, signed=scope.signed)]
        if vr is not UN:
            return known
        if known is SQ:
            return UN_SQ
        return SENT_AS_UNKNOWN.get(known.name, known) if scope.encoding.big else known

    def _entry(self, tag: int, vr: VR, raw: bytes, scope: _Scope) -> Entry:
        """An element with a value to be given in the JSON; `raw` is little endian."""
        if vr.decoded is not None and (_ESCAPE in raw or (not scope.plain and vr.name in CHARSET_VRS)):
            return self._waiting_text(tag, vr, raw, scope)
        try:
            values = vr.values(raw)
        except UnicodeDecodeError:
            return self._waiting_text(tag, vr, raw, scope)
        self._room -= _ELEMENT_BYTES + _PER_BYTE * len(raw) + (len(values) * vr.weight if values else 0)
        if self._room < 0:
            raise _too_large()
        if values:
            return {"vr": vr.name, "Value": values}
        if values is None and raw:
            return {"vr": vr.name if vr.bulk else UN.name, "InlineBinary": inline(raw)}
        return {"vr": vr.name}

    def _waiting_text(self, tag: int, vr: VR, raw: bytes, scope: _Scope) -> Entry:
        values = raw.count(b"\\") + 1
        self._take(_ELEMENT_BYTES + _TEXT_BYTES + 2 * _PER_BYTE * len(raw) + values * vr.weight)
        return self.texts.add(tag, vr, raw, scope.declared)

    def _take(self, size: int) -> None:
        """Count `size` bytes of memory."""
        self._room -= size
        if self._room < 0:
            raise _too_large()

    def _large(self, tag: int, vr: VR, start: int, length: int, end: int, scope: _Scope) -> tuple[Entry, int]:
        """A sequence, pixel data, or a long value, perhaps too long for the JSON; and where it ends."""
        if length == UNDEFINED:
            return self._open_ended(tag, vr, start, end, scope)
        after = start + length
        if after > end:
            raise _too_long(tag, start, length, end)
        if vr is SQ:
            items, _ = self._items(tag, start, length, after, scope)
            return _sequence(items), after
        if vr is UN_SQ:
            return self._sequence_sent_as_unknown(tag, start, length, scope), after
        if scope.depth == 0 and length:
            self._note_pixel_data(tag, start, length, None)
        is_last_room = vr.bulk and length > vr.max_short and self._room < _LAST_ROOM
        if length > vr.max_inline or is_last_room or (tag in PIXEL_TAGS and length):
            return self._bulk(tag, vr, scope, (Span(start - self._base, length),)), after
        raw = self._view[start:after].tobytes()
        return self._entry(tag, vr, swapped(raw, vr.unit) if scope.encoding.big else raw, scope), after

    def _bulk(self, tag: int, vr: VR, scope: _Scope, spans: tuple[Span, ...]) -> Entry:
        name = vr.name if vr.bulk else UN.name
        path = scope.path + key_of(tag)
        self._take(_BULK_BYTES + 4 * len(path))
        self.reading.bulk.setdefault(path, BulkValue(UN.name if vr is SENT_AS_UNKNOWN.get(name) else name, spans))
        return {"vr": name, "BulkDataURI": f"bulkdata/{path}"}

    def _note_pixel_data(self, tag: int, start: int, length: int, fragments: Fragments | None) -> None:
        if tag == _EXTENDED_OFFSET_TABLE:
            self.reading.extended_offsets = Span(start, length)
        elif tag in PIXEL_TAGS and self.reading.pixel_data is None:
            self.reading.pixel_data = PixelData(tag, start, length, fragments)

    def _open_ended(self, tag: int, vr: VR, start: int, end: int, scope: _Scope) -> tuple[Entry, int]:
        """A sequence or encapsulated value of undefined length; a UN is a sequence in implicit VR (PS3.5 6.2.2)."""
        if vr is SQ or vr is UN:
            inner = scope if vr is SQ else scope._replace(encoding=Encoding.IMPLICIT_LITTLE)
            items, position = self._items(tag, start, UNDEFINED, end, inner)
            return _sequence(items), position
        if not vr.fragments:
            raise malformed(f"{name_of(tag)} with VR {vr.name} must not have undefined length, its value begins", start)
        limit = self._fragments_left
        fragments, position = read_fragments(self._view, start, end, scope.encoding, limit, self._forget)
        self._fragments_left -= len(fragments.items)
        if scope.depth == 0:
            self._note_pixel_data(tag, start, position - start, fragments)
        if not fragments.items:
            return {"vr": vr.name}, position
        if not scope.encoding.explicit:
            vr = BY_NAME["OB"]  # as it must be when encapsulated (PS3.5 A.4)
        spans = tuple(Span(item.offset - self._base, item.length) for item in fragments.items)
        return self._bulk(tag, vr, scope, spans), position

    def _items(self, tag: int, start: int, length: int, end: int, scope: _Scope) -> tuple[list[JsonDataset], int]:
        """The items of a sequence, and where it ends (PS3.5 7.5)."""
        if scope.depth >= MAX_DEPTH:
            raise malformed(f"sequences are nested deeper than {MAX_DEPTH} levels", start)
        path = f"{scope.path}{key_of(tag)}/"
        items: list[JsonDataset] = []
        position = start
        for _ in self._budget:
            if position >= end:
                break
            self._take(_ITEM_BYTES)
            item_tag, item_length = scope.encoding.item(self._view, position, end)
            position += HEADER_BYTES
            if item_tag == SEQUENCE_END:
                return items, position if length == UNDEFINED else end
            if item_tag != ITEM:
                raise malformed(f"{name_of(item_tag)} lies where an item should be", position - HEADER_BYTES)
            item_end = end if item_length == UNDEFINED else position + item_length
            if item_end > end:
                raise malformed(
                    f"an item of {item_length} bytes is cut short after {end - position}, it begins", position
                )
            encoding = item_encoding(self._view, position, item_end, scope.encoding)
            inner = scope._replace(encoding=encoding, path=f"{path}{len(items) + 1}/", depth=scope.depth + 1)
            item, position = self.dataset(position, item_end, inner, open_ended=item_length == UNDEFINED)
            items.append(item)
        else:
            raise _too_many_elements()
        if length == UNDEFINED:
            raise malformed("a sequence of undefined length has no end, it begins", start)
        return items, end

    def _sequence_sent_as_unknown(self, tag: int, start: int, length: int, scope: _Scope) -> Entry:
        """A public sequence in implicit VR under the VR UN (PS3.5 6.2.2), or, if it cannot be read so, its bytes."""
        texts, bulk = len(self.texts), len(self.reading.bulk)
        try:
            inner = scope._replace(encoding=Encoding.IMPLICIT_LITTLE)
            items, _ = self._items(tag, start, length, start + length, inner)
        except Invalid as error:
            if error.fault is Fault.TOO_LARGE:
                raise
            self._go_back(texts, bulk)
            entry, _ = self._large(tag, UN, start, length, start + length, scope)
            return entry
        return _sequence(items)

    def _skip(self, tag: int, vr: VR, start: int, length: int, end: int, scope: _Scope) -> int:
        """Where an element ends that is no part of the JSON: group length, file meta, one that was there before."""
        if length == UNDEFINED:
            texts, bulk = len(self.texts), len(self.reading.bulk)
            _, position = self._open_ended(tag, vr, start, end, scope._replace(depth=scope.depth + 1))
            self._go_back(texts, bulk)
            return position
        if start + length > end:
            raise _too_long(tag, start, length, end)
        return start + length

    def _go_back(self, texts: int, bulk: int) -> None:
        """Forget what was found since there were so many texts and bulk values."""
        self.texts.drop(texts)
        while len(self.reading.bulk) > bulk:
            self.reading.bulk.popitem()

    def _check_delimiter(self, tag: int, position: int, scope: _Scope) -> None:
        if scope.depth == 0:
            self.reading.warn("a delimiter lies outside of all sequences")
        elif tag != ITEM_END:
            raise malformed(f"{name_of(tag)} lies where the elements of an item should be", position)

    def _is_over(self, position: int, end: int, last: int, scope: _Scope) -> bool:
        """Whether no element follows: the bytes end, or pixel data was the last and other things come after it."""
        if position >= end or self._is_padding(position, end, scope):
            return True
        if scope.depth == 0 and last >= PIXEL_DATA and is_no_element(self._view, position, end, last, scope.encoding):
            if not is_trailing_padding(self._view, position, scope.encoding):
                self.reading.warn(_LEFTOVERS)
            return True
        if end - position < HEADER_BYTES:
            raise malformed("the data set ends within the header of an element", position)
        return False

    def _is_padding(self, position: int, end: int, scope: _Scope) -> bool:
        """Whether only zeros follow the data set. Looks at each byte once, however often it is asked."""
        if scope.depth or position < self._non_zero:
            return False
        self._non_zero = first_non_zero(self._view, position, end)
        if self._non_zero < end:
            return False
        self.reading.warn(_LEFTOVERS)
        return True


def _sequence(items: list[JsonDataset]) -> Entry:
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def _ordered(dataset: JsonDataset, ascending: bool) -> JsonDataset:
    return dataset if ascending else dict(sorted(dataset.items()))


def _too_long(tag: int, start: int, length: int, end: int) -> Invalid:
    return malformed(f"{name_of(tag)} says {length} bytes, but {end - start} are left, its value begins", start)


def _too_large() -> Invalid:
    return Invalid(Fault.TOO_LARGE, f"the data set takes more than {MAX_MEMORY_BYTES} bytes of memory, without pixels")


def _too_many_elements() -> Invalid:
    return Invalid(Fault.TOO_LARGE, f"the data set has more than {MAX_ELEMENTS} elements")


def _inheriting(scope: _Scope, tag: int, entry: Entry) -> _Scope:
    """The scope after an element on which the reading of later ones depends."""
    values = entry.get("Value", [])
    if tag == _PIXEL_REPRESENTATION:
        return scope._replace(signed=values == [1])
    declared = tuple(value if isinstance(value, str) else "" for value in values)
    return scope._replace(declared=declared, plain=means_ascii(declared))


def item_encoding(view: memoryview, position: int, end: int, encoding: Encoding) -> Encoding:
    """Some writers switch to explicit VR within a sequence in implicit VR. (The other way, each header tells.)"""
    if encoding.explicit or not looks_explicit(view, position, end):
        return encoding
    return Encoding.EXPLICIT_LITTLE
