"""What PS3.18 F.2 asks of DICOM JSON, one requirement a test: as we write it, and as we take it."""

import json
import struct
from base64 import b64decode, b64encode
from typing import Any

import orjson
import pytest

from storage.dicom.encode import element, encode
from storage.dicom.parse import parse
from storage.dicom.values import MAX_INLINE_BINARY_BYTES, MAX_INLINE_BYTES
from storage.errors import Invalid
from tests import raw, samples
from tests.raw import explicit, item, json_of, open_item, values_of

TAG = 0x00310001
KEY = "00310001"


def taken(vr: str, *values: Any) -> bytes:
    """The bytes of an element with these values."""
    return element(KEY, {"vr": vr, "Value": list(values)})


def both_ways(vr: str, value: bytes, *values: Any) -> None:
    """The bytes give these values, and the values these bytes."""
    assert values_of(vr, value) == {"vr": vr, "Value": list(values)}
    assert taken(vr, *values) == explicit(TAG, vr, value)


def test_j_empty_only_the_vr() -> None:
    for vr in ("LO", "PN", "US", "OB", "SQ", "AT", "DS", "UN"):
        assert values_of(vr, b"") == {"vr": vr}
        for entry in ({"vr": vr}, {"vr": vr, "Value": []}):
            assert element(KEY, entry) == explicit(TAG, vr, b"")
    assert values_of("LO", b"  ") == {"vr": "LO"}
    assert taken("LO", None) == taken("LO", "") == explicit(TAG, "LO", b"")


def test_j_null_an_empty_value_keeps_its_place() -> None:
    both_ways("LO", b"v1\\\\v3", "v1", None, "v3")
    both_ways("IS", b"\\1", None, 1)
    both_ways("DS", b"1.5\\", 1.5, None)


def test_j_emptyitem_and_empty_sequences() -> None:
    dataset = explicit(TAG, "SQ", item(b"") + open_item(b"") + item(explicit(0x00080060, "CS", b"CT")))
    found = json_of(dataset)[KEY]
    assert found == {"vr": "SQ", "Value": [{}, {}, {"00080060": {"vr": "CS", "Value": ["CT"]}}]}
    assert element(KEY, found) == explicit(TAG, "SQ", item(b"") + item(b"") + item(explicit(0x00080060, "CS", b"CT")))
    assert json_of(explicit(TAG, "SQ", b""))[KEY] == {"vr": "SQ"}


def test_j_pn_objects_of_the_groups_that_are_there() -> None:
    utf8 = explicit(0x00080005, "CS", b"ISO_IR 192")
    names = {
        "A^B": {"Alphabetic": "A^B"},
        "=王^小": {"Ideographic": "王^小"},
        "A==p": {"Alphabetic": "A", "Phonetic": "p"},
    }
    for text, name in names.items():
        value = text.encode() + b" " * (len(text.encode()) % 2)
        assert json_of(utf8, explicit(TAG, "PN", value))[KEY] == {"vr": "PN", "Value": [name]}
        assert taken("PN", name) == explicit(TAG, "PN", value)
    assert values_of("PN", b"A^B=== ") == {"vr": "PN", "Value": [{"Alphabetic": "A^B"}]}


def test_j_pn_null_names_without_groups() -> None:
    assert values_of("PN", b"A\\\\B ") == {"vr": "PN", "Value": [{"Alphabetic": "A"}, None, {"Alphabetic": "B"}]}
    for empty in (None, {}, {"Alphabetic": ""}, {"Alphabetic": None}):
        assert taken("PN", {"Alphabetic": "A"}, empty, {"Alphabetic": "B"}) == explicit(TAG, "PN", b"A\\\\B")


def test_j_at_eight_hexadecimal_digits() -> None:
    both_ways("AT", b"\x18\x00\x63\x10\x10\x00\xcd\xab", "00181063", "0010ABCD")


@pytest.mark.parametrize(
    ("vr", "code", "numbers"),
    [
        ("US", "H", [0, 65535]),
        ("SS", "h", [-32768, 1]),
        ("UL", "I", [2**32 - 1]),
        ("SL", "i", [-(2**31)]),
        ("FL", "f", [0.5, -2.0]),
        ("FD", "d", [0.1, 1e300]),
    ],
)
def test_j_num_numbers_are_numbers(vr: str, code: str, numbers: list[Any]) -> None:
    both_ways(vr, struct.pack(f"<{len(numbers)}{code}", *numbers), *numbers)


def test_j_num_decimal_and_integer_strings_keep_their_digits() -> None:
    assert values_of("DS", b"1.0\\0.1\\12345678901234567890 ")["Value"] == [1.0, 0.1, "12345678901234567890"]
    assert taken("DS", "12345678901234567890", 0.1) == explicit(TAG, "DS", b"12345678901234567890\\0.1")
    both_ways("IS", b"-2\\214748364", -2, 214748364)


def test_j_64_beyond_what_a_double_holds() -> None:
    both_ways("SV", struct.pack("<2q", -(2**53), -(2**53) - 1), -(2**53), str(-(2**53) - 1))
    both_ways("UV", struct.pack("<2Q", 2**64 - 1, 7), str(2**64 - 1), 7)
    assert values_of("OV", bytes(8)) == {"vr": "OV", "InlineBinary": b64encode(bytes(8)).decode()}


def test_j_nan_never_as_a_bare_token() -> None:
    for vr, code in (("FL", "<f"), ("FD", "<d")):
        value = struct.pack(code, float("nan")) + struct.pack(code, float("-inf"))
        entry = values_of(vr, value)
        assert b64decode(entry["InlineBinary"]) == value
        assert element(KEY, entry) == explicit(TAG, vr, value)
        with pytest.raises(Invalid):
            taken(vr, float("nan"))
    assert values_of("DS", b"NaN\\inf ")["Value"] == ["NaN", "inf"]
    assert taken("DS", "NaN") == explicit(TAG, "DS", b"NaN ")


def test_j_badnum_stays_a_string() -> None:
    both_ways("IS", b"1.5\\x ", "1.5", "x")
    assert values_of("DS", b"1,5 ") == {"vr": "DS", "Value": ["1,5"]}


def test_j_backslash_in_texts_of_one_value() -> None:
    for vr in ("LT", "ST", "UT"):
        both_ways(vr, b"a\\b\\", "a\\b\\")
    both_ways("UR", b"x:\\y", "x:\\y")
    with pytest.raises(Invalid):
        taken("LO", "a\\b")


def test_j_spaces_padding_goes_and_leading_spaces_of_texts_stay() -> None:
    assert values_of("LO", b" a \\ b  ")["Value"] == ["a", "b"]
    assert values_of("LT", b"  a  ")["Value"] == ["  a"]
    assert taken("LT", "  a  ") == explicit(TAG, "LT", b"  a ")
    assert taken("LO", " a ") == explicit(TAG, "LO", b"a ")
    assert taken("UI", "1.2 ") == explicit(TAG, "UI", b"1.2\0")


@pytest.mark.parametrize("vr", ["OB", "OD", "OF", "OL", "OV", "OW", "UN"])
def test_j_inline_one_string_for_the_whole_value(vr: str) -> None:
    value = bytes(range(16))
    entry = values_of(vr, value)
    assert entry == {"vr": vr, "InlineBinary": b64encode(value).decode()}
    assert element(KEY, entry) == explicit(TAG, vr, value)


def test_j_un_is_never_text() -> None:
    entry = values_of("UN", b"TEXT")
    assert entry == {"vr": "UN", "InlineBinary": b64encode(b"TEXT").decode()}
    inside = raw.open_item(raw.implicit(0x00080060, b"CT")) + raw.SEQUENCE_END
    found = json_of(explicit(TAG, "UN", inside, raw.UNDEFINED))[KEY]
    assert found == {"vr": "SQ", "Value": [{"00080060": {"vr": "CS", "Value": ["CT"]}}]}


@pytest.mark.parametrize("levels", [60, 80])
def test_j_sq_deep_sequences(levels: int) -> None:
    dataset = explicit(0x00080060, "CS", b"CT")
    for _ in range(levels):
        dataset = explicit(TAG, "SQ", item(dataset))
    found = json_of(dataset)
    assert json.dumps(found).count('"SQ"') == levels
    assert element(KEY, found[KEY]) == dataset


def test_j_sq_deep_ten_thousand_items() -> None:
    dataset = explicit(TAG, "SQ", item(explicit(0x00080060, "CS", b"CT")) * 10_000)
    assert element(KEY, json_of(dataset)[KEY]) == dataset


def test_j_private_with_creator_and_block_at_every_level() -> None:
    private = explicit(0x00310010, "LO", b"MAKER ") + explicit(0x00311001, "SH", b"x ")
    dataset = private + explicit(0x00400275, "SQ", item(private))
    found = json_of(dataset)
    inner = {"00310010": {"vr": "LO", "Value": ["MAKER"]}, "00311001": {"vr": "SH", "Value": ["x"]}}
    assert found == {**inner, "00400275": {"vr": "SQ", "Value": [inner]}}
    assert b"".join(element(key, entry) for key, entry in found.items()) == dataset


def test_j_utf8_without_escape_sequences_or_raw_controls() -> None:
    korean = explicit(0x00080005, "CS", b"\\ISO 2022 IR 149 ") + explicit(TAG, "LO", b"\x1b$)C\xb1\xe8\xc8\xf1\xc1\xdf")
    metadata = parse(raw.uids() + raw.parents() + korean).metadata
    assert not metadata.startswith(b"\xef\xbb\xbf")
    assert b"\x1b" not in metadata
    assert orjson.loads(metadata)[KEY]["Value"] == ["김희중"]
    assert b"\n" not in parse(raw.uids() + raw.parents() + explicit(TAG, "LT", b"a\nb ")).metadata
    assert taken("LO", "김희중") == explicit(TAG, "LO", "김희중".encode() + b" ")


def test_j_scs_is_that_of_the_source_and_not_believed_when_received() -> None:
    dataset = parse(samples.part10(samples.ct())).dataset
    assert dataset["00080005"] == {"vr": "CS", "Value": ["GB18030"]}
    encoded = encode(dataset, lambda uri: bytes(512))
    again = parse(encoded.head).dataset
    assert again == dataset | {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}}


def test_j_order_ascending_at_every_level() -> None:
    late, early = explicit(0x00100020, "LO", b"1 "), explicit(0x00080060, "CS", b"CT")
    found = json_of(explicit(0x00400275, "SQ", item(late + early)), late, early)
    assert list(found) == ["00080060", "00100020", "00400275"]
    assert list(found["00400275"]["Value"][0]) == ["00080060", "00100020"]
    unordered = {"00100020": {"vr": "LO", "Value": ["1"]}, "00080060": {"vr": "CS", "Value": ["CT"]}}
    assert element("00400275", {"vr": "SQ", "Value": [unordered]}) == explicit(0x00400275, "SQ", item(early + late))


def test_j_bulkvr_only_where_it_is_allowed() -> None:
    for vr in ("OB", "OD", "OF", "OL", "OV", "OW", "UN"):
        assert values_of(vr, bytes(MAX_INLINE_BINARY_BYTES + 8)) == {"vr": vr, "BulkDataURI": f"bulkdata/{KEY}"}
    for vr in ("UC", "UT"):
        assert values_of(vr, b"a" * (MAX_INLINE_BYTES + 8)) == {"vr": vr, "BulkDataURI": f"bulkdata/{KEY}"}
    for vr in ("PN", "LO", "SH", "CS", "DA", "AT"):
        assert "Value" in values_of(vr, b"00000000" * 8000)


def test_j_in_what_receivers_must_tolerate() -> None:
    assert taken("IS", "7") == taken("IS", 7) == taken("IS", " 7 ") == explicit(TAG, "IS", b"7 ")
    assert taken("UV", "7") == taken("UV", 7)
    assert element("0008103e", {"vr": "LO", "Value": ["odd"]}) == explicit(0x0008103E, "LO", b"odd ")
    assert element(KEY, {"vr": "OB", "InlineBinary": " AA\n== "}) == explicit(TAG, "OB", b"\0\0")
