"""From the DICOM JSON Model to a Part 10 file: what our own parser reads from it is what was written."""

import io
import string
from base64 import b64encode
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEGBaseline8Bit

from storage.dicom import syntax
from storage.dicom.aroundpixels import Encapsulated, Native, fragment
from storage.dicom.encode import element, encode
from storage.dicom.parse import parse
from storage.errors import Fault, Invalid
from tests import raw, samples
from tests.oracle import body_of

UTF8 = {"vr": "CS", "Value": ["ISO_IR 192"]}
UIDS = {
    "00080016": {"vr": "UI", "Value": [samples.CT]},
    "00080018": {"vr": "UI", "Value": ["1.2.3"]},
    "0020000D": {"vr": "UI", "Value": ["1.2.4"]},
    "0020000E": {"vr": "UI", "Value": ["1.2.5"]},
}


def file_of(dataset: dict[str, Any], **more: Any) -> bytes:
    encoded = encode(UIDS | dataset, **more)
    assert encoded.length == len(encoded.head + encoded.tail)
    return encoded.head + encoded.tail


def back(dataset: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What our parser reads of it, without what every instance has."""
    found = parse(file_of(dataset, **more)).dataset
    return {key: entry for key, entry in found.items() if key not in UIDS and key != "00080005"}


def written(vr: str, *values: Any) -> bytes:
    """The element with these values, in bytes."""
    return element("00310001", {"vr": vr, "Value": list(values)})


def expected(vr: str, value: bytes) -> bytes:
    return raw.explicit(0x00310001, vr, value)


def refused(vr: str, *values: Any) -> str:
    with pytest.raises(Invalid) as error:
        written(vr, *values)
    assert error.value.fault is Fault.MALFORMED
    assert "(0031,0001)" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("path", samples.corpus(), ids=lambda path: path.name)
def test_every_file_of_the_corpus_comes_back_from_its_metadata(path: Path) -> None:
    data = path.read_bytes()
    try:
        instance = parse(data)
    except Invalid:
        return  # which of them, and why, is settled in test_parse
    if any(len(bulk.spans) > 1 for bulk in instance.bulk.values()) or not syntax.is_native(instance.transfer_syntax):
        return  # its pixel data is in fragments, which a caller of `encode` writes
    body = body_of(instance, data)
    little = instance.transfer_syntax != "1.2.840.10008.1.2.2"

    def bulk(uri: str) -> bytes:
        return b"".join(body[o : o + n] for o, n in instance.bulk[uri.removeprefix("bulkdata/")].spans)

    encoded = encode(orjson.loads(instance.metadata), bulk)
    again = parse(encoded.head)
    wanted = in_utf8(instance.dataset) | {"00080005": UTF8}
    assert again.dataset == dict(sorted(wanted.items()))
    assert again.repair is None
    if little:
        other = encoded.head[again.header_length :]
        for where in instance.bulk:
            value = bulk(where)
            assert b"".join(other[o : o + n] for o, n in again.bulk[where].spans) == value + b"\0" * (len(value) % 2)


def in_utf8(dataset: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, entry in dataset.items():
        if entry["vr"] == "SQ" and "Value" in entry:
            entry = entry | {"Value": [in_utf8(item) for item in entry["Value"]]}
        found[key] = UTF8 if key == "00080005" else entry
    return found


def test_the_file_has_meta_and_utf8_at_all_levels() -> None:
    gbk = {"vr": "CS", "Value": ["GB18030"]}
    item = {"00080005": gbk, "0040000A": {"vr": "SQ", "Value": [{}]}, "00400007": {"vr": "LO", "Value": ["胸部"]}}
    dataset = {"00080005": gbk, "00100010": {"vr": "PN", "Value": [{"Ideographic": "王^小东"}]}}
    file = file_of(dataset | {"00400275": {"vr": "SQ", "Value": [item]}})
    ds = pydicom.dcmread(io.BytesIO(file))
    assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert ds.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert (ds.SpecificCharacterSet, ds.PatientName.ideographic) == ("ISO_IR 192", "王^小东")
    inner = ds.RequestAttributesSequence[0]
    empty = {"00080005": {"vr": "CS"}, "00400007": {"vr": "LO", "Value": ["胸部"]}}
    assert back({"00400275": {"vr": "SQ", "Value": [empty]}})["00400275"]["Value"] == [empty | {"00080005": UTF8}]
    assert (inner.SpecificCharacterSet, inner.ScheduledProcedureStepDescription) == ("ISO_IR 192", "胸部")
    assert "王^小东".encode() in file


def test_j_in_numbers_and_strings() -> None:
    for vr, value in (("IS", 12), ("IS", "12"), ("IS", " 12 "), ("IS", 12.0)):
        assert written(vr, value) == expected(vr, b"12")
    assert written("DS", 1.5, "2.50", 3, None) == expected("DS", b"1.5\\2.50\\3\\ ")
    assert written("US", 1, "2", 3.0) == expected("US", b"\1\0\2\0\3\0")
    assert written("SV", "-9007199254740993", 2) == expected(
        "SV", (-9007199254740993).to_bytes(8, "little", signed=True) + b"\2" + bytes(7)
    )
    assert written("UV", 2**64 - 1) == expected("UV", b"\xff" * 8)
    assert written("FL", 1, "0.5") == expected("FL", b"\0\0\x80?\0\0\0?")
    assert written("AT", "0010abCD") == expected("AT", b"\x10\0\xcd\xab")


@pytest.mark.parametrize("number", [0.1 + 0.2, -1 / 3, 1e300 / 3, -1e-300 / 3, 123456789012345680.0, 2**70, -0.0])
def test_decimal_strings_have_sixteen_characters_at_most(number: float) -> None:
    text = written("DS", number)[8:].decode().strip()
    assert len(text) <= 16
    assert float(text) == pytest.approx(number, rel=1e-9)


def test_j_in_missing_and_empty_values() -> None:
    for entry in ({"vr": "LO"}, {"vr": "LO", "Value": []}, {"vr": "LO", "Value": [None]}, {"vr": "LO", "Value": None}):
        assert element("00310001", entry) == expected("LO", b"")
    assert written("LO", "a", None, "b") == expected("LO", b"a\\\\b")
    assert element("00081030", {"Value": ["a"]}) == raw.explicit(0x00081030, "LO", b"a ")
    assert element("0008103e", {"vr": "LO"}) == raw.explicit(0x0008103E, "LO", b"")


@pytest.mark.parametrize(
    ("vr", "value", "raw_value"),
    [
        ("SH", "abc", b"abc "),
        ("UI", "1.2", b"1.2\0"),
        ("LT", "  a\\b\r\n\f ", b"  a\\b\r\n\f"),
        ("UT", "中", "中".encode() + b" "),
        ("UR", "http://x/y", b"http://x/y"),
        ("UC", "a", b"a "),
        ("PN", {"Alphabetic": "A^B", "Phonetic": "P"}, b"A^B==P"),
        ("PN", {"Ideographic": "王"}, b"=" + "王".encode()),
        ("PN", "A^B", b"A^B "),
        ("PN", {}, b""),
    ],
)
def test_j_in_values_are_padded_to_even_by_vr(vr: str, value: Any, raw_value: bytes) -> None:
    assert written(vr, value) == expected(vr, raw_value)


def test_inline_binary_and_bulk_data() -> None:
    inline = {"vr": "OB", "InlineBinary": b64encode(b"abc").decode()}
    assert element("00310001", inline) == expected("OB", b"abc\0")
    assert element("00310001", {"vr": "OW", "InlineBinary": "AAAA"}) == expected("OW", bytes(4))
    assert element("00310001", {"vr": "UN", "InlineBinary": ""}) == expected("UN", b"")
    values = {"urn:1": b"ab", "urn:2": b"abc"}
    nested = {"vr": "SQ", "Value": [{"00310001": {"vr": "OW", "BulkDataURI": "urn:1"}}]}
    assert element("00400275", nested, values.__getitem__) == raw.explicit(
        0x00400275, "SQ", raw.item(expected("OW", b"ab"))
    )
    with pytest.raises(Invalid):
        element("00310001", {"vr": "OB", "BulkDataURI": "urn:1"})


def test_texts_that_come_as_bulk_data_in_the_character_set_of_their_source_become_utf8() -> None:
    gbk, latin = {"vr": "CS", "Value": ["GB18030"]}, {"vr": "CS", "Value": ["ISO_IR 100"]}
    values = {"urn:1": "胸部CT平扫未见异常".encode("gb18030"), "urn:2": "Gänsefüßchen".encode("latin-1")}
    item = {"0040A160": {"vr": "UT", "BulkDataURI": "urn:2"}}
    dataset = {
        "00080005": gbk,
        "0040A160": {"vr": "UT", "BulkDataURI": "urn:1"},
        "0040A730": {
            "vr": "SQ",
            "Value": [item | {"00080005": latin}, {"0040A160": {"vr": "UT", "BulkDataURI": "urn:1"}}],
        },
        "00420011": {"vr": "OB", "BulkDataURI": "urn:1"},
    }
    ds = pydicom.dcmread(io.BytesIO(file_of(dataset, bulk=values.__getitem__)))
    assert ds.TextValue == ds.ContentSequence[1].TextValue == "胸部CT平扫未见异常"
    assert ds.ContentSequence[0].TextValue == "Gänsefüßchen"
    assert ds.EncapsulatedDocument == values["urn:1"]


def test_groups_that_are_no_part_of_a_data_set_are_left_out() -> None:
    dataset = {
        "00020010": {"vr": "UI", "Value": ["1.2.3"]},
        "00080000": {"vr": "UL", "Value": [99]},
        "00000002": {"vr": "UI", "Value": ["1.2"]},
        "00081030": {"vr": "LO", "Value": ["x"]},
    }
    assert list(back(dataset)) == ["00081030"]


def test_values_too_long_for_their_vr_become_unknown() -> None:
    assert written("LO", "a" * 65534) == expected("LO", b"a" * 65534)
    assert written("LO", "a" * 65535) == expected("UN", b"a" * 65535 + b" ")


@pytest.mark.parametrize(
    ("vr", "values", "why"),
    [
        ("US", [65536], "too large"),
        ("US", [-1], "too large"),
        ("US", [1.5], "no integer"),
        ("US", [True], "no number"),
        ("US", [None, 1], "no number"),
        ("IS", ["1\\2"], "backslash"),
        ("IS", [float("nan")], "no number"),
        ("DS", [{}], "no number"),
        ("FL", [1e300], "too large"),
        ("FD", ["NaN"], "no number"),
        ("AT", ["0010"], "hexadecimal"),
        ("AT", [0x00100010], "hexadecimal"),
        ("LO", [5], "no string"),
        ("LO", ["a\\b"], "backslash"),
        ("LO", ["a\nb"], "control"),
        ("LT", ["a\x1bb"], "control"),
        ("LT", ["a", "b"], "2 values"),
        ("UI", ["1.2.中"], "character"),
        ("LO", ["\ud800"], "character"),
        ("PN", [5], "no object"),
        ("PN", [{"Alphabetic": "a=b"}], "equals"),
        ("PN", [{"Alphabetic": 5}], "no string"),
        ("PN", ["a\\b"], "backslash"),
        ("OB", ["a"], "InlineBinary"),
        ("UN", ["a"], "InlineBinary"),
        ("SQ", ["a"], "no JSON object"),
    ],
)
def test_invalid_values_are_named_by_tag_and_reason(vr: str, values: list[Any], why: str) -> None:
    assert why in refused(vr, *values)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ([], "no JSON object"),
        ({"vr": "XX"}, "no VR"),
        ({"vr": 5}, "no VR"),
        ({"vr": "LO", "Value": "a"}, "no array"),
        ({"vr": "OB", "InlineBinary": "a?"}, "base64"),
        ({"vr": "OB", "InlineBinary": ["AA=="]}, "no string"),
        ({"vr": "OB", "BulkDataURI": None}, "no string"),
        ({"vr": "OB", "Value": [], "InlineBinary": ""}, "of which there can be one"),
        ({"vr": "SQ", "InlineBinary": "AAAA"}, "sequence"),
        ({"vr": "SQ", "BulkDataURI": "urn:1"}, "sequence"),
    ],
)
def test_invalid_entries_are_named_by_tag_and_reason(entry: Any, why: str) -> None:
    with pytest.raises(Invalid) as error:
        element("00310001", entry)
    assert why in str(error.value)
    assert "(0031,0001)" in str(error.value)


def test_an_error_says_where_in_the_sequence_it_lies_and_holds_no_value() -> None:
    inner = {"0040A123": {"vr": "PN", "Value": [{"Alphabetic": "Secret=Name"}]}}
    with pytest.raises(Invalid) as error:
        file_of({"0040A730": {"vr": "SQ", "Value": [{}, inner]}})
    assert "(0040,A123) in 0040A730/2" in str(error.value)
    assert "Secret" not in str(error.value)


@pytest.mark.parametrize("key", ["0010001", "001000100", "0010 010", "ZZ100010", "PatientName"])
def test_names_that_are_no_tags_are_refused(key: str) -> None:
    with pytest.raises(Invalid):
        file_of({key: {"vr": "LO"}})


def test_one_tag_in_two_spellings_is_refused() -> None:
    with pytest.raises(Invalid):
        file_of({"0008103E": {"vr": "LO"}, "0008103e": {"vr": "LO"}})


@pytest.mark.parametrize("uid", [{}, {"vr": "UI"}, {"vr": "UI", "Value": [5]}, {"vr": "UI", "Value": ["x"]}, None])
def test_uids_that_the_file_needs(uid: Any) -> None:
    with pytest.raises(Invalid) as error:
        encode({**UIDS, "00080018": uid})
    assert error.value.fault in (Fault.MISSING_UID, Fault.BAD_UID)


def test_pixels_are_streamed_between_head_and_tail() -> None:
    dataset = UIDS | {
        "00280010": {"vr": "US", "Value": [2]},
        "00280011": {"vr": "US", "Value": [3]},
        "00280100": {"vr": "US", "Value": [8]},
        "7FE00010": {"vr": "OW", "BulkDataURI": "urn:1"},
        "FFFAFFFA": {"vr": "SQ"},
    }
    jpeg = encode(dataset, transfer_syntax=JPEGBaseline8Bit, pixels=Encapsulated([3]))
    file = jpeg.head + fragment(b"abc") + jpeg.tail
    assert len(file) == jpeg.length
    ds = pydicom.dcmread(io.BytesIO(file))
    assert ds.PixelData == raw.item(bytes(4)) + raw.item(b"abc\0")
    assert (ds.file_meta.TransferSyntaxUID, ds["PixelData"].VR, 0xFFFAFFFA in ds) == (JPEGBaseline8Bit, "OB", True)
    native = encode(dataset, pixels=Native(5, "OB"))
    assert (native.head + b"abcde" + native.tail).endswith(
        raw.explicit(0x7FE00010, "OB", b"abcde\0") + raw.explicit(0xFFFAFFFA, "SQ", b"")
    )


def test_a_large_document_is_streamed_like_pixel_data() -> None:
    pdf = {"vr": "OB", "BulkDataURI": "urn:1"}
    title, mime = {"vr": "ST", "Value": ["Title"]}, {"vr": "LO", "Value": ["application/pdf"]}
    dataset = UIDS | {"00420010": title, "00420011": pdf, "00420012": mime}
    encoded = encode(dataset, pixels=Native(5, tag=0x00420011))
    file = encoded.head + b"%PDF-" + encoded.tail
    assert len(file) == encoded.length
    assert file == encode(dataset, lambda uri: b"%PDF-").head


def test_deep_nesting_is_bounded() -> None:
    def nested(levels: int) -> dict[str, Any]:
        dataset: dict[str, Any] = {}
        for _ in range(levels):
            dataset = {"00400275": {"vr": "SQ", "Value": [dataset]}}
        return dataset

    assert back(nested(80)) == nested(80)
    with pytest.raises(Invalid):
        back(nested(81))


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\\"), min_size=1, max_size=20
)
WORDS = TEXT.map(lambda text: text.strip(" ")).filter(bool)
NAMES = WORDS.map(lambda text: text.replace("=", "^").strip(" ")).filter(bool)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "LO": WORDS,
    "UC": WORDS,
    "CS": st.text(string.ascii_uppercase, min_size=1, max_size=9),
    "PN": st.dictionaries(st.sampled_from(["Alphabetic", "Ideographic", "Phonetic"]), NAMES, min_size=1),
    "IS": st.integers(-(10**11), 10**11),
    "DS": st.floats(-1e6, 1e6).map(lambda number: float(f"{number:.6g}")),
    "FD": st.floats(allow_nan=False, allow_infinity=False),
    "FL": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "SL": st.integers(-(2**31), 2**31 - 1),
    "US": st.integers(0, 2**16 - 1),
    "UV": st.integers(0, 2**53),
    "AT": st.integers(0, 2**32 - 1).map(lambda tag: f"{tag:08X}"),
}
MULTIPLE_BLANKS = frozenset({"LO", "UC", "CS", "PN", "IS", "DS"})  # VRs with empty values among others


@st.composite
def entries(draw: st.DrawFn, depth: int) -> dict[str, Any]:
    vr = draw(st.sampled_from([*VALUES, "LT", "OW", "SQ"] if depth else [*VALUES, "LT", "OW"]))
    if vr == "OW":
        value = draw(st.binary(min_size=1, max_size=12)) * 2
        return {"vr": vr, "InlineBinary": b64encode(value).decode()}
    if vr == "LT":
        return {"vr": vr, "Value": [draw(st.just(" \\ a") | WORDS)]}
    each = datasets(depth - 1) if vr == "SQ" else VALUES[vr]
    if vr in MULTIPLE_BLANKS:
        each = st.none() | each
    values = draw(st.lists(each, max_size=3).filter(lambda values: values != [None]))
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def datasets(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    keys = st.integers(0x00300001, 0x00FEFFFF).map(lambda number: f"{number & ~0x10000 | 1:08X}")
    return st.dictionaries(keys, entries(depth), max_size=4).map(lambda found: dict(sorted(found.items())))


@settings(max_examples=200, deadline=None)
@given(datasets(2))
def test_j_in_any_data_set_comes_back_from_its_encoding(dataset: dict[str, Any]) -> None:
    # A few letters alone could be taken for GB 18030, as wrongly declared texts are.
    dataset = {"00081030": {"vr": "LO", "Value": ["胸部"]}} | dataset
    assert back(dataset) == dataset


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("AAAA"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["00310001", "0031001", "vr", "Value", "InlineBinary", "Alphabetic"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*VALUES, "LT", "UI", "SQ", "OB", "UR"]), JSON)
def test_any_json_is_encoded_or_refused(vr: str, value: Any) -> None:
    for entry in (value, {"vr": vr, "Value": value}, {"vr": vr, "Value": [value]}):
        try:
            encoded = element("00310001", entry)
        except Invalid:
            continue
        assert len(encoded) % 2 == 0
