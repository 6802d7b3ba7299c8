"""Character sets against the examples of PS3.5 annexes H to K, pydicom's files and Python's codecs."""

import itertools
from collections.abc import Iterator

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dicom.charset import Charset
from tests.samples import corpus

ESC = b"\x1b"

# The names that PS3.5 annexes H to K spell in bytes, and names of the single-byte sets.
ANNEXES = {
    "H.3.1": (
        ["", "ISO 2022 IR 87"],
        "59 61 6d 61 64 61 5e 54 61 72 6f 75 3d 1b 24 42 3b 33 45 44 1b 28 42 5e 1b 24 42 42 40 4f 3a 1b 28 42 3d"
        "1b 24 42 24 64 24 5e 24 40 1b 28 42 5e 1b 24 42 24 3f 24 6d 24 26 1b 28 42",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "H.3.2": (
        ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        "d4 cf c0 de 5e c0 db b3 3d 1b 24 42 3b 33 45 44 1b 28 4a 5e 1b 24 42 42 40 4f 3a 1b 28 4a 3d"
        "1b 24 42 24 64 24 5e 24 40 1b 28 4a 5e 1b 24 42 24 3f 24 6d 24 26 1b 28 4a",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "I.2": (
        ["", "ISO 2022 IR 149"],
        "48 6f 6e 67 5e 47 69 6c 64 6f 6e 67 3d 1b 24 29 43 fb f3 5e 1b 24 29 43 d1 ce d4 d7 3d"
        "1b 24 29 43 c8 ab 5e 1b 24 29 43 b1 e6 b5 bf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "J in UTF-8": (
        ["ISO_IR 192"],
        "57 61 6e 67 5e 58 69 61 6f 44 6f 6e 67 3d e7 8e 8b 5e e5 b0 8f e6 9d b1 3d",
        "Wang^XiaoDong=王^小東=",
    ),
    "J in GB 18030": (
        ["GB18030"],
        "57 61 6e 67 5e 58 69 61 6f 44 6f 6e 67 3d cd f5 5e d0 a1 b6 ab 3d",
        "Wang^XiaoDong=王^小东=",
    ),
    "J in GBK": (
        ["GBK"],
        "57 61 6e 67 5e 58 69 61 6f 44 6f 6e 67 3d cd f5 5e d0 a1 b6 ab 3d",
        "Wang^XiaoDong=王^小东=",
    ),
    "K": (
        ["", "ISO 2022 IR 58"],
        "5a 68 61 6e 67 5e 58 69 61 6f 44 6f 6e 67 3d 1b 24 29 41 d5 c5 5e 1b 24 29 41 d0 a1 b6 ab 3d",
        "Zhang^XiaoDong=张^小东=",
    ),
    "German": (["ISO_IR 100"], "c4 6e 65 61 73 5e 52 fc 64 69 67 65 72", "Äneas^Rüdiger"),
    "French": (["ISO_IR 100"], "42 75 63 5e 4a e9 72 f4 6d 65", "Buc^Jérôme"),
    "Russian": (["ISO_IR 144"], "bb ee da 63 65 dc d1 79 70 d3", "Люкceмбypг"),
    "Arabic": (["ISO_IR 127"], "e2 c8 c7 e6 ea 5e e4 e6 d2 c7 d1", "قباني^لنزار"),
    "Greek": (["ISO_IR 126"], "c4 e9 ef ed f5 f3 e9 ef f2", "Διονυσιος"),
    "Hebrew": (["ISO_IR 138"], "f9 f8 e5 ef 5e e3 e1 e5 f8 e4", "שרון^דבורה"),
}


@pytest.mark.parametrize(("values", "octets", "name"), ANNEXES.values(), ids=ANNEXES)
def test_the_examples_of_the_standard(values: list[str], octets: str, name: str) -> None:
    charset, raw = Charset.of(values), bytes.fromhex(octets)
    assert charset.person_name(raw) == [name]
    assert charset.decodes(raw)


def test_chinese_lines_each_begin_with_their_escape_sequence() -> None:
    """PS3.5 annex K: lines of a text in ISO 2022 IR 58."""
    lines = ["The first line includes 中文.", "The second line includes 中文, too.", "The third line is plain."]
    raw = "\r\n".join(lines).encode("gb2312").replace(b"The", b"\x1b$)AThe", 2)
    assert Charset.of(["", "ISO 2022 IR 58"]).text(raw) == "\r\n".join(lines)


@pytest.mark.parametrize(
    ("file", "name"),
    {
        "chrArab.dcm": "قباني^لنزار",
        "chrFren.dcm": "Buc^Jérôme",
        "chrGerm.dcm": "Äneas^Rüdiger",
        "chrGreek.dcm": "Διονυσιος",
        "chrH31.dcm": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "chrH32.dcm": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        "chrHbrw.dcm": "שרון^דבורה",
        "chrI2.dcm": "Hong^Gildong=洪^吉洞=홍^길동",
        "chrJapMulti.dcm": "やまだ^たろう",
        "chrJapMultiExplicitIR6.dcm": "やまだ^たろう",
        "chrKoreanMulti.dcm": "김희중",
        "chrRuss.dcm": "Люкceмбypг",
        "chrX1.dcm": "Wang^XiaoDong=王^小東",
        "chrX2.dcm": "Wang^XiaoDong=王^小东",
    }.items(),
)
def test_the_files_of_pydicom(file: str, name: str) -> None:
    ds = pydicom.dcmread(next(path for path in corpus() if path.name == file))
    declared = ds.SpecificCharacterSet
    charset = Charset.of([declared] if isinstance(declared, str) else list(declared))
    raw = ds.PatientName.original_string
    assert charset.person_name(raw.rstrip(b" ")) == [name]
    assert charset.decodes(raw)


def test_several_names_in_one_value() -> None:
    ds = pydicom.dcmread(next(path for path in corpus() if path.name == "chrFrenMulti.dcm"))
    raw = b"\\".join(name.original_string for name in ds.OtherPatientNames)
    assert Charset.of(["ISO_IR 100"]).person_name(raw) == [str(name) for name in ds.OtherPatientNames]


SINGLE_BYTE_CODECS = {
    "100": "latin_1",
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
}
G1_FINALS = {
    "100": b"-A",
    "101": b"-B",
    "109": b"-C",
    "110": b"-D",
    "126": b"-F",
    "127": b"-G",
    "138": b"-H",
    "144": b"-L",
    "148": b"-M",
    "166": b"-T",
    "203": b"-b",
}


@pytest.mark.parametrize(("number", "codec"), SINGLE_BYTE_CODECS.items())
def test_every_byte_of_the_single_byte_sets(number: str, codec: str) -> None:
    raw = bytes(range(0xA0, 0x100))
    expected = raw.decode(codec, "replace")
    for term in (f"ISO_IR {number}", f"ISO 2022 IR {number}"):
        assert Charset.of([term]).text(b"a" + raw) == "a" + expected
    extended = Charset.of(["", f"ISO 2022 IR {number}"])
    assert extended.text(b"a" + ESC + G1_FINALS[number] + raw) == "a" + expected
    defined = raw.decode(codec, "ignore").encode(codec)
    assert Charset.of([f"ISO_IR {number}"]).decodes(defined)
    assert Charset.of([f"ISO_IR {number}"]).decodes(raw) == ("\ufffd" not in expected)
    assert not Charset.of([f"ISO_IR {number}"]).decodes(b"a\x85")


def test_roman_and_katakana_of_jis_x_0201() -> None:
    charset = Charset.of(["ISO_IR 13"])
    assert charset.text(b"5\\ ~\xa1\xb1\xdf") == "5¥ ‾｡ｱﾟ"
    assert charset.text(b"\xe0") == "\ufffd"
    assert charset.text(bytes(range(0xA1, 0xE0))) == bytes(range(0xA1, 0xE0)).decode("shift_jis")
    assert charset.split(b"\xb1\\~") == ["ｱ", "‾"]
    assert charset.person_name(b"\xb1^\xb2\\\xb3") == ["ｱ^ｲ", "ｳ"]
    assert Charset.of(["ISO 2022 IR 13", "ISO 2022 IR 87"]).text(b"\x1b$B;3\x1b(J\\") == "山¥"
    assert Charset.of(["ISO 2022 IR 13", "ISO 2022 IR 87"]).text(b"\x1b$B;3\x1b(B\\") == "山\\"


def trailing(trail: int) -> Iterator[bytes]:
    for lead in range(0x81, 0xFF):
        pair = bytes((lead, trail))
        if len(pair.decode("gbk", "replace")) == 1 and "\ufffd" not in pair.decode("gbk", "replace"):
            yield pair


@pytest.mark.parametrize("term", ["GBK", "GB18030"])
@pytest.mark.parametrize("trail", b"\\^|", ids=chr)
def test_the_second_byte_of_a_character_is_no_delimiter(term: str, trail: int) -> None:
    pairs = list(trailing(trail))
    assert len(pairs) > 100
    charset = Charset.of([term])
    for pair in pairs:
        character = pair.decode("gb18030")
        assert charset.split(b"A" + pair + b"\\" + pair + pair) == ["A" + character, character * 2]
        assert charset.person_name(b"L^" + pair + b"=" + pair + b"^" + pair) == [
            f"L^{character}={character}^{character}"
        ]
        assert charset.text(pair + b"\\n") == character + "\\n"


def test_no_gbk_character_ends_in_an_equals_sign() -> None:
    assert list(trailing(ord("="))) == []


@pytest.mark.parametrize("delimiter", b"\\^=", ids=chr)
def test_halves_of_kanji_are_no_delimiters(delimiter: int) -> None:
    charset, checked = Charset.of(["", "ISO 2022 IR 87"]), 0
    for row in range(0x21, 0x75):
        for pair in (bytes((row, delimiter)), bytes((delimiter, row))):
            try:
                kanji = bytes(byte | 0x80 for byte in pair).decode("euc_jp")
            except UnicodeDecodeError:
                continue
            raw = b"\x1b$B" + pair + b"\x1b(B"
            assert charset.split(raw + b"\\" + raw) == [kanji, kanji]
            assert charset.person_name(b"A^B=" + raw + b"^" + raw) == [f"A^B={kanji}^{kanji}"]
            checked += 1
    assert checked > 100


def test_kanji_of_the_supplementary_set_and_of_the_vendors() -> None:
    charset = Charset.of(["", "ISO 2022 IR 87", "ISO 2022 IR 159"])
    supplementary = "丂侲".encode("euc_jp").replace(b"\x8f", b"").translate(bytes(b & 0x7F for b in range(256)))
    raw = b"\x1b$B;3\x1b$(D" + supplementary + b"\x1b(B!"
    assert charset.text(raw) == "山丂侲!"
    assert charset.decodes(raw)
    takahashi = b"\x1b$B|b66\x1b(B"
    assert charset.text(takahashi) == "髙橋"
    assert not charset.decodes(takahashi)


@pytest.mark.parametrize("reset", [b"\t", b"\n", b"\f", b"\r\n"])
def test_code_extensions_end_with_the_line(reset: bytes) -> None:
    charset = Charset.of(["ISO 2022 IR 100", "ISO 2022 IR 149", "ISO 2022 IR 87"])
    assert charset.text(b"\x1b$)C\xb1\xe8" + reset + b"M\xfcller") == "김" + reset.decode() + "Müller"
    assert charset.text(b"\x1b$B;3" + reset + b"AB") == "山" + reset.decode() + "AB"


def test_delimiters_reset_only_where_they_delimit() -> None:
    charset = Charset.of(["ISO 2022 IR 100", "ISO 2022 IR 149"])
    korean = b"\x1b$)C\xb1\xe8"
    assert charset.person_name(korean + b"^\xfc=\xfc\\\xfc") == ["김^ü=ü", "ü"]
    assert charset.split(korean + b"^\xb1\xe8=\xb1\xe8\\\xfc") == ["김^김=김", "ü"]
    assert charset.text(korean + b"\\^=\xb1\xe8") == "김\\^=김"


def test_forgotten_escape_sequences_mean_the_declared_set() -> None:
    assert Charset.of(["", "ISO 2022 IR 58"]).person_name("王^小东".encode("gb2312")) == ["王^小东"]
    assert Charset.of(["ISO 2022 IR 6", "ISO 2022 IR 149"]).text("김희중".encode("euc_kr")) == "김희중"
    assert Charset.of(["ISO 2022 IR 149"]).text("김희중".encode("euc_kr")) == "김희중"
    assert Charset.of(["", "ISO 2022 IR 87", "ISO 2022 IR 144"]).text("Люк".encode("iso8859_5")) == "Люк"
    assert Charset.of(["ISO 2022 IR 87"]).text(b"Yamada \x1b$B;3ED\x1b(B.") == "Yamada 山田."


def test_the_same_name_is_the_same_text_in_every_chinese_set() -> None:
    name = "买买提·艾力—一"
    for values, codec in ((["ISO_IR 192"], "utf-8"), (["GB18030"], "gb18030"), (["GBK"], "gbk")):
        assert Charset.of(values).text(name.encode(codec)) == name
    assert Charset.of(["", "ISO 2022 IR 58"]).text(b"\x1b$)A" + name.encode("gbk")) == name


def test_characters_beyond_gb2312_in_its_set() -> None:
    assert Charset.of(["", "ISO 2022 IR 58"]).text(b"\x1b$)A" + "朱镕基".encode("gbk")) == "朱镕基"
    assert Charset.of(["GB18030"]).text("㐀𠀀".encode("gb18030")) == "㐀𠀀"


@pytest.mark.parametrize(
    "values",
    [[], ["ISO_IR 100"], ["ISO_IR 192"], ["GB18030"], ["ISO_IR 13"], ["", "ISO 2022 IR 58"], ["private"]],
    ids=str,
)
def test_undeclared_escape_sequences_are_obeyed_and_unknown_ones_dropped(values: list[str]) -> None:
    charset = Charset.of(values)
    assert charset.text(b"\x1b$)A\xcd\xf5") == "王"
    assert charset.text(b"a\x1b$B;3\x1b(Bb\x1b!!Zc\x1b") == "a山bc"
    assert charset.text(b"\x1b(I1\x1b(B \x1b$(C0!\x1b(B \x1b$A0!\x1b(B") == "ｱ 가 啊"
    assert charset.text(b"\x1b$)B\xbb\xb3") == "山"
    assert not charset.decodes(b"a\x1b!!Z")


def test_declared_escape_sequences_only_are_valid() -> None:
    assert not Charset.of(["", "ISO 2022 IR 87"]).decodes(b"\x1b$)A\xcd\xf5")
    assert Charset.of(["", "ISO 2022 IR 87", "ISO 2022 IR 58"]).decodes(b"\x1b$)A\xcd\xf5\x1b$B;3\x1b(B")
    assert not Charset.of(["", "ISO 2022 IR 58"]).decodes(b"\x1b$)A\xcd\x41")
    assert not Charset.of(["", "ISO 2022 IR 87"]).decodes(b"\x1b$B;\x1b(B")


def test_what_cannot_be_decoded_becomes_the_replacement_character() -> None:
    assert Charset.of([]).text(b"a\xff") == "a\ufffd"
    assert Charset.of(["ISO_IR 192"]).text(b"a\xffb") == "a\ufffdb"
    assert Charset.of(["GB18030"]).split(b"\xcd\xf5\xff\\b\xcd") == ["王\ufffd", "b\ufffd"]
    assert Charset.of(["", "ISO 2022 IR 87"]).text(b"\x1b$B;3;\x1b(B") == "山\ufffd"
    assert not Charset.of([]).decodes(b"a\xff")
    assert not Charset.of(["ISO_IR 192"]).decodes(b"a\xff")


@pytest.mark.parametrize(
    ("spelling", "term"),
    [
        ("ISO IR 192", "ISO_IR 192"),
        ("iso_ir 192", "ISO_IR 192"),
        ("UTF-8", "ISO_IR 192"),
        ("ISO 2022 IR 192", "ISO_IR 192"),
        ("ISO-IR 100", "ISO_IR 100"),
        ("ISO_IR_100", "ISO_IR 100"),
        ("ISO_IR 100 ", "ISO_IR 100"),
        ("ISO8859-1", "ISO_IR 100"),
        ("gb18030", "GB18030"),
        ("GB2312", "GBK"),
        ("iso 2022 ir 58", "ISO 2022 IR 58"),
        ("ISO 2022-58", "ISO 2022 IR 58"),
        ("ISO_IR 149", "ISO 2022 IR 149"),
        ("", ""),
        ("ISO_IR 1000", ""),
        ("KLINGON", ""),
    ],
)
def test_spellings(spelling: str, term: str) -> None:
    charset = Charset.of([spelling])
    assert charset.values == (term,)
    assert bool(charset.warnings) == (spelling in ("ISO_IR 1000", "KLINGON"))


def test_terms_without_code_extensions_beside_others_become_those_with() -> None:
    charset = Charset.of(["ISO_IR 100", "ISO_IR 144"])
    assert charset.values == ("ISO 2022 IR 100", "ISO 2022 IR 144")
    assert charset.text(b"\xfc\x1b-L\xbb") == "üЛ"


@pytest.mark.parametrize("values", [["GB18030", "ISO 2022 IR 58"], ["", "GB18030"], ["ISO_IR 100", "GB18030"]], ids=str)
def test_a_set_that_stands_alone_reads_everything_when_combined(values: list[str]) -> None:
    charset = Charset.of(values)
    assert charset.person_name("Wang=王^小东".encode("gb18030")) == ["Wang=王^小东"]
    assert len(charset.warnings) == 1


def test_a_character_set_is_made_once() -> None:
    assert Charset.of(["GB18030"]) is Charset.of(("GB18030",))
    assert Charset.of([""] * 100_000).values == ("",) * 32


TERMS = [
    *("", "ISO_IR 6", "ISO_IR 192", "GB18030", "GBK", "ISO_IR 13", "unknown"),
    *(f"ISO 2022 IR {number}" for number in ("6", "13", "87", "159", "149", "58", *SINGLE_BYTE_CODECS)),
]
OCTETS = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [
                ESC,
                *(
                    ESC + rest
                    for rest in (b"$B", b"$(D", b"$)C", b"$)A", b")I", b"(J", b"(B", b"(I", b"$A", b"-A", b"$)B")
                ),
            ]
        ),
        st.sampled_from([b"\\", b"^", b"=", b"\r\n"]),
    )
).map(b"".join)


@given(st.lists(st.sampled_from(TERMS), max_size=4), OCTETS)
def test_any_bytes_become_valid_text_without_escapes(values: list[str], raw: bytes) -> None:
    charset = Charset.of(values)
    charset.decodes(raw)
    for text in itertools.chain([charset.text(raw)], charset.split(raw), charset.person_name(raw)):
        assert "\x1b" not in text
        assert text.encode("utf-8").decode("utf-8") == text


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_ascii_is_ascii_everywhere(text: str) -> None:
    for term in TERMS:
        if not term.endswith("13"):
            charset = Charset.of([term])
            assert charset.text(text.encode()) == text
            assert charset.split(text.encode()) == charset.person_name(text.encode()) == text.split("\\")
            assert charset.decodes(text.encode())
