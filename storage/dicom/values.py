"""The values of one element as the DICOM JSON Model has them (PS3.18 F.2), from bytes in little endian."""

import re
import struct
from array import array
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from math import isfinite
from typing import Any

from storage.dicom.charset import Charset
from storage.dicom.names import json_person_name

Values = list[Any]
PADDING = " \0"
MAX_INLINE_BINARY_BYTES = 1024
MAX_INLINE_BYTES = 256 << 10
_MAX_EXACT_INTEGER = 2**53  # beyond it JavaScript rounds
_MAX_EXACT_DIGITS = 15  # so many decimal digits always survive the way through a binary double
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}", re.ASCII)
_PLAIN_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class VR:
    """How the values of one value representation are written and read (PS3.5 6.2, 7.1.2)."""

    name: str
    long: bool  # explicit VR: two reserved bytes and a length of 32 bits
    unit: int  # so many bytes change places between little and big endian
    max_inline: int  # a longer value is given by BulkDataURI
    bulk: bool  # may be given as InlineBinary or BulkDataURI under its own name (PS3.18 F.2.2)
    fragments: bool  # may be encapsulated, with undefined length
    values: Callable[[bytes], Values | None]  # None: only as InlineBinary. UnicodeDecodeError: only by `decoded`
    decoded: Callable[[bytes, Charset], Values] | None  # text that is not ASCII
    max_short: int = 256  # a longer value, though it may be inline, is rare enough to be looked at closely
    weight: int = 56  # bytes of memory that one value takes beside its own bytes, at most


def inline(raw: bytes) -> str:
    """The value of an InlineBinary (F.2.7)."""
    return b64encode(raw).decode("ascii")


def swapped(raw: bytes, unit: int) -> bytes:
    """`raw` with the bytes of each whole unit reversed; what is left over at the end stays."""
    if unit == 1:
        return raw
    whole = len(raw) - len(raw) % unit
    words = array({2: "H", 4: "I", 8: "Q"}[unit], raw[:whole])
    words.byteswap()
    return words.tobytes() + raw[whole:]


def _stripped(parts: list[str]) -> Values:
    values = [part.strip(PADDING) or None for part in parts]
    return [] if values == [None] else values


def _strings(raw: bytes) -> Values:
    text = raw.decode("ascii").strip(PADDING)
    if "\\" in text:
        return _stripped(text.split("\\"))
    return [text] if text else []


def _decoded_strings(raw: bytes, charset: Charset) -> Values:
    return _stripped(charset.split(raw))


def _text(raw: bytes) -> Values:
    text = raw.decode("ascii").rstrip(PADDING)
    return [text] if text else []


def _decoded_text(raw: bytes, charset: Charset) -> Values:
    text = charset.text(raw).rstrip(PADDING)
    return [text] if text else []


def _person_names(names: list[str]) -> Values:
    values = [json_person_name(name.strip(PADDING)) for name in names]
    return [] if values == [None] else values


def _names(raw: bytes) -> Values:
    return _person_names(raw.decode("ascii").split("\\"))


def _decoded_names(raw: bytes, charset: Charset) -> Values:
    return _person_names(charset.person_name(raw))


def _integer_strings(raw: bytes) -> Values:
    return [integer(text) if text else None for text in _strings(raw)]


def _decimal_strings(raw: bytes) -> Values:
    return [decimal(text) if text else None for text in _strings(raw)]


def integer(text: str) -> int | str:
    """An IS: a number when it is one, otherwise the string."""
    return int(text) if _INTEGER.fullmatch(text) else text


def decimal(text: str) -> float | str:
    """A DS: a number when a double says exactly the same, otherwise the string."""
    if len(text) <= _MAX_EXACT_DIGITS and _PLAIN_DECIMAL.fullmatch(text):
        return float(text)
    if _DECIMAL.fullmatch(text):
        number = float(text)
        if isfinite(number) and Decimal(repr(number)) == Decimal(text):
            return number
    return text


def _numbers(code: str) -> Callable[[bytes], Values | None]:
    size = struct.calcsize("<" + code)
    single = struct.Struct("<" + code).unpack

    def values(raw: bytes) -> Values | None:
        if len(raw) == size:
            return list(single(raw))
        if len(raw) % size:
            return None
        return list(struct.unpack(f"<{len(raw) // size}{code}", raw))

    return values


def _floats(code: str) -> Callable[[bytes], Values | None]:
    numbers = _numbers(code)

    def values(raw: bytes) -> Values | None:
        found = numbers(raw)
        return found if found is not None and all(map(isfinite, found)) else None

    return values


def _long_integers(code: str) -> Callable[[bytes], Values | None]:
    numbers = _numbers(code)

    def values(raw: bytes) -> Values | None:
        found = numbers(raw)
        if found is None:
            return None
        return [long_integer(number) for number in found]

    return values


def long_integer(number: int) -> int | str:
    """An SV or UV: a string when JavaScript would round it."""
    return number if abs(number) <= _MAX_EXACT_INTEGER else str(number)


def _tags(raw: bytes) -> Values | None:
    if len(raw) % 4:
        return None
    words = struct.unpack(f"<{len(raw) // 2}H", raw)
    return [f"{group:04X}{element:04X}" for group, element in zip(words[::2], words[1::2], strict=True)]


def _binary(raw: bytes) -> None:
    return None


def _no_values(raw: bytes) -> Values:
    return []


def _short_text(name: str) -> VR:
    return VR(name, False, 1, MAX_INLINE_BYTES, False, False, _strings, _decoded_strings)


def _binary_vr(name: str, unit: int) -> VR:
    return VR(name, True, unit, MAX_INLINE_BINARY_BYTES, True, True, _binary, None)


def _number_vr(name: str, unit: int, values: Callable[[bytes], Values | None], *, long: bool = False) -> VR:
    return VR(name, long, unit, MAX_INLINE_BYTES, True, False, values, None)


_ALL = [
    *(_short_text(name) for name in ("AE", "AS", "CS", "DA", "DT", "LO", "SH", "TM", "UI")),
    VR("DS", False, 1, MAX_INLINE_BYTES, True, False, _decimal_strings, _decoded_strings),
    VR("IS", False, 1, MAX_INLINE_BYTES, True, False, _integer_strings, _decoded_strings),
    VR("LT", False, 1, MAX_INLINE_BYTES, True, False, _text, _decoded_text),
    VR("ST", False, 1, MAX_INLINE_BYTES, True, False, _text, _decoded_text),
    VR("UT", True, 1, MAX_INLINE_BYTES, True, False, _text, _decoded_text),
    VR("UR", True, 1, MAX_INLINE_BYTES, False, False, _text, _decoded_text),
    VR("UC", True, 1, MAX_INLINE_BYTES, True, False, _strings, _decoded_strings),
    VR("PN", False, 1, MAX_INLINE_BYTES, False, False, _names, _decoded_names, weight=256),
    VR("AT", False, 2, MAX_INLINE_BYTES, False, False, _tags, None),
    _number_vr("US", 2, _numbers("H")),
    _number_vr("SS", 2, _numbers("h")),
    _number_vr("UL", 4, _numbers("I")),
    _number_vr("SL", 4, _numbers("i")),
    _number_vr("FL", 4, _floats("f")),
    _number_vr("FD", 8, _floats("d")),
    _number_vr("UV", 8, _long_integers("Q"), long=True),
    _number_vr("SV", 8, _long_integers("q"), long=True),
    *(_binary_vr(name, unit) for name, unit in (("OB", 1), ("OW", 2), ("OL", 4), ("OF", 4), ("OD", 8), ("OV", 8))),
    _binary_vr("UN", 1),
    VR("SQ", True, 1, 0, False, False, _no_values, None, max_short=0),
]
BY_NAME = {vr.name: vr for vr in _ALL}
BY_CODE = {vr.name.encode("ascii"): vr for vr in _ALL}
UN = BY_NAME["UN"]
SQ = BY_NAME["SQ"]
# A value that was sent as UN is little endian, whatever the data set around it is (PS3.5 6.2.2).
SENT_AS_UNKNOWN = {vr.name: replace(vr, unit=1) for vr in _ALL if vr.unit > 1}
UN_SQ = replace(SQ, values=_binary, bulk=True)  # a sequence that was sent as UN (PS3.5 6.2.2)
