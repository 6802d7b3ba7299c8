"""Value fields in little endian from the values of the DICOM JSON Model (PS3.18 F.2.3), texts in UTF-8.

The other direction is `values`. A message never repeats a value.
"""

import re
import struct
from collections.abc import Callable
from math import isfinite
from typing import Any

_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_TEXT_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")  # all but TAB, LF, FF, CR
_MAX_DECIMAL_STRING = 16
_PADDING = " \0"


class Refused(ValueError):
    """Values that the VR cannot have; says why, without the values."""


def value_field(vr: str, values: list[Any]) -> bytes:
    """The bytes of an element of this VR with these values, not padded. Raises Refused."""
    try:
        encode = _ENCODERS[vr]
    except KeyError:
        raise Refused(f"VR {vr} has no values of its own: InlineBinary or BulkDataURI is needed") from None
    return b"" if values in ([], [None]) else encode(values)


def _strings(text_of: Callable[[Any], str], *, ascii_only: bool) -> Callable[[list[Any]], bytes]:
    r"""Values between backslashes; a null is an empty one (F.2.5)."""

    def encode(values: list[Any]) -> bytes:
        texts = ["" if value is None else text_of(value).strip(_PADDING) for value in values]
        if any("\\" in text for text in texts):
            raise Refused("a backslash would make two values of one")
        return _encoded("\\".join(texts), _CONTROLS, ascii_only=ascii_only)

    return encode


def _single(*, ascii_only: bool) -> Callable[[list[Any]], bytes]:
    """The one value of a text in which a backslash is a character, and leading spaces count (PS3.5 6.2)."""

    def encode(values: list[Any]) -> bytes:
        if len(values) > 1:
            raise Refused(f"{len(values)} values where there can be one")
        return _encoded(_string(values[0]).rstrip(_PADDING), _TEXT_CONTROLS, ascii_only=ascii_only)

    return encode


def _encoded(text: str, forbidden: re.Pattern[str], *, ascii_only: bool) -> bytes:
    if forbidden.search(text):
        raise Refused("a control character that is not allowed")
    try:
        return text.encode("ascii" if ascii_only else "utf-8")
    except UnicodeEncodeError:
        raise Refused("a character that is not allowed") from None


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused("a value that is no string")
    return value


def _integer_string(value: Any) -> str:
    return value if isinstance(value, str) else str(_integer(value))


def _decimal_string(value: Any) -> str:
    """The shortest decimal that says the same; rounded where 16 characters have no room for it (PS3.5 6.2)."""
    if isinstance(value, str):
        return value
    text = repr(_number(value))
    digits = _MAX_DECIMAL_STRING
    while len(text) > _MAX_DECIMAL_STRING:
        digits -= 1
        text = f"{value:.{digits}g}"
    return text


def _person_name(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise Refused("a name that is no object")
    groups = [_string(value.get(group) or "").strip(_PADDING) for group in _GROUPS]
    if any("=" in group for group in groups):
        raise Refused("an equals sign within a component group")
    return "=".join(groups).rstrip("=")


def _number(value: Any) -> int | float:
    """A number, also one written as a string; not NaN or infinite, which JSON does not have."""
    if isinstance(value, str):
        try:
            value = float(value) if not value.strip().lstrip("+-").isdecimal() else int(value)
        except ValueError:
            raise Refused("a value that is no number") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise Refused("a value that is no number")
    return value


def _integer(value: Any) -> int:
    number = _number(value)
    if number != int(number):
        raise Refused("a value that is no integer")
    return int(number)


def _packed(code: str, number_of: Callable[[Any], int | float]) -> Callable[[list[Any]], bytes]:
    def encode(values: list[Any]) -> bytes:
        try:
            return struct.pack(f"<{len(values)}{code}", *map(number_of, values))
        except (struct.error, OverflowError):
            raise Refused("a number that is too large for its VR") from None

    return encode


def _tags(values: list[Any]) -> bytes:
    if not all(isinstance(value, str) and _TAG.fullmatch(value) for value in values):
        raise Refused("a tag that is not 8 hexadecimal digits")
    return b"".join(struct.pack("<HH", int(value[:4], 16), int(value[4:], 16)) for value in values)


_ENCODERS: dict[str, Callable[[list[Any]], bytes]] = {
    **dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "TM", "UI"), _strings(_string, ascii_only=True)),
    **dict.fromkeys(("LO", "SH", "UC"), _strings(_string, ascii_only=False)),
    "PN": _strings(_person_name, ascii_only=False),
    "IS": _strings(_integer_string, ascii_only=True),
    "DS": _strings(_decimal_string, ascii_only=True),
    **dict.fromkeys(("LT", "ST", "UT"), _single(ascii_only=False)),
    "UR": _single(ascii_only=True),
    **{vr: _packed(code, _integer) for vr, code in {"US": "H", "SS": "h", "UL": "I", "SL": "i"}.items()},
    **{vr: _packed(code, _integer) for vr, code in {"UV": "Q", "SV": "q"}.items()},
    **{vr: _packed(code, _number) for vr, code in {"FL": "f", "FD": "d"}.items()},
    "AT": _tags,
}
