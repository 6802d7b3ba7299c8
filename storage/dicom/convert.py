"""The elements of a data set in any encoding, turned into Explicit VR Little Endian (PS3.5 7.1.2, 6.2.2, 7.5).

Values stay what they are, but for the order of their bytes and even lengths; texts are not decoded.
"""

from collections.abc import Container
from typing import NamedTuple

from storage.dicom.elements import (
    DELIMITERS,
    FIRST_TAG,
    HEADER_BYTES,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    Encoding,
    Header,
    first_non_zero,
    is_no_element,
    is_vr,
    malformed,
    name_of,
)
from storage.dicom.explicit import (
    CLOSE_ITEM,
    CLOSE_SEQUENCE,
    OPEN_ITEM,
    Elements,
    Streamed,
    element,
    item_header,
    long_header,
)
from storage.dicom.fragments import read_fragments
from storage.dicom.jsonmodel import MAX_DEPTH, MAX_ELEMENTS, MAX_FRAGMENTS, PIXEL_DATA, item_encoding
from storage.dicom.runs import FIRST_CREATOR, LAST_CREATOR, PIXEL_REPRESENTATION, RUNS, vr_in
from storage.dicom.values import PADDING, SQ, UN, VR, swapped
from storage.errors import Fault, Invalid

_FIRST_DELIMITER = DELIMITERS << 16
_LONG_HEADER = 12


class _Scope(NamedTuple):
    encoding: Encoding
    depth: int = 0
    stops: Container[int] = ()  # at the first of these that is not empty
    signed: bool = False  # what an item inherits


def read(data: bytes, encoding: Encoding, *, stops: Container[int] = ()) -> Elements:
    """The elements of `data`, up to the first of the tags `stops` that is not empty: `Elements.streamed`.

    Groups below 0008, group lengths and what lies behind the data set are left out. Raises Invalid (MALFORMED,
    TOO_LARGE).
    """
    found = Elements()
    _Reader(data).dataset(0, len(data), _Scope(encoding, stops=stops), found)
    return found


def read_on(rest: bytes, encoding: Encoding, found: Elements) -> None:
    """Add the elements behind the one that is streamed: `rest` begins where its value, or its last fragment, ends.

    Raises Invalid (MALFORMED, TOO_LARGE).
    """
    assert found.streamed is not None
    reader, position = _Reader(rest), 0
    if found.streamed.encapsulated:
        _, position = read_fragments(memoryview(rest), 0, len(rest), encoding, MAX_FRAGMENTS, _keep)
    after = Elements(creators=found.creators, signed=found.signed)
    reader.last = found.streamed.tag
    reader.dataset(position, len(rest), _Scope(encoding), after)
    found.tags += after.tags
    found.pieces += after.pieces


class _Reader:
    """The pass over the bytes: runs of common elements quickly, all others one by one."""

    def __init__(self, data: bytes) -> None:
        self.last = 0  # the largest tag that was read in the data set itself
        self._data = data
        self._view = memoryview(data)
        self._budget = iter(range(MAX_ELEMENTS))
        self._fragmented = 0  # values in fragments, at any level
        self._non_zero = 0  # a position before which some byte is known not to be zero

    def dataset(self, position: int, end: int, scope: _Scope, found: Elements, *, open_ended: bool = False) -> int:
        """Read from `position` into `found`; where it ends: at `end` or, `open_ended`, after the delimiter."""
        run = RUNS[scope.encoding]
        for _ in self._budget:
            before = len(found.tags)
            position = run(self._data, position, end, found)
            if not scope.depth:
                self.last = max(self.last, *found.tags[before:], 0)
            if self._is_over(position, end, scope):
                break
            if self._is_cut(position, end, scope):
                found.streamed = self._streamed(position, end, scope, found)
                return end
            tag, vr, start, length = header = scope.encoding.header(self._view, position, end)
            if tag >= _FIRST_DELIMITER:
                if scope.depth and tag != ITEM_END:
                    raise malformed(f"{name_of(tag)} lies where the elements of an item should be", position)
                position = start
                if open_ended:
                    return position
                continue
            if not scope.depth:
                self.last = max(self.last, tag)
            if length and tag in scope.stops:
                known = vr_in(tag, found) if vr is None or vr is UN else vr
                found.streamed = Streamed(tag, known.name, length == UNDEFINED, start)
                return start
            code = self._data[position + 4 : position + 6] if vr is UN and start - position == _LONG_HEADER else b""
            fragmented = self._fragmented
            piece, position = self._element(header, code, end, scope, found)
            if tag >= FIRST_TAG and tag & 0xFFFF:
                found.add(tag, piece)
                if self._fragmented > fragmented:
                    found.fragmented.add(tag)
        else:
            raise Invalid(Fault.TOO_LARGE, f"the data set has more than {MAX_ELEMENTS} elements")
        if open_ended:
            raise malformed("an item of undefined length has no end, the bytes stop", position)
        return end

    def _is_cut(self, position: int, end: int, scope: _Scope) -> bool:
        """Whether only the header is left of a native value that is streamed: what follows cannot tell its form."""
        left = end - position
        return left in (HEADER_BYTES, _LONG_HEADER) and _tag_at(self._view, position, scope) in scope.stops

    def _streamed(self, position: int, end: int, scope: _Scope, found: Elements) -> Streamed:
        tag = _tag_at(self._view, position, scope)
        vr = scope.encoding.vrs.get(self._data[position + 4 : position + 6])
        return Streamed(tag, (vr_in(tag, found) if vr is None or vr is UN else vr).name, False, end)

    def _is_over(self, position: int, end: int, scope: _Scope) -> bool:
        """Whether no element follows: the bytes end, or only zeros and what lies behind pixel data is left."""
        if position >= end:
            return True
        if scope.depth:
            return False
        last = self.last
        if last >= PIXEL_DATA and is_no_element(self._view, position, end, last, scope.encoding):
            return True
        if position >= self._non_zero and not any(self._data[position : position + HEADER_BYTES]):
            self._non_zero = first_non_zero(self._view, position, end)
            return self._non_zero == end
        return False

    def _element(self, header: Header, code: bytes, end: int, scope: _Scope, found: Elements) -> tuple[bytes, int]:
        """One element written out, and where it ends; `code` is its VR, when that may be one of a later edition."""
        tag, vr, start, length = header
        if vr is None:
            vr = vr_in(tag, found)
        if length == UNDEFINED:
            return self._open_ended(tag, vr, start, end, scope._replace(signed=found.signed))
        after = start + length
        if after > end:
            raise malformed(f"{name_of(tag)} says {length} bytes, but {end - start} are left, its value begins", start)
        if vr is SQ:
            body, _ = self._items(start, length, after, scope._replace(signed=found.signed))
            return long_header(tag, "SQ", len(body)) + body, after
        value = self._data[start:after]
        if scope.encoding.big:
            value = swapped(value, vr.unit)
        self._note(tag, value, found)
        return element(tag, code.decode("ascii") if is_vr(code) else vr.name, value), after

    def _note(self, tag: int, value: bytes, found: Elements) -> None:
        """Remember what the VR of later elements depends on."""
        if tag == PIXEL_REPRESENTATION:
            found.signed = value == b"\1\0"
        elif tag >> 16 & 1 and FIRST_CREATOR <= tag & 0xFFFF <= LAST_CREATOR:
            block = tag >> 16 << 8 | tag & 0xFF
            found.creators.setdefault(block, value.decode("ascii", "replace").strip(PADDING))

    def _open_ended(self, tag: int, vr: VR, start: int, end: int, scope: _Scope) -> tuple[bytes, int]:
        """A sequence, or a value in fragments. In explicit VR an UN is kept, its items in implicit VR as they are."""
        header = long_header(tag, vr.name, UNDEFINED)
        if vr is UN and scope.encoding.explicit:
            _, position = self._items(start, UNDEFINED, end, scope._replace(encoding=Encoding.IMPLICIT_LITTLE))
            return header + self._data[start:position], position
        if vr is SQ or vr is UN:
            body, position = self._items(start, UNDEFINED, end, scope)
            return long_header(tag, "SQ", UNDEFINED) + body + CLOSE_SEQUENCE, position
        if not vr.fragments:
            raise malformed(f"{name_of(tag)} with VR {vr.name} must not have undefined length, its value begins", start)
        return self._fragments(tag, start, end, scope)

    def _fragments(self, tag: int, start: int, end: int, scope: _Scope) -> tuple[bytes, int]:
        """Encapsulated pixel data of an icon; its offset table is left empty, which is always right."""
        fragments, position = read_fragments(self._view, start, end, scope.encoding, MAX_FRAGMENTS, _keep)
        self._fragmented += 1
        pieces = [long_header(tag, "OB", UNDEFINED), item_header(0)]
        for offset, length in fragments.items:
            pieces.append(item_header(length + length % 2))
            pieces.append(self._data[offset : offset + length] + b"\0" * (length % 2))
        return b"".join((*pieces, CLOSE_SEQUENCE)), position

    def _items(self, start: int, length: int, end: int, scope: _Scope) -> tuple[bytes, int]:
        """The items of a sequence, each of defined length or not as it was, and where the sequence ends."""
        if scope.depth >= MAX_DEPTH:
            raise malformed(f"sequences are nested deeper than {MAX_DEPTH} levels", start)
        pieces: list[bytes] = []
        position = start
        for _ in self._budget:
            if position >= end:
                break
            tag, item_length = scope.encoding.item(self._view, position, end)
            position += HEADER_BYTES
            if tag == SEQUENCE_END:
                return b"".join(pieces), position if length == UNDEFINED else end
            if tag != ITEM:
                raise malformed(f"{name_of(tag)} lies where an item should be", position - HEADER_BYTES)
            item, position = self._one_item(position, item_length, end, scope)
            pieces += item
        else:
            raise Invalid(Fault.TOO_LARGE, f"the data set has more than {MAX_ELEMENTS} elements")
        if length == UNDEFINED:
            raise malformed("a sequence of undefined length has no end, it begins", start)
        return b"".join(pieces), end

    def _one_item(self, position: int, length: int, end: int, scope: _Scope) -> tuple[tuple[bytes, ...], int]:
        open_ended = length == UNDEFINED
        item_end = end if open_ended else position + length
        if item_end > end:
            raise malformed(f"an item of {length} bytes is cut short after {end - position}, it begins", position)
        encoding = item_encoding(self._view, position, item_end, scope.encoding)
        found = Elements(signed=scope.signed)
        position = self.dataset(position, item_end, _Scope(encoding, scope.depth + 1), found, open_ended=open_ended)
        found.sort()
        body = b"".join(found.pieces)
        if open_ended:
            return (OPEN_ITEM, body, CLOSE_ITEM), position
        return (item_header(len(body)), body), position


def _tag_at(view: memoryview, position: int, scope: _Scope) -> int:
    return scope.encoding.item(view, position, len(view))[0]


def _keep(start: int, end: int) -> None:
    """Forget nothing: the bytes are in memory."""
