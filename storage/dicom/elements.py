"""The headers of data elements in the bytes of a data set, in any encoding (PS3.5 7.1, 7.5)."""

import struct
from collections.abc import Callable, Mapping
from enum import Enum

from storage.dicom.dictionary import vr_of
from storage.dicom.values import BY_CODE, UN, VR
from storage.errors import Fault, Invalid

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
DELIMITERS = 0xFFFE  # the group of the three above, which have no VR
HEADER_BYTES = 8
FIRST_TAG = 0x00080000  # before it: command set and file meta, which are no part of a data set
_FIRST_OF_OPEN = frozenset({ITEM, SEQUENCE_END})  # what a value of undefined length begins with
TRAILING_PADDING = 0xFFFCFFFC
_ZEROS = 64 << 10  # bytes looked at in one step

# tag, VR (None: the dictionary knows), first byte of the value, its length
Header = tuple[int, VR | None, int, int]
ReadShort = Callable[[memoryview, int], tuple[int, int, bytes, int]]  # group, element, VR, length
ReadHeader = Callable[[memoryview, int, int], Header]


def malformed(message: str, position: int) -> Invalid:
    """The error for bytes that contradict themselves; `position` counts from the first byte received."""
    return Invalid(Fault.MALFORMED, f"{message} at byte {position}")


def name_of(tag: int) -> str:
    """(0010,0010), as the standard writes tags."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _explicit(order: str) -> ReadHeader:
    short = struct.Struct(order + "HH2sH").unpack_from
    length32 = struct.Struct(order + "I").unpack_from

    def read(view: memoryview, position: int, end: int) -> Header:
        if end - position < HEADER_BYTES:
            raise malformed("the data set ends within the header of an element", position)
        group, element, code, length = short(view, position)
        vr = BY_CODE.get(code)
        if vr is None:
            return _odd(view, position, end, order)
        if not vr.long:
            return group << 16 | element, vr, position + 8, length
        if end - position < 12:
            raise malformed("the data set ends within the header of an element", position)
        return group << 16 | element, vr, position + 12, length32(view, position + 8)[0]

    return read


def _implicit(order: str) -> ReadHeader:
    unpack = struct.Struct(order + "HHI").unpack_from

    def read(view: memoryview, position: int, end: int) -> Header:
        if end - position < HEADER_BYTES:
            raise malformed("the data set ends within the header of an element", position)
        group, element, length = unpack(view, position)
        return group << 16 | element, None, position + 8, length

    return read


def _odd(view: memoryview, position: int, end: int, order: str) -> Header:
    """The header of an element in explicit VR whose VR is none of ours.

    A delimiter has none. Two capital letters are a VR of a later edition, with the long form (PS3.5 6.2). Anything
    else was written by a faulty program: of the three forms it may have, the first one that leads to the end or to
    the header of a larger tag is taken.
    """
    group, element, code, length16 = struct.unpack_from(order + "HH2sH", view, position)
    (length32,) = struct.unpack_from(order + "I", view, position + 4)
    tag = group << 16 | element
    if group == DELIMITERS:
        return tag, None, position + 8, length32
    forms: list[Header] = [(tag, None, position + 8, length32), (tag, UN, position + 8, length16)]
    if end - position >= 12:
        long_form: Header = (tag, UN, position + 12, struct.unpack_from(order + "I", view, position + 8)[0])
        if is_vr(code):
            forms = [long_form, (tag, UN, position + 8, length16)]
        else:
            forms.append(long_form)
    for form in forms:
        if leads_on(view, form, end, order):
            return form
    raise malformed(f"{name_of(tag)} has no valid VR", position)


def is_vr(code: bytes) -> bool:
    """Whether this may be a VR, perhaps of a later edition: two capital letters."""
    return code.isalpha() and code.isupper()


def leads_on(view: memoryview, header: Header, end: int, order: str) -> bool:
    """Whether a value as long as `header` says ends where the data set does, or before the header of a larger tag."""
    tag, _, start, length = header
    if length == UNDEFINED:
        return end - start >= HEADER_BYTES
    after = start + length
    if after > end or 0 < end - after < HEADER_BYTES:
        return False
    if after == end:
        return True
    group, element = struct.unpack_from(order + "HH", view, after)
    return bool(group << 16 | element > tag)


class Encoding(Enum):
    """How the elements of a data set are written (PS3.5 A.1, A.2, A.3)."""

    IMPLICIT_LITTLE = (False, "<")
    EXPLICIT_LITTLE = (True, "<")
    EXPLICIT_BIG = (True, ">")

    explicit: bool
    big: bool
    header: ReadHeader
    short: ReadShort
    vrs: Mapping[bytes, VR]

    def __init__(self, explicit: bool, order: str) -> None:
        self.explicit = explicit
        self.big = order == ">"
        self.header = _explicit(order) if explicit else _implicit(order)
        # Tag, VR and 16-bit length of the short form, and the VRs that may be so written; none in implicit VR.
        self.short = struct.Struct(order + "HH2sH").unpack_from
        self.vrs = BY_CODE if explicit else {}
        self._item = struct.Struct(order + "HHI").unpack_from

    def item(self, view: memoryview, position: int, end: int) -> tuple[int, int]:
        """Tag and length of an item or delimiter; raises Invalid (MALFORMED) when the bytes end before."""
        if end - position < HEADER_BYTES:
            raise malformed("the data set ends within a sequence or among fragments", position)
        group, element, length = self._item(view, position)
        return group << 16 | element, length


def looks_explicit(view: memoryview, position: int, end: int) -> bool:
    """Whether the little endian element at `position` has the VR that the dictionary gives its tag, written out."""
    if end - position < HEADER_BYTES:
        return False
    group, element, code, _ = struct.unpack_from("<HH2sH", view, position)
    vr = BY_CODE.get(code)
    if vr is None or vr.name != vr_of(group << 16 | element, {}, signed=False):
        return False
    return not spells_length(view, position, end)


def spells_length(view: memoryview, position: int, end: int) -> bool:
    """Whether what looks like the VR of a little endian element is part of its length, in implicit VR.

    A length of 21,316 is written as "DS" is. It is a length when it leads on, and the element in explicit VR is not
    followed by another one in explicit VR.
    """
    implicit = Encoding.IMPLICIT_LITTLE.header(view, position, end)
    return leads_on(view, implicit, end, "<") and not _is_followed_in_explicit(view, position, end)


def _is_followed_in_explicit(view: memoryview, position: int, end: int) -> bool:
    """Whether the element in explicit VR is the last, or another follows that has a known tag, a larger one, and VR."""
    try:
        _, _, start, length = header = Encoding.EXPLICIT_LITTLE.header(view, position, end)
    except Invalid:
        return False
    if length == UNDEFINED:
        return end - start >= HEADER_BYTES and Encoding.EXPLICIT_LITTLE.item(view, start, end)[0] in _FIRST_OF_OPEN
    after = start + length
    if after == end or not leads_on(view, header, end, "<"):
        return after == end
    group, element, code, _ = struct.unpack_from("<HH2sH", view, after)
    if group == DELIMITERS:
        return True
    return code in BY_CODE and bool(group & 1 or vr_of(group << 16 | element, {}, signed=False) != UN.name)


def is_no_element(view: memoryview, position: int, end: int, last: int, encoding: Encoding) -> bool:
    """Whether what follows the tag `last` cannot be meant as an element of the data set."""
    try:
        tag, vr, start, length = encoding.header(view, position, end)
    except Invalid:
        return True
    if tag == TRAILING_PADDING:
        return True
    known = vr is not None or tag >> 16 & 1 or vr_of(tag, {}, signed=False) != UN.name
    fits = length == UNDEFINED or start + length <= end
    return tag >> 16 != DELIMITERS and not (known and (fits or tag > last))


def is_trailing_padding(view: memoryview, position: int, encoding: Encoding) -> bool:
    """Whether Data Set Trailing Padding (FFFC,FFFC) begins at `position` (PS3.10 7.2)."""
    return len(view) - position >= HEADER_BYTES and encoding.item(view, position, len(view))[0] == TRAILING_PADDING


def first_non_zero(view: memoryview, position: int, end: int) -> int:
    """Where the zeros that begin at `position` end; `end` when only zeros follow."""
    for step in range(position, end, _ZEROS):
        after = min(step + _ZEROS, end)
        rest = len(view[step:after].tobytes().lstrip(b"\0"))
        if rest:
            return after - rest
    return end
