"""The Native DICOM Model: what PS3.19 A.1 says it looks like, and nothing lost on the way there and back."""

import contextlib
import json
import string
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.dicom import xmlmodel, xmlreading
from storage.dicom.parse import parse
from storage.errors import Fault, Invalid
from tests import samples

NAMESPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
FORBIDDEN = {chr(code) for code in (*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF)}


def written(dataset: dict[str, Any]) -> ElementTree.Element:
    return ElementTree.fromstring(xmlmodel.write(dataset))


def back(dataset: dict[str, Any]) -> dict[str, Any]:
    return xmlreading.read(xmlmodel.write(dataset))


def model(content: str, head: str = "<NativeDicomModel>") -> dict[str, Any]:
    return xmlreading.read(f"{head}{content}</NativeDicomModel>".encode())


def attribute(content: str = "", tag: str = "00081030", vr: str = "LO", more: str = "") -> str:
    return f'<DicomAttribute tag="{tag}" vr="{vr}"{more}>{content}</DicomAttribute>'


def visible(value: Any) -> Any:
    """The data set as XML can have it: without the characters that XML 1.0 has not."""
    if isinstance(value, str):
        return "".join("\ufffd" if char in FORBIDDEN else char for char in value)
    if isinstance(value, dict):
        return {key: visible(each) for key, each in value.items()}
    return [visible(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", samples.corpus(), ids=lambda path: path.name)
def test_every_file_of_the_corpus_comes_back_from_xml(path: Path) -> None:
    try:
        dataset = parse(path.read_bytes()).dataset
    except Invalid:
        return  # which of them, and why, is settled in test_parse
    assert json.dumps(back(dataset)) == json.dumps(visible(dataset))


def test_x_root_attributes_with_tag_vr_and_keyword() -> None:
    root = written({"00080060": {"vr": "CS", "Value": ["CT", "MR"]}, "00100020": {"vr": "LO"}})
    assert root.tag == NAMESPACE + "NativeDicomModel"
    first, second = root
    assert first.attrib == {"tag": "00080060", "vr": "CS", "keyword": "Modality"}
    assert [(each.tag, each.get("number"), each.text) for each in first] == [
        (NAMESPACE + "Value", "1", "CT"),
        (NAMESPACE + "Value", "2", "MR"),
    ]
    assert (second.get("keyword"), list(second)) == ("PatientID", [])


def test_x_root_private_elements_name_their_creator_and_not_their_block() -> None:
    creator, other = {"vr": "LO", "Value": ['A "b" & <c>']}, {"vr": "LO", "Value": ["OTHER"]}
    value = {"vr": "UN", "InlineBinary": "AAE="}
    inner = {"00091001": value}  # whose creator is not in the item
    dataset = {
        "00090010": creator,
        "00090022": other,
        "00091001": value,
        "00092201": value,
        "00093301": value,  # nobody has reserved this block
        "00400275": {"vr": "SQ", "Value": [{"00090011": creator, "00091102": value}, inner]},
    }
    found = [
        (each.get("tag"), each.get("privateCreator")) for each in written(dataset).iter(f"{NAMESPACE}DicomAttribute")
    ]
    assert found == [
        ("00090010", None),
        ("00090022", None),
        ("00090001", 'A "b" & <c>'),
        ("00090001", "OTHER"),
        ("00093301", None),
        ("00400275", None),
        ("00090011", None),
        ("00090002", 'A "b" & <c>'),
        ("00091001", None),
    ]
    assert back(dataset) == dataset


def test_two_blocks_of_one_creator_are_not_mixed_up() -> None:
    creator = {"vr": "LO", "Value": ["A"]}
    dataset = {
        "00090010": creator,
        "00090011": creator,
        "00091001": {"vr": "SH", "Value": ["one"]},
        "00091101": {"vr": "SH", "Value": ["two"]},
    }
    assert back(dataset) == dataset


def test_private_creators_that_were_left_out_get_a_free_block() -> None:
    taken = attribute('<Value number="1">B</Value>', "00090010")
    private = attribute('<Value number="1">x</Value>', "00090001", "SH", ' privateCreator="A"')
    assert model(taken + private) == {
        "00090010": {"vr": "LO", "Value": ["B"]},
        "00090011": {"vr": "LO", "Value": ["A"]},
        "00091101": {"vr": "SH", "Value": ["x"]},
    }
    kept = attribute('<Value number="1">x</Value>', "00092001", "SH", ' privateCreator="A"')
    assert list(model(kept)) == ["00090020", "00092001"]
    blocks = "".join(attribute("", "00090001", "SH", f' privateCreator="{number}"') for number in range(0xF1))
    with pytest.raises(Invalid):
        model(blocks)


def test_x_chars_what_xml_cannot_have_is_replaced() -> None:
    text = "".join(map(chr, range(1, 128))) + "\ufffe\uffff中"
    dataset = {"00104000": {"vr": "LT", "Value": [text]}}
    (value,) = written(dataset).iter(f"{NAMESPACE}Value")
    assert value.text == visible(text)
    assert back(dataset) == visible(dataset)


def test_x_space_is_preserved_and_utf8_declared() -> None:
    document = xmlmodel.write({"00104000": {"vr": "LT", "Value": ["  two\r\n lines\tof 中文"]}})
    assert document.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
    root = ElementTree.fromstring(document)
    assert root.get("{http://www.w3.org/XML/1998/namespace}space") == "preserve"
    assert root[0][0].text == "  two\r\n lines\tof 中文"
    assert "中文".encode() in document


def test_person_names_by_groups_and_components() -> None:
    dataset = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}, None]}}
    (name, empty) = written(dataset).iter(f"{NAMESPACE}PersonName")
    assert [(group.tag, [(part.tag, part.text) for part in group]) for group in name] == [
        (NAMESPACE + "Alphabetic", [(NAMESPACE + "FamilyName", "Wang"), (NAMESPACE + "GivenName", "XiaoDong")]),
        (NAMESPACE + "Ideographic", [(NAMESPACE + "FamilyName", "王"), (NAMESPACE + "GivenName", "小东")]),
    ]
    assert (list(empty), empty.get("number")) == ([], "2")


@pytest.mark.parametrize(
    "name", ["A", "A^B^C^D^E", "A^B^C^D^E^F^G", "^B", "A^^C^^", "^", "^^^^", "^^^^^x^", " a & <b> "]
)
def test_names_of_any_form_come_back(name: str) -> None:
    dataset = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]}}
    assert back(dataset) == dataset


def test_bulk_data_inline_binary_and_items() -> None:
    dataset = {
        "00091001": {"vr": "UN", "InlineBinary": "AAE="},
        "00400275": {"vr": "SQ", "Value": [{}, {"00400009": {"vr": "SH", "Value": ["x"]}}]},
        "7FE00010": {"vr": "OW", "BulkDataURI": 'http://x/bulk?a=1&b="2"'},
    }
    root = written(dataset)
    assert root[0][0].text == "AAE="
    assert [(item.get("number"), len(item)) for item in root[1]] == [("1", 0), ("2", 1)]
    assert root[2][0].attrib == {"uri": 'http://x/bulk?a=1&b="2"'}
    assert back(dataset) == dataset


def test_values_are_read_by_their_numbers_and_the_form_their_vr_has() -> None:
    def values(vr: str, *texts: str) -> Any:
        numbered = "".join(f'<Value number="{number}">{text}</Value>' for number, text in enumerate(texts, 1))
        return model(attribute(numbered, vr=vr))["00081030"]["Value"]

    assert values("US", "1", " 2 ", "x", "") == [1, 2, "x", None]
    assert values("IS", "-3", "1.5") == [-3, "1.5"]
    assert values("DS", "1.50", "0.1234567890123456789") == [1.5, "0.1234567890123456789"]
    assert values("FD", "1e-3", "NaN", "no") == [0.001, "NaN", "no"]
    assert values("SV", "-9007199254740993", "7") == ["-9007199254740993", 7]
    assert values("LT", "  a  ") == ["  a"]
    assert values("LO", "  a  ") == ["a"]
    swapped = '<Value number="3">c</Value><Value number="1">a</Value>'
    assert model(attribute(swapped))["00081030"] == {"vr": "LO", "Value": ["a", None, "c"]}
    assert model(attribute("<Value>a</Value><Value>b</Value>"))["00081030"]["Value"] == ["a", "b"]


def test_a_missing_vr_is_that_of_the_dictionary() -> None:
    assert model('<DicomAttribute tag="0008103e"/>') == {"0008103E": {"vr": "LO"}}


@pytest.mark.parametrize("head", ["<NativeDicomModel>", f'<NativeDicomModel xmlns="{NAMESPACE[1:-1]}">'])
def test_with_and_without_namespace(head: str) -> None:
    assert model(attribute("<Value>a</Value>"), head) == {"00081030": {"vr": "LO", "Value": ["a"]}}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<NativeDicomModel>",
        b"<html/>",
        b"{}",
        b'<?xml version="1.0" encoding="no-such"?><NativeDicomModel/>',
        b'<!DOCTYPE x [<!ENTITY a "b">]><NativeDicomModel/>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><NativeDicomModel/>',
        b"<NativeDicomModel><DicomAttribute/></NativeDicomModel>",
        b'<NativeDicomModel><DicomAttribute tag="0008103"/></NativeDicomModel>',
        b'<NativeDicomModel><DicomAttribute tag="00081030"/><DicomAttribute tag="00081030"/></NativeDicomModel>',
    ],
)
def test_what_is_not_the_model_is_malformed(document: bytes) -> None:
    with pytest.raises(Invalid) as error:
        xmlreading.read(document)
    assert error.value.fault is Fault.MALFORMED


@pytest.mark.parametrize(
    "content",
    [
        '<Value number="0">a</Value>',
        '<Value number="x">a</Value>',
        '<Value number="1">a</Value><Value number="1">b</Value>',
        '<Value number="9000000">a</Value>',
        "<Value>a<b/></Value>",
        "<BulkData/>",
    ],
)
def test_errors_name_the_element_and_not_its_value(content: str) -> None:
    with pytest.raises(Invalid) as error:
        model(attribute(content))
    assert "(0008,1030)" in str(error.value)


def test_j_sq_deep_nesting_is_bounded() -> None:
    def nested(levels: int) -> dict[str, Any]:
        dataset: dict[str, Any] = {}
        for _ in range(levels):
            dataset = {"00400275": {"vr": "SQ", "Value": [dataset]}}
        return dataset

    assert back(nested(80)) == nested(80)
    with pytest.raises(Invalid):
        back(nested(81))


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).map(lambda text: text.strip()).filter(bool)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "LO": TEXT,
    "CS": st.text(string.ascii_uppercase, min_size=1, max_size=9),
    "PN": st.dictionaries(st.sampled_from(xmlmodel.GROUPS), TEXT, min_size=1),
    "FD": st.floats(allow_nan=False, allow_infinity=False),
    "SL": st.integers(-(2**31), 2**31 - 1),
    "AT": st.integers(0, 2**32 - 1).map(lambda tag: f"{tag:08X}"),
}


@st.composite
def entries(draw: st.DrawFn, depth: int) -> dict[str, Any]:
    vr = draw(st.sampled_from([*VALUES, "SQ", "OB"] if depth else [*VALUES, "OB"]))
    if vr == "OB":
        return draw(st.sampled_from([{"vr": "OB", "InlineBinary": "AAE="}, {"vr": "OB", "BulkDataURI": "x/y?<&>"}]))
    each = datasets(depth - 1) if vr == "SQ" else st.none() | VALUES[vr]
    values = draw(st.lists(each, max_size=3).filter(lambda values: values != [None]))
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def datasets(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    keys = st.integers(0x00080000, 0x00FFFFFF).map(lambda number: f"{number & ~0x10000:08X}")
    return st.dictionaries(keys, entries(depth), max_size=4).map(lambda found: dict(sorted(found.items())))


@settings(max_examples=200, deadline=None)
@given(datasets(2))
def test_any_data_set_comes_back_from_xml(dataset: dict[str, Any]) -> None:
    assert back(dataset) == visible(orjson.loads(orjson.dumps(dataset)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 400))
def test_damaged_documents_are_read_or_refused(noise: bytes, at: int) -> None:
    document = xmlmodel.write(parse(samples.part10(samples.ct())).dataset)
    with contextlib.suppress(Invalid):
        xmlreading.read(document[:at] + noise + document[at + len(noise) :])
