"""ISO/IEC 2022 as DICOM uses it: code elements G0 and G1, escape sequences, resets at delimiters (PS3.5 6.1.2.5).

Lenient where the meaning is clear: escape sequences of undeclared sets are obeyed, unknown ones are dropped, and what
no table holds becomes U+FFFD. No escape sequence ever remains in the text.
"""

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

ESCAPE = 0x1B
# The general form of ISO/IEC 2022, then a lone ESC, which has no other meaning in a text (PS3.5 6.1.3).
_ESCAPE_SEQUENCE = re.compile(rb"\x1b(?:([\x20-\x2f]*[\x30-\x7e])|)")
_RUNS = re.compile(rb"[\x21-\x7e]+|[\x80-\xff]+|[\x00-\x20\x7f]+")
_LINE_RESETS = re.compile(rb"[\t\n\f\r]")
_TO_GR = bytes(b | 0x80 if 0x21 <= b <= 0x7E else b for b in range(256))

Decoder = Callable[[bytes, str], str]


@dataclass(frozen=True, slots=True)
class GraphicSet:
    """A set of characters that an escape sequence designates, or a whole encoding without code extensions.

    `decode(raw, errors)` reads bytes that may hold ASCII beside the set's own; with `pairs`, only bytes of G0, two for
    each character. `valid` is the same for those bytes alone that the standard gives the set.
    """

    term: str
    decode: Decoder
    valid: Decoder
    pairs: bool = False


class Delimiters(NamedTuple):
    """Where code extensions reset (PS3.5 6.1.2.5.3), and how JIS X 0201 romaji is read beside these delimiters."""

    resets: re.Pattern[bytes]
    romaji: dict[int, str]


TEXT = Delimiters(_LINE_RESETS, {0x5C: "\u00a5", 0x7E: "\u203e"})
VALUES = Delimiters(re.compile(rb"[\t\n\f\r\\]"), {0x7E: "\u203e"})
PERSON_NAMES = Delimiters(re.compile(rb"[\t\n\f\r\\^=]"), {0x7E: "\u203e"})


def codec(name: str) -> Decoder:
    """The decoder of a Python codec that reads ASCII as ASCII."""
    decode = codecs.lookup(name).decode
    return lambda raw, errors: decode(raw, errors)[0]


def _single_byte(name: str) -> Decoder:
    """The strict decoder of a single-byte set: the control characters 80 to 9F are not in it (PS3.5 6.1.3)."""
    table = codecs.decode(bytes(range(256)), name, "replace")
    strict = "".join(
        "\ufffe" if char == "\ufffd" or 0x80 <= number < 0xA0 else char for number, char in enumerate(table)
    )
    return lambda raw, errors: codecs.charmap_decode(raw, errors, strict)[0]


def _katakana(raw: bytes, errors: str) -> str:
    return codecs.charmap_decode(raw, errors, _KATAKANA)[0]


# JIS X 0201 katakana in G1; U+FFFE is the mark of an unassigned byte in a character map.
_KATAKANA = "".join(chr(b if b < 0x80 else b + 0xFEC0 if 0xA1 <= b <= 0xDF else 0xFFFE) for b in range(256))


def _kanji(raw: bytes, errors: str) -> str:
    """JIS X 0208 by pairs; beyond it the rows that Japanese systems add (such as the kanji of Takahashi)."""
    raw = raw.translate(_TO_GR)
    try:
        return raw.decode("euc_jp")
    except UnicodeDecodeError:
        return "".join(_kanji_pair(raw[i : i + 2], errors) for i in range(0, len(raw), 2))


def _kanji_pair(pair: bytes, errors: str) -> str:
    try:
        return pair.decode("euc_jp")
    except UnicodeDecodeError:
        return _shift_jis(pair).decode("cp932", errors)


def _shift_jis(pair: bytes) -> bytes:
    """A pair of G1 bytes in the arithmetic of Shift JIS, whose vendor tables have rows 13 and 89 to 92."""
    if len(pair) < 2:
        return b"\x81"  # half a character there, too
    row, cell = pair[0] - 0xA1, pair[1] - 0xA1
    lead = (row >> 1) + (0x81 if row < 62 else 0xC1)
    trail = cell + 0x9F if row & 1 else cell + (0x40 if cell < 63 else 0x41)
    return bytes((lead, trail))


def _strict_kanji(raw: bytes, errors: str) -> str:
    return raw.translate(_TO_GR).decode("euc_jp", errors)


def _supplementary_kanji(raw: bytes, errors: str) -> str:
    """JIS X 0212: in EUC each pair follows the byte 8F."""
    raw = raw.translate(_TO_GR)
    return b"".join(b"\x8f" + raw[i : i + 2] for i in range(0, len(raw), 2)).decode("euc_jp", errors)


def _in_g0(decode: Decoder) -> Decoder:
    return lambda raw, errors: decode(raw.translate(_TO_GR), errors)


def _graphic_set(term: str, name: str, strict: str | None = None) -> GraphicSet:
    return GraphicSet(term, codec(name), codec(strict or name))


ASCII = _graphic_set("ISO 2022 IR 6", "ascii")
ROMAJI = GraphicSet("ISO 2022 IR 13", ASCII.decode, ASCII.valid)
KATAKANA = GraphicSet("ISO 2022 IR 13", _katakana, _katakana)
KANJI = GraphicSet("ISO 2022 IR 87", _kanji, _strict_kanji, pairs=True)
SUPPLEMENTARY_KANJI = GraphicSet("ISO 2022 IR 159", _supplementary_kanji, _supplementary_kanji, pairs=True)
# The supersets read what senders write beyond the tables, and the middle dot of GB 2312 as GB 18030 does (U+00B7):
# the same name is then found whichever set it came in.
KOREAN = _graphic_set("ISO 2022 IR 149", "cp949", "euc_kr")
CHINESE = _graphic_set("ISO 2022 IR 58", "gb18030", "gb2312")
SINGLE_BYTE = {
    number: GraphicSet(f"ISO 2022 IR {number}", codec(name), _single_byte(name))
    for number, name in {
        "100": "iso8859_1",
        "101": "iso8859_2",
        "109": "iso8859_3",
        "110": "iso8859_4",
        "126": "iso8859_7",
        "127": "iso8859_6",
        "138": "iso8859_8",
        "144": "iso8859_5",
        "148": "iso8859_9",
        "166": "iso8859_11",
        "203": "iso8859_15",
    }.items()
}

# PS3.3 C.12.1.1.2, tables C.12-3 and C.12-4; then forms that DICOM does not use but other systems write.
_TO_G0 = {
    b"(B": ASCII,
    b"(J": ROMAJI,
    b"$B": KANJI,
    b"$(D": SUPPLEMENTARY_KANJI,
    b"$@": KANJI,
    b"$(B": KANJI,
    b"(I": GraphicSet("ISO 2022 IR 13", _in_g0(_katakana), _in_g0(_katakana), pairs=True),
    b"$A": GraphicSet("ISO 2022 IR 58", _in_g0(CHINESE.decode), _in_g0(CHINESE.valid), pairs=True),
    b"$(C": GraphicSet("ISO 2022 IR 149", _in_g0(KOREAN.decode), _in_g0(KOREAN.valid), pairs=True),
}
_TO_G1 = {
    b")I": KATAKANA,
    b"$)C": KOREAN,
    b"$)A": CHINESE,
    b"$)B": GraphicSet("ISO 2022 IR 87", codec("euc_jp"), codec("euc_jp")),
} | {
    b"-" + final: SINGLE_BYTE[number]
    for final, number in {
        b"A": "100",
        b"B": "101",
        b"C": "109",
        b"D": "110",
        b"F": "126",
        b"G": "127",
        b"H": "138",
        b"L": "144",
        b"M": "148",
        b"T": "166",
        b"b": "203",
    }.items()
}


@dataclass(frozen=True, slots=True)
class State:
    """The sets that are active in the two code elements."""

    g0: GraphicSet
    g1: GraphicSet

    def after(self, escape: bytes) -> "State":
        """The state after the escape sequence (without its ESC); unknown ones change nothing."""
        if escape in _TO_G0:
            return State(_TO_G0[escape], self.g1)
        if escape in _TO_G1:
            return State(self.g0, _TO_G1[escape])
        return self


def decode(raw: bytes, initial: State, delimiters: Delimiters) -> str:
    """The text of `raw`, which begins in the state `initial` and falls back to it at each of the delimiters."""
    if ESCAPE not in raw:
        return _text(raw, initial, delimiters)
    return "".join(_text(part, state, delimiters) for part, state in _parts(raw, initial, delimiters))


def escapes(raw: bytes) -> Iterator[str | None]:
    """The defined term that each escape sequence in `raw` designates; None for one that DICOM does not know."""
    for match in _ESCAPE_SEQUENCE.finditer(raw):
        graphic_set = _TO_G0.get(match[1]) or _TO_G1.get(match[1])
        yield graphic_set.term if graphic_set else None


def check(raw: bytes, initial: State, delimiters: Delimiters) -> None:
    """Raise UnicodeDecodeError when `raw` holds bytes that its graphic sets do not."""
    for part, state in _parts(raw, initial, delimiters):
        for run in _RUNS.findall(part) if state.g0.pairs else [part]:
            in_g0 = state.g0.pairs and 0x21 <= run[0] < 0x7F
            (state.g0 if in_g0 else state.g1).valid(run, "strict")


def _parts(raw: bytes, initial: State, delimiters: Delimiters) -> Iterator[tuple[bytes, State]]:
    """The bytes between escape sequences, cut at the first delimiter of each, where the initial state returns."""
    state, start = initial, 0
    for escape, end, after in _escape_positions(raw):
        part = raw[start:end]
        cut = _reset(part, state, delimiters) if state is not initial else 0
        if cut:
            yield part[:cut], state
        if cut < len(part):
            yield part[cut:], initial
            state = initial
        state, start = state.after(escape), after


def _escape_positions(raw: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each escape sequence without its ESC, where it begins and where it ends; last an empty one at the end."""
    for match in _ESCAPE_SEQUENCE.finditer(raw):
        yield match[1] or b"", match.start(), match.end()
    yield b"", len(raw), len(raw)


def _reset(part: bytes, state: State, delimiters: Delimiters) -> int:
    # In a set of pairs, the bytes of the delimiters are halves of characters: control characters alone end it.
    found = (_LINE_RESETS if state.g0.pairs else delimiters.resets).search(part)
    return found.start() if found else len(part)


def _text(part: bytes, state: State, delimiters: Delimiters) -> str:
    if state.g0.pairs:
        return "".join(
            (state.g0 if 0x21 <= run[0] < 0x7F else state.g1).decode(run, "replace") for run in _RUNS.findall(part)
        )
    text = state.g1.decode(part, "replace")
    return text.translate(delimiters.romaji) if state.g0 is ROMAJI else text
