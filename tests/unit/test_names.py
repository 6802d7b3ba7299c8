"""Person names: groups, the JSON model, and the folded form for comparison."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dicom.names import folded, groups, json_person_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ("", "", "")),
        ("Wang^XiaoDong", ("Wang^XiaoDong", "", "")),
        ("Wang^XiaoDong=王^小东", ("Wang^XiaoDong", "王^小东", "")),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ("Yamada^Tarou", "山田^太郎", "やまだ^たろう")),
        ("=王^小东", ("", "王^小东", "")),
        ("==ｱ", ("", "", "ｱ")),
        ("Doe^John^^^", ("Doe^John", "", "")),
        ("Doe^^^Dr", ("Doe^^^Dr", "", "")),
        ("Doe ^John ^^ =^^=", ("Doe ^John", "", "")),
        ("^^^^", ("", "", "")),
        ("a=b=c=d", ("a", "b", "c")),
        ("Doe\0", ("Doe", "", "")),
    ],
)
def test_groups(name: str, expected: tuple[str, str, str]) -> None:
    assert groups(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Wang^XiaoDong=王^小东", {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}),
        ("=王^小东= ", {"Ideographic": "王^小东"}),
        ("a==c", {"Alphabetic": "a", "Phonetic": "c"}),
        ("Doe^John^^^ ", {"Alphabetic": "Doe^John^^^"}),
        ("", None),
        (" == \0", None),
    ],
)
def test_json_keeps_the_groups_as_sent(name: str, expected: dict[str, str] | None) -> None:
    assert json_person_name(name) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MÜLLER", "müller"),
        ("Müller", "Muller"),
        ("Mu\u0308ller", "M\u00fcller"),
        ("Éléonore", "ELEONORE"),
        ("Øystein", "oystein"),
        ("Łódź", "lodz"),
        ("ΔΙΟΝΎΣΙΟΣ", "διονυσιος"),
        ("Люк", "люк"),
        ("İbrahim", "ibrahim"),
        ("Nguyễn", "nguyen"),
        ("Wang=王^小东", "wang=王^小东"),
    ],
)
def test_equal_without_case_and_accents(one: str, other: str) -> None:
    assert folded(one) == folded(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("王小东", "王小東"),  # simplified and traditional are different characters
        ("ＡＢ", "AB"),  # full width is not literal matching
        ("ｱ", "ア"),
        ("が", "か"),
        ("กี", "กา"),
        ("한", "하"),
    ],
)
def test_different_characters_stay_different(one: str, other: str) -> None:
    assert folded(one) != folded(other)


def test_one_character_stays_one() -> None:
    assert folded("Weiß") == "weiß"
    assert folded("ﬁ") == "ﬁ"
    assert all(len(folded(char)) == 1 for char in map(chr, range(0x20, 0x300)))


@given(st.text())
def test_folding_is_stable_and_knows_no_normal_form(text: str) -> None:
    assert folded(folded(text)) == folded(text)
    assert folded(unicodedata.normalize("NFD", text)) == folded(unicodedata.normalize("NFC", text))
    assert unicodedata.is_normalized("NFC", folded(text))
