"""Texts in the JSON: declared, inherited and repaired character sets."""

from typing import Any

from storage.dicom.parse import parse
from tests.raw import explicit, item, parents, uids

NAME = "王^小东"


def text_of(declared: bytes, *elements: bytes) -> Any:
    return parse(explicit(0x00080005, "CS", declared) + uids() + b"".join(elements) + parents())


def test_text_in_a_wrongly_declared_character_set_is_read_and_said_to_be_repaired() -> None:
    instance = text_of(
        b"ISO_IR 100",
        explicit(0x00081030, "LO", "胸部平扫检查".encode("gbk")),
        explicit(0x00100010, "PN", NAME.encode("gbk")),
    )
    assert instance.dataset["00100010"]["Value"] == [{"Alphabetic": NAME}]
    assert instance.dataset["00081030"]["Value"] == ["胸部平扫检查"]
    assert instance.repair == "ISO_IR 100 read as GB18030"
    assert instance.dataset["00080005"] == {"vr": "CS", "Value": ["ISO_IR 100"]}


def test_an_item_may_declare_a_character_set_of_its_own() -> None:
    sequence = item(explicit(0x00080005, "CS", b"ISO_IR 192") + explicit(0x00080104, "LO", "胸部".encode()))
    inherits = item(explicit(0x00080104, "LO", "胸部".encode("gb18030")))
    instance = text_of(
        b"GB18030",
        explicit(0x00081032, "SQ", sequence + inherits),
        explicit(0x00100010, "PN", b"Wang^XiaoDong=" + NAME.encode("gb18030")),
    )
    assert [entry["00080104"]["Value"] for entry in instance.dataset["00081032"]["Value"]] == [["胸部"], ["胸部"]]
    assert instance.dataset["00100010"]["Value"] == [{"Alphabetic": "Wang^XiaoDong", "Ideographic": NAME}]
    assert instance.repair is None


def test_a_backslash_that_is_half_of_a_character_does_not_split() -> None:
    name = "郳晓"  # the first has the trail byte 5CH in GBK
    assert b"\\" in name.encode("gbk")
    instance = text_of(b"GBK", explicit(0x00081030, "LO", name.encode("gbk") + b"\\B"))
    assert instance.dataset["00081030"]["Value"] == [name, "B"]


def test_escape_sequences_do_not_reach_the_json() -> None:
    korean = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"
    instance = text_of(b"\\ISO 2022 IR 149", explicit(0x00100010, "PN", korean))
    assert instance.dataset["00100010"]["Value"] == [{"Alphabetic": "Hong^Gildong", "Ideographic": "洪^吉洞"}]


def test_ascii_bytes_are_read_as_the_character_set_has_them() -> None:
    instance = text_of(b"ISO_IR 13", explicit(0x00081030, "LO", b"a~b "), explicit(0x00080060, "CS", b"CT"))
    assert instance.dataset["00081030"]["Value"] == ["a‾b"]
    assert instance.dataset["00080060"]["Value"] == ["CT"]


def test_undecodable_text_stays_valid_utf8() -> None:
    instance = text_of(b"ISO_IR 192", explicit(0x00081030, "LO", b"ab\xff\xfe"))
    assert instance.dataset["00081030"]["Value"][0].startswith("ab")
    instance.metadata.decode("utf-8")
