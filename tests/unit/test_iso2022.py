"""Code extensions round trip: a plain encoder of the test's own, obeying PS3.5 6.1.2.5.3, and the decoder."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dicom import iso2022
from storage.dicom.charset import Charset

TO_GL = bytes(byte & 0x7F for byte in range(256))


class Extension(NamedTuple):
    number: str
    escape: bytes
    codec: str
    element: int  # the code element that the escape sequence designates


EXTENSIONS = [
    Extension("100", b"\x1b-A", "iso8859_1", 1),
    Extension("101", b"\x1b-B", "iso8859_2", 1),
    Extension("126", b"\x1b-F", "iso8859_7", 1),
    Extension("144", b"\x1b-L", "iso8859_5", 1),
    Extension("166", b"\x1b-T", "iso8859_11", 1),
    Extension("203", b"\x1b-b", "iso8859_15", 1),
    Extension("58", b"\x1b$)A", "gb2312", 1),
    Extension("149", b"\x1b$)C", "euc_kr", 1),
    Extension("13", b"\x1b)I", "shift_jis", 1),
    Extension("87", b"\x1b$B", "euc_jp", 0),
    Extension("159", b"\x1b$(D", "euc_jp", 0),
]
ASCII = b"\x1b(B"


def characters(extension: Extension) -> list[str]:
    """Every character of the set beyond ASCII, but those that GB 2312 and GB 18030 name differently."""
    highs = range(0xA1, 0xFF)
    if extension.number in ("58", "149", "87"):
        codes = [bytes((lead, trail)) for lead in highs for trail in highs]
    elif extension.number == "159":
        codes = [bytes((0x8F, lead, trail)) for lead in highs for trail in highs]
    else:
        codes = [bytes((byte,)) for byte in (range(0xA1, 0xE0) if extension.number == "13" else highs)]
    texts = (code.decode(extension.codec, "replace") for code in codes)
    return [text for text in texts if len(text) == 1 and text > "\x7f" and text not in "\u30fb\u2015\ufffd"]


CHARACTERS = {extension: characters(extension) for extension in EXTENSIONS}
PLAIN = st.sampled_from("ABCxyz019 -.,")
DELIMITERS = st.sampled_from("^=\\\r\n\t\f")
PIECES = st.lists(
    st.one_of(
        st.tuples(st.none(), PLAIN),
        st.tuples(st.none(), DELIMITERS),
        st.sampled_from(EXTENSIONS).flatmap(
            lambda extension: st.tuples(st.just(extension), st.sampled_from(CHARACTERS[extension]))
        ),
    ),
    max_size=30,
)
Piece = tuple[Extension | None, str]


def encoded(extension: Extension, character: str) -> bytes:
    raw = character.encode(extension.codec)
    return raw if extension.element else raw.removeprefix(b"\x8f").translate(TO_GL)


def encode(pieces: Sequence[Piece]) -> bytes:
    """What a careful sender writes when value 1 of Specific Character Set is empty."""
    active: list[Extension | None] = [None, None]
    out = b""
    for extension, character in pieces:
        if extension is not None:
            if active[extension.element] != extension:
                out += extension.escape
                active[extension.element] = extension
            out += encoded(extension, character)
            continue
        if active[0] is not None:
            out += ASCII
            active[0] = None
        if character in "^=\\\r\n\t\f":
            active[1] = None
        out += character.encode()
    return out + (ASCII if active[0] else b"")


DECLARED = ["", *(f"ISO 2022 IR {extension.number}" for extension in EXTENSIONS)]


@given(PIECES)
def test_round_trip_of_names(pieces: list[Piece]) -> None:
    charset, raw = Charset.of(DECLARED), encode(pieces)
    text = "".join(character for _, character in pieces)
    assert charset.person_name(raw) == text.split("\\")
    assert iso2022.ESCAPE not in text.encode()


@given(PIECES)
def test_round_trip_of_texts_and_their_values(pieces: list[Piece]) -> None:
    pieces = [piece for piece in pieces if piece[1] not in "^=\\"]
    charset, raw = Charset.of(DECLARED), encode(pieces)
    text = "".join(character for _, character in pieces)
    assert charset.text(raw) == text
    assert charset.split(raw + b"\\" + raw) == [text, text]
    assert charset.decodes(raw)


@pytest.mark.parametrize("extension", EXTENSIONS, ids=lambda extension: extension.number)
def test_every_character_of_every_set(extension: Extension) -> None:
    """All at once, then as a single name component of its own."""
    every = CHARACTERS[extension]
    raw = extension.escape + b"".join(encoded(extension, character) for character in every)
    raw += b"" if extension.element else ASCII
    charset = Charset.of(["", f"ISO 2022 IR {extension.number}"])
    assert charset.text(raw) == charset.split(raw)[0] == "".join(every)
    assert charset.decodes(raw)


def test_escapes_are_named_by_their_defined_terms() -> None:
    raw = b"\x1b$Bx\x1b(B\x1b)I\x1b(J\x1b$)A\x1b-b\x1b%G\x1b"
    named = [number and number.removeprefix("ISO 2022 IR ") for number in iso2022.escapes(raw)]
    assert named == ["87", "6", "13", "13", "58", "203", None, None]
