"""A data set in one pass over its bytes to the DICOM JSON Model (PS3.18 Annex F). Pixel data is passed over.

Everything is read in place; only values that go into the JSON are copied.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from storage.dicom.charset import Charset, repaired
from storage.dicom.dictionary import vr_of
from storage.dicom.elements import (
    HEADER_BYTES,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    Encoding,
    looks_explicit,
    malformed,
    name_of,
)
from storage.dicom.fragments import Forget, Fragments, read_fragments
from storage.dicom.frames import Span
from storage.dicom.instance import BulkValue, JsonDataset
from storage.dicom.values import BY_NAME, SQ, UN, UN_SQ, VR, inline, swapped
from storage.errors import Fault, Invalid

MAX_DEPTH = 100  # of sequences; encoders of JSON give up at some 250 levels, and one sequence makes two
MAX_ELEMENTS = 2_000_000
PIXEL_DATA = 0x7FE00010
PIXEL_TAGS = range(0x7FE00008, PIXEL_DATA + 1)  # Float, Double Float and (integer) Pixel Data

_MAX_WARNINGS = 32
_MAX_SAMPLES = 256
_FIRST_TAG = 0x00080000  # before it: command set and file meta, which are no part of a data set
_DELIMITERS = 0xFFFE0000
_TRAILING_PADDING = 0xFFFCFFFC
_PRIVATE = 0x00010000
_SPECIFIC_CHARACTER_SET = 0x00080005
_PIXEL_REPRESENTATION = 0x00280103
_INHERITED = frozenset({_SPECIFIC_CHARACTER_SET, _PIXEL_REPRESENTATION})
_EXTENDED_OFFSET_TABLE = 0x7FE00001
_CHARSET_VRS = frozenset({"SH", "LO", "ST", "LT", "UC", "UT", "PN"})
_ESCAPE = b"\x1b"
_STEP = 1 << 20

Entry = dict[str, Any]


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


class _Text(NamedTuple):
    """A text that is not plain ASCII: its entry waits until the character set is known for certain."""

    entry: Entry
    vr: VR
    raw: bytes
    declared: tuple[str, ...]
    standard: bool  # of a public attribute to which the character set applies


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
    reader.decode_texts()
    return reader.reading


class _Reader:
    """The pass itself: the bytes, and what has been found in them."""

    def __init__(self, view: memoryview, base: int, forget: Forget) -> None:
        self.reading = Reading()
        self._view = view
        self._base = base
        self._forget = forget
        self._texts: list[_Text] = []
        self._elements = 0

    def dataset(self, position: int, end: int, scope: _Scope, *, open_ended: bool = False) -> tuple[JsonDataset, int]:
        """The data set or item from `position`, and where it ends: at `end` or, `open_ended`, after its delimiter."""
        view, read_header = self._view, scope.encoding.header
        dataset: JsonDataset = {}
        last, ascending = 0, True
        while position < end:
            if last >= PIXEL_DATA and self._is_trailing(position, end, last, scope):
                return _ordered(dataset, ascending), end
            try:
                tag, vr, start, length = read_header(view, position, end)
            except Invalid:
                if self._is_padding(position, end, scope):
                    return _ordered(dataset, ascending), end
                raise
            if last < tag < _DELIMITERS:
                last = tag
            elif tag >= _DELIMITERS:
                self._check_delimiter(tag, position, scope)
                position = start
                if open_ended:
                    return _ordered(dataset, ascending), position
                continue
            elif tag == 0 and self._is_padding(position, end, scope):
                return _ordered(dataset, ascending), end
            else:
                ascending = False
                self.reading.warn("elements are not in ascending order, or there twice")
            if vr is None or vr is UN:
                vr = self._known(tag, vr, length, dataset, scope)
            key = f"{tag:08X}"
            if tag < _FIRST_TAG or not tag & 0xFFFF or (not ascending and key in dataset):
                position = self._skip(tag, vr, start, length, end, key, scope)
                continue
            self._count(position)
            if length == UNDEFINED:
                entry, position = self._open_ended(tag, vr, start, end, key, scope)
            else:
                if start + length > end:
                    raise _too_long(tag, position, length, end - start)
                entry = self._entry(tag, vr, start, length, key, scope)
                position = start + length
            dataset[key] = entry
            if tag in _INHERITED:
                scope = _inheriting(scope, tag, entry)
        if open_ended:
            raise malformed("an item of undefined length has no end, the bytes stop", position)
        return _ordered(dataset, ascending), end

    def _known(self, tag: int, vr: VR | None, length: int, dataset: JsonDataset, scope: _Scope) -> VR:
        """The VR by the dictionary, for implicit VR (`vr` is None) and public elements sent as UN."""
        if vr is UN and (tag & _PRIVATE or length == UNDEFINED):
            return UN
        known = BY_NAME[vr_of(tag, dataset, signed=scope.signed)]
        return UN_SQ if vr is UN and known is SQ else known

    def _entry(self, tag: int, vr: VR, start: int, length: int, key: str, scope: _Scope) -> Entry:
        """An element of defined length."""
        if length == 0:
            return {"vr": vr.name}
        if _EXTENDED_OFFSET_TABLE <= tag <= PIXEL_DATA and scope.depth == 0:
            self._note_pixel_data(tag, start, length, None)
        if length > vr.max_inline or tag in PIXEL_TAGS:
            return self._long(vr, start, length, key, scope)
        raw = self._view[start : start + length].tobytes()
        if scope.encoding.big:
            raw = swapped(raw, vr.unit)
        if vr.decoded is not None and (_ESCAPE in raw or (not scope.plain and vr.name in _CHARSET_VRS)):
            return self._text(tag, vr, raw, scope)
        try:
            values = vr.values(raw)
        except UnicodeDecodeError:
            return self._text(tag, vr, raw, scope)
        if values:
            return {"vr": vr.name, "Value": values}
        if values is None:
            return {"vr": vr.name if vr.bulk else UN.name, "InlineBinary": inline(raw)}
        return {"vr": vr.name}

    def _long(self, vr: VR, start: int, length: int, key: str, scope: _Scope) -> Entry:
        """A sequence, pixel data, or a value that is too long for the JSON."""
        if vr is SQ:
            items, _ = self._items(start, length, start + length, key, scope)
            return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        if vr is UN_SQ:
            return self._sequence_sent_as_unknown(start, length, key, scope)
        return self._bulk(vr, key, scope, (Span(start - self._base, length),))

    def _bulk(self, vr: VR, key: str, scope: _Scope, spans: tuple[Span, ...]) -> Entry:
        name = vr.name if vr.bulk else UN.name
        path = scope.path + key
        self.reading.bulk.setdefault(path, BulkValue(name, spans))
        return {"vr": name, "BulkDataURI": f"bulkdata/{path}"}

    def _note_pixel_data(self, tag: int, start: int, length: int, fragments: Fragments | None) -> None:
        if tag == _EXTENDED_OFFSET_TABLE:
            self.reading.extended_offsets = Span(start, length)
        elif tag in PIXEL_TAGS and self.reading.pixel_data is None:
            self.reading.pixel_data = PixelData(tag, start, length, fragments)

    def _open_ended(self, tag: int, vr: VR, start: int, end: int, key: str, scope: _Scope) -> tuple[Entry, int]:
        """A sequence or encapsulated value of undefined length; a UN is a sequence in implicit VR (PS3.5 6.2.2)."""
        if vr is SQ or vr is UN:
            inner = scope if vr is SQ else scope._replace(encoding=Encoding.IMPLICIT_LITTLE)
            items, position = self._items(start, UNDEFINED, end, key, inner)
            return ({"vr": "SQ", "Value": items} if items else {"vr": "SQ"}), position
        if vr.values(b"") is not None:
            raise malformed(
                f"{name_of(tag)} has an undefined length, which is not for {vr.name}, its value begins", start
            )
        fragments, position = read_fragments(self._view, start, end, scope.encoding, self._forget)
        if scope.depth == 0:
            self._note_pixel_data(tag, start, position - start, fragments)
        if not fragments.items:
            return {"vr": vr.name}, position
        spans = tuple(Span(item.offset - self._base, item.length) for item in fragments.items)
        return self._bulk(vr, key, scope, spans), position

    def _items(self, start: int, length: int, end: int, key: str, scope: _Scope) -> tuple[list[JsonDataset], int]:
        """The items of a sequence, and where it ends (PS3.5 7.5)."""
        if scope.depth >= MAX_DEPTH:
            raise malformed(f"sequences are nested deeper than {MAX_DEPTH} levels", start)
        items: list[JsonDataset] = []
        position = start
        while position < end:
            at = position
            tag, item_length = scope.encoding.item(self._view, at, end)
            position += HEADER_BYTES
            if tag == SEQUENCE_END:
                return items, position if length == UNDEFINED else end
            if tag != ITEM:
                raise malformed(f"{name_of(tag)} lies where an item of a sequence should be", at)
            item_end = end if item_length == UNDEFINED else position + item_length
            if item_end > end:
                raise malformed(f"an item says {item_length} bytes, but {end - position} are left, it begins", at)
            self._count(at)
            inner = scope._replace(
                encoding=_item_encoding(self._view, position, item_end, scope.encoding),
                path=f"{scope.path}{key}/{len(items) + 1}/",
                depth=scope.depth + 1,
            )
            item, position = self.dataset(position, item_end, inner, open_ended=item_length == UNDEFINED)
            items.append(item)
        if length == UNDEFINED:
            raise malformed("a sequence of undefined length has no end, it begins", start)
        return items, end

    def _sequence_sent_as_unknown(self, start: int, length: int, key: str, scope: _Scope) -> Entry:
        """A public sequence in implicit VR under the VR UN (PS3.5 6.2.2), or, if it is none, its bytes."""
        texts, bulk = len(self._texts), len(self.reading.bulk)
        try:
            inner = scope._replace(encoding=Encoding.IMPLICIT_LITTLE)
            items, _ = self._items(start, length, start + length, key, inner)
        except Invalid:
            self._go_back(texts, bulk)
            return self._entry(0, UN, start, length, key, scope)
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}

    def _skip(self, tag: int, vr: VR, start: int, length: int, end: int, key: str, scope: _Scope) -> int:
        """Where an element ends that is no part of the JSON: group length, file meta, one that was there before."""
        if length != UNDEFINED:
            if start + length > end:
                raise _too_long(tag, start, length, end - start)
            return start + length
        texts, bulk = len(self._texts), len(self.reading.bulk)
        _, position = self._open_ended(tag, vr, start, end, key, scope._replace(depth=scope.depth + 1))
        self._go_back(texts, bulk)
        return position

    def _go_back(self, texts: int, bulk: int) -> None:
        del self._texts[texts:]
        while len(self.reading.bulk) > bulk:
            self.reading.bulk.popitem()

    def _count(self, position: int) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise Invalid(Fault.TOO_LARGE, f"the data set has more than {MAX_ELEMENTS} elements before byte {position}")

    def _check_delimiter(self, tag: int, position: int, scope: _Scope) -> None:
        if scope.depth == 0:
            self.reading.warn("a delimiter lies outside of all sequences")
        elif tag != ITEM_END:
            raise malformed(f"{name_of(tag)} lies where the elements of an item should be", position)

    def _is_trailing(self, position: int, end: int, last: int, scope: _Scope) -> bool:
        """Whether what follows the pixel data is no element: padding (PS3.10 7.2) or leftovers of a faulty writer."""
        if scope.depth:
            return False
        try:
            tag, vr, start, length = scope.encoding.header(self._view, position, end)
        except Invalid:
            tag, vr, start, length = 0, None, position, 0
        fits = length == UNDEFINED or start + length <= end
        known = vr is not None or tag & _PRIVATE or vr_of(tag, {}, signed=False) != UN.name
        if tag == _TRAILING_PADDING:
            return True
        if tag >= _DELIMITERS or (tag > _FIRST_TAG and known and (fits or tag > last)):
            return False
        self.reading.warn("bytes after the end of the data set are ignored")
        return True

    def _is_padding(self, position: int, end: int, scope: _Scope) -> bool:
        """Whether the rest of the bytes are zeros that some writer added."""
        if scope.depth:
            return False
        for step in range(position, end, _STEP):
            if self._view[step : min(step + _STEP, end)].tobytes().strip(b"\0"):
                return False
        self.reading.warn("bytes after the end of the data set are ignored")
        return True

    def _text(self, tag: int, vr: VR, raw: bytes, scope: _Scope) -> Entry:
        entry: Entry = {"vr": vr.name}
        self._texts.append(_Text(entry, vr, raw, scope.declared, vr.name in _CHARSET_VRS and not tag & _PRIVATE))
        return entry

    def decode_texts(self) -> None:
        """Give the waiting texts their values, in the character set that their bytes are really in."""
        of_declaration: dict[tuple[str, ...], list[_Text]] = {}
        for text in self._texts:
            of_declaration.setdefault(text.declared, []).append(text)
        for declared, texts in of_declaration.items():
            samples = [text.raw for text in texts if text.standard] or [text.raw for text in texts]
            charset, note = repaired(declared, samples[:_MAX_SAMPLES])
            self.reading.repair = self.reading.repair or note
            for warning in charset.warnings:
                self.reading.warn(warning)
            for entry, vr, raw, *_ in texts:
                assert vr.decoded is not None
                if values := vr.decoded(raw, charset):
                    entry["Value"] = values


def _ordered(dataset: JsonDataset, ascending: bool) -> JsonDataset:
    return dataset if ascending else dict(sorted(dataset.items()))


def _too_long(tag: int, position: int, length: int, left: int) -> Invalid:
    return malformed(f"{name_of(tag)} says {length} bytes, but {left} are left, it begins", position)


def _inheriting(scope: _Scope, tag: int, entry: Entry) -> _Scope:
    """The scope after an element on which the reading of later ones depends."""
    values = entry.get("Value", [])
    if tag == _PIXEL_REPRESENTATION:
        return scope._replace(signed=values == [1])
    declared = tuple(value if isinstance(value, str) else "" for value in values)
    return scope._replace(declared=declared, plain=Charset.of(declared).text(b"\\~") == "\\~")


def _item_encoding(view: memoryview, position: int, end: int, encoding: Encoding) -> Encoding:
    """Some writers switch to explicit VR within a sequence in implicit VR, or back."""
    if encoding.explicit or not looks_explicit(view, position, end):
        return encoding
    return Encoding.EXPLICIT_LITTLE
