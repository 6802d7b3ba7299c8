"""The DICOM JSON Model: equal to pydicom's but for the rules of `tests.oracle`, and the cases those leave open."""

import base64
import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from storage.dicom.parse import parse
from storage.errors import Invalid
from tests import oracle, raw
from tests.raw import (
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    encapsulated,
    explicit,
    implicit,
    item,
    json_of,
    open_item,
    parents,
    uids,
)
from tests.samples import corpus, ct, part10

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.name)
def test_every_file_of_the_corpus_reads_as_pydicom_reads_it(path: Path) -> None:
    data = path.read_bytes()
    try:
        instance = parse(data)
    except Invalid:
        return  # which of them, and why, is settled in test_parse
    assert oracle.differences(instance, data) == []
    assert json.loads(instance.metadata) == json.loads(orjson.dumps(instance.dataset))
    assert set(instance.bulk) == set(uris(instance.dataset))


def uris(dataset: dict[str, Any]) -> list[str]:
    found = []
    for entry in dataset.values():
        if "BulkDataURI" in entry:
            found.append(entry["BulkDataURI"].removeprefix("bulkdata/"))
        if entry["vr"] == "SQ":
            found.extend(uri for item in entry.get("Value", []) for uri in uris(item))
    return found


def test_the_oracle_notices_a_wrong_value() -> None:
    data = part10(ct())
    instance = parse(data)
    assert oracle.differences(instance, data) == []
    instance.dataset["00100020"]["Value"] = ["other"]
    instance.dataset["00200037"]["Value"][0] = 2.0
    assert len(oracle.differences(instance, data)) == 2


printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\=^ "), max_size=12)
chinese = st.text("王小东李静上海医院CT胸部", max_size=8)
word = printable | chinese
number = st.integers(-(2**31), 2**31 - 1)
decimal = st.floats(-1e6, 1e6).map(lambda value: f"{value:.6g}") | st.sampled_from(["1e3", "-0", "+1.50", "1E-400"])
binary = st.binary(max_size=24).map(lambda value: value + bytes(-len(value) % 8))


def several(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, max_size=4)


VALUES: dict[str, tuple[int, st.SearchStrategy[Any]]] = {
    "SH": (0x00081010, word),
    "LO": (0x00081040, several(word)),
    "LT": (0x00104000, st.text("ab\\ \n王", max_size=20)),
    "UT": (0x0008030E, st.text("ab\\ 王", max_size=20)),
    "UC": (0x00080119, several(word)),
    "UR": (0x00081190, st.sampled_from(["", "http://a/b?c=1%5C2", "urn:x"])),
    "PN": (0x00081050, several(st.tuples(word, word, word).map("=".join))),
    "CS": (0x00080008, several(st.text("ABC_ 1", max_size=8))),
    "DA": (0x00080012, st.sampled_from(["", "20260311"])),
    "IS": (0x00200013, number),
    "DS": (0x00201041, several(decimal)),
    "AT": (0x00280009, several(st.integers(0, 0xFFFFFFFF))),
    "US": (0x00280006, several(st.integers(0, 0xFFFF))),
    "SS": (0x00189219, several(st.integers(-0x8000, 0x7FFF))),
    "UL": (0x00081161, several(st.integers(0, 0xFFFFFFFF))),
    "SL": (0x00186020, several(st.integers(-(2**31), 2**31 - 1))),
    "FL": (0x00089459, several(st.floats(width=32))),
    "FD": (0x00189073, several(st.floats())),
    "UV": (0x00720083, several(st.integers(0, 2**64 - 1))),
    "SV": (0x00720082, several(st.integers(-(2**63), 2**63 - 1))),
    "OB": (0x00420011, binary),
    "OW": (0x00660023, binary),
    "OD": (0x00720073, binary),
    "OF": (0x00640009, binary),
    "OL": (0x00660129, binary),
    "OV": (0x00720081, binary),
}


@st.composite
def datasets(draw: st.DrawFn, depth: int = 0) -> Dataset:
    found = Dataset()
    for vr in draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=8)):
        tag, values = VALUES[vr]
        found.add_new(tag, vr, draw(values))
    if draw(st.booleans()):
        block = found.private_block(
            0x0029, draw(st.sampled_from(["SIEMENS CSA HEADER", "NOBODY KNOWS 1"])), create=True
        )
        block.add_new(0x08, "CS", draw(st.sampled_from(["IMAGE NUM 4", ""])))
        block.add_new(0x10, "OB", draw(binary))
    if depth < 3 and draw(st.booleans()):
        items = draw(st.lists(datasets(depth=depth + 1), max_size=3))
        found.ReferencedStudySequence = Sequence(items)
        found["ReferencedStudySequence"].is_undefined_length = draw(st.booleans())
        for item in items:
            item.is_undefined_length_sequence_item = draw(st.booleans())
    return found


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(datasets(), st.sampled_from(SYNTAXES))
def test_generated_data_sets_read_as_pydicom_reads_them(generated: Dataset, transfer_syntax: str) -> None:
    ds = ct(SpecificCharacterSet="ISO_IR 192")
    ds.update(generated)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that pydicom would not write
        data = part10(ds, transfer_syntax)
    instance = parse(data)
    assert oracle.differences(instance, data) == []
    assert instance.repair is None


def test_values_longer_than_the_limits_are_named_by_uri() -> None:
    data = (
        uids()
        + parents()
        + b"".join(
            [
                explicit(0x00310001, "OB", bytes(1024)),
                explicit(0x00310002, "OB", bytes(1026)),
                explicit(0x00310003, "UT", b"a" * (256 << 10)),
                explicit(0x00310004, "UT", b"a" * ((256 << 10) + 2)),
                explicit(0x00310005, "UN", b"a" * 2000),
                explicit(0x00310006, "SQ", item(explicit(0x00310002, "OW", bytes(2000)))),
            ]
        )
    )
    instance = parse(data)
    assert set(instance.bulk) == {"00310002", "00310004", "00310005", "00310006/1/00310002"}
    assert instance.dataset["00310002"] == {"vr": "OB", "BulkDataURI": "bulkdata/00310002"}
    for path, length in (("00310002", 1026), ("00310004", (256 << 10) + 2), ("00310006/1/00310002", 2000)):
        ((offset, found),) = instance.bulk[path].spans
        assert found == length
        assert data[offset - 4 : offset] == struct.pack("<I", length)


def test_pixel_data_is_always_named_by_uri_also_in_icons() -> None:
    icon = explicit(0x00880200, "SQ", item(explicit(0x7FE00010, "OW", b"abcd")))
    instance = parse(uids() + parents() + icon + explicit(0x7FE00010, "OW", b"wxyz"))
    assert instance.dataset["7FE00010"] == {"vr": "OW", "BulkDataURI": "bulkdata/7FE00010"}
    assert set(instance.bulk) == {"7FE00010", "00880200/1/7FE00010"}


def test_fragments_of_an_icon_have_spans_of_their_own() -> None:
    icon = explicit(0x00880200, "SQ", open_item(encapsulated([b"ab", b"cdef"])) + SEQUENCE_END, UNDEFINED)
    data = uids() + parents() + icon
    bulk = parse(data).bulk["00880200/1/7FE00010"]
    assert [data[offset : offset + length] for offset, length in bulk.spans] == [b"ab", b"cdef"]


def test_sequences_of_every_form() -> None:
    inner = explicit(0x00310010, "LO", b"x ")
    forms = [
        explicit(0x00310001, "SQ", item(inner) + item(b"")),
        explicit(0x00310001, "SQ", open_item(inner) + open_item(b"")),
        explicit(0x00310001, "SQ", item(inner) + open_item(b"") + SEQUENCE_END, UNDEFINED),
        explicit(0x00310001, "SQ", open_item(inner) + item(b"") + SEQUENCE_END, UNDEFINED),
    ]
    for form in forms:
        found = json_of(form, explicit(0x00310020, "LO", b"after "))
        assert found["00310001"] == {"vr": "SQ", "Value": [{"00310010": {"vr": "LO", "Value": ["x"]}}, {}]}
        assert found["00310020"]["Value"] == ["after"]


def test_an_unknown_of_undefined_length_is_a_sequence_in_implicit_vr() -> None:
    content = item(implicit(0x00080100, b"C1")) + open_item(implicit(0x00080104, b"meaning ")) + SEQUENCE_END
    found = json_of(explicit(0x00310001, "UN", content, UNDEFINED), explicit(0x00310020, "LO", b"after "))
    assert found["00310001"]["vr"] == "SQ"
    assert [list(entry) for entry in found["00310001"]["Value"]] == [["00080100"], ["00080104"]]
    assert found["00310020"]["Value"] == ["after"]


def test_public_attributes_sent_as_unknown_are_known_again() -> None:
    requests = item(implicit(0x00400007, b"CT ")) + item(b"")
    found = json_of(
        explicit(0x00100010, "UN", b"Wang^Li "),
        explicit(0x00280010, "UN", b"\x10\0"),
        explicit(0x00400275, "UN", requests),
    )
    assert found["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Wang^Li"}]}
    assert found["00280010"] == {"vr": "US", "Value": [16]}
    assert found["00400275"] == {"vr": "SQ", "Value": [{"00400007": {"vr": "LO", "Value": ["CT"]}}, {}]}


def test_values_sent_as_unknown_are_little_endian_also_in_big_endian() -> None:
    def big(tag: int, vr: str, value: bytes) -> bytes:
        length = struct.pack(">HI", 0, len(value)) if vr == "UN" else struct.pack(">H", len(value))
        return struct.pack(">HH2s", tag >> 16, tag & 0xFFFF, vr.encode()) + length + value

    identity = {0x00080016: b"1.2.840\0", 0x00080018: b"1.3\0", 0x0020000D: b"1.4\0", 0x0020000E: b"1.5\0"}
    elements = [big(tag, "UI", uid) for tag, uid in identity.items()]
    elements += [big(0x00280010, "UN", b"\x10\0"), big(0x00280011, "US", b"\0\x10")]
    instance = parse(raw.part10(ExplicitVRBigEndian, b"".join((*elements, big(0x00281201, "UN", b"\1\2" * 1000)))))
    assert instance.dataset["00280010"] == instance.dataset["00280011"] == {"vr": "US", "Value": [16]}
    assert instance.dataset["00281201"] == {"vr": "OW", "BulkDataURI": "bulkdata/00281201"}
    assert instance.bulk["00281201"].vr == "UN"  # which nobody swaps


def test_a_sequence_sent_as_unknown_that_is_none_keeps_its_bytes() -> None:
    content = item(implicit(0x00400007, "检查".encode(), 99))
    assert json_of(explicit(0x00400275, "UN", content))["00400275"] == {
        "vr": "UN",
        "InlineBinary": base64.b64encode(content).decode(),
    }


@pytest.mark.parametrize("again", [False, True])
def test_what_is_passed_over_leaves_nothing_behind(again: bool) -> None:
    """Neither its texts, which would be taken as evidence of their character set, nor its bulk values."""
    text, value = "王小东".encode("gb18030"), bytes(2000)
    if again:  # a sequence that is there twice: the second one is passed over
        content = explicit(0x00400007, "LO", text) + explicit(0x00420011, "OB", value)
        sequence = explicit(0x00400275, "SQ", item(b"") + SEQUENCE_END, UNDEFINED)
        tail = sequence + explicit(0x00400275, "SQ", item(content) + SEQUENCE_END, UNDEFINED)
    else:  # a sequence sent as UN whose last item is cut short
        content = implicit(0x00400007, text) + implicit(0x00420011, value)
        tail = explicit(0x00400275, "UN", item(content) + item(b"", 99))
    instance = parse(uids() + parents() + tail)
    assert instance.repair is None
    assert set(instance.bulk) == (set() if again else {"00400275"})


def test_private_unknowns_keep_their_bytes_and_their_creator() -> None:
    found = json_of(explicit(0x00310010, "UN", b"ACME"), explicit(0x00311001, "UN", b"text"))
    assert found["00310010"] == {"vr": "LO", "Value": ["ACME"]}
    assert found["00311001"] == {"vr": "UN", "InlineBinary": "dGV4dA=="}


def test_implicit_vr_takes_private_vrs_from_the_dictionary_of_the_creator_only() -> None:
    siemens = implicit(0x00290010, b"SIEMENS CSA HEADER") + implicit(0x00291008, b"IMAGE NUM 4 ")
    other = implicit(0x00290010, b"ACME") + implicit(0x00291008, b"IMAGE NUM 4 ")
    head = implicit(0x00080016, b"1.2.840.10008.5.1.4.1.1.2\0") + implicit(0x00080018, b"1.2.3\0")
    head += implicit(0x0020000D, b"1.2.4\0") + implicit(0x0020000E, b"1.2.5\0")
    assert parse(head + siemens).dataset["00291008"] == {"vr": "CS", "Value": ["IMAGE NUM 4"]}
    assert parse(head + other).dataset["00291008"]["vr"] == "UN"


@pytest.mark.parametrize(("representation", "vr", "value"), [(0, "US", 65535), (1, "SS", -1)])
def test_implicit_vr_settles_the_sign_by_pixel_representation(representation: int, vr: str, value: int) -> None:
    data = part10(ct(PixelRepresentation=representation, SmallestImagePixelValue=value), ImplicitVRLittleEndian)
    assert parse(data).dataset["00280106"] == {"vr": vr, "Value": [value]}


def test_the_first_of_two_equal_tags_counts_and_the_json_ascends() -> None:
    found = json_of(
        explicit(0x00310009, "LO", b"nine"),
        explicit(0x00310003, "LO", b"first "),
        explicit(0x00310003, "LO", b"second"),
        explicit(0x00310009, "SQ", item(explicit(0x00310001, "OB", bytes(2000))) + SEQUENCE_END, UNDEFINED),
    )
    assert list(found) == ["00310003", "00310009"]
    assert found["00310003"]["Value"] == ["first"]
    assert found["00310009"]["Value"] == ["nine"]


def test_group_lengths_and_groups_of_command_and_meta_are_left_out() -> None:
    data = explicit(0x00080000, "UL", b"\0\0\0\0") + uids() + parents() + explicit(0x00280000, "UL", b"\1\0\0\0")
    assert list(parse(data).dataset) == ["00080016", "00080018", "0020000D", "0020000E"]
    inside = uids() + parents() + explicit(0x00020010, "UI", b"1.2\0") + explicit(0x00000900, "US", b"\0\0")
    assert list(parse(inside).dataset) == ["00080016", "00080018", "0020000D", "0020000E"]


def test_an_unknown_vr_has_the_long_form_and_bad_letters_are_found_out() -> None:
    head = struct.pack("<HH2sHI", 0x0031, 1, b"ZZ", 0, 4) + b"abcd"
    assert json_of(head, explicit(0x00310020, "LO", b"after "))["00310001"] == {"vr": "UN", "InlineBinary": "YWJjZA=="}
    short = struct.pack("<HH2sH", 0x0031, 1, b"??", 4) + b"abcd"
    assert json_of(short, explicit(0x00310020, "LO", b"after "))["00310020"]["Value"] == ["after"]
    single = struct.pack("<HHI", 0x0010, 0x0020, 4) + b"P123"
    assert json_of(single, explicit(0x00310020, "LO", b"after "))["00100020"] == {"vr": "LO", "Value": ["P123"]}


def implicit_instance(*elements: bytes) -> bytes:
    head = implicit(0x00080016, b"1.2.840.10008.5.1.4.1.1.2\0") + implicit(0x00080018, b"1.2.3\0")
    return head + implicit(0x0020000D, b"1.2.4\0") + implicit(0x0020000E, b"1.2.5\0") + b"".join(elements)


@pytest.mark.parametrize("wrap", [item, open_item])
@pytest.mark.parametrize("after", [b"", implicit(0x300A00C6, b"HFS ")])
def test_a_length_that_spells_a_vr_is_a_length(wrap: Callable[[bytes], bytes], after: bytes) -> None:
    decimals = b"1.5\\" * (0x5344 // 4)  # the length is written "DS"
    contours = implicit(0x30060040, wrap(implicit(0x30060050, decimals) + after))
    (contour,) = parse(implicit_instance(contours)).dataset["30060040"]["Value"]
    assert contour["30060050"]["Value"] == [1.5] * (0x5344 // 4) + [None]
    assert ("300A00C6" in contour) is bool(after)
    names = b"CT 64 SLICES\\" * (0x4F4C // 13) + b"A" * (0x4F4C % 13)  # "LO"
    departments = implicit(0x30100001, wrap(implicit(0x00081040, names) + after))
    (department,) = parse(implicit_instance(departments)).dataset["30100001"]["Value"]
    assert len(department["00081040"]["Value"]) == 0x4F4C // 13 + 1


def test_a_length_that_spells_a_vr_may_be_the_first_of_all() -> None:
    types = implicit(0x00080008, b"ORIGINAL\\" * (0x5343 // 9) + b"A" * (0x5343 % 9))  # "CS"
    data = types + implicit_instance()
    assert len(data) % 2
    instance = parse(data)
    assert instance.transfer_syntax == ImplicitVRLittleEndian
    assert len(instance.dataset["00080008"]["Value"]) == 0x5343 // 9 + 1


@pytest.mark.parametrize("wrap", [item, open_item])
@pytest.mark.parametrize(
    "content",
    [
        explicit(0x00080100, "SH", b"C1"),
        explicit(0x00080100, "SH", b"C1") + explicit(0x00080104, "LO", b"meaning "),
        explicit(0x00081140, "SQ", open_item(explicit(0x00081150, "UI", b"1.2\0")) + SEQUENCE_END, UNDEFINED),
    ],
)
def test_explicit_vr_in_an_item_is_seen_before_any_bytes(wrap: Callable[[bytes], bytes], content: bytes) -> None:
    """Whatever lies where the length in implicit VR would lead to, even what looks like an element."""
    pixels = implicit(0x7FE00010, implicit(0x7FE00010, b"") * (3 << 16))
    (found,) = parse(implicit_instance(implicit(0x00400275, wrap(content)), pixels)).dataset["00400275"]["Value"]
    assert all(entry.get("Value") for entry in found.values())


def test_an_item_may_switch_to_explicit_vr() -> None:
    switched = implicit(0x00400275, item(explicit(0x00400007, "LO", b"CT")))
    plain = b"".join(
        implicit(tag, value)
        for tag, value in [
            (0x00080016, b"1.2.840.10008.5.1.4.1.1.2\0"),
            (0x00080018, b"1.2.3\0"),
            (0x0020000D, b"1.2.4\0"),
            (0x0020000E, b"1.2.5\0"),
        ]
    )
    assert parse(plain + switched).dataset["00400275"]["Value"] == [{"00400007": {"vr": "LO", "Value": ["CT"]}}]


def test_nesting_is_bounded() -> None:
    def nested(levels: int) -> bytes:
        data = b""
        for _ in range(levels):
            data = explicit(0x00310001, "SQ", open_item(data) + SEQUENCE_END, UNDEFINED)
        return data

    entry = parse(uids() + parents() + nested(80)).dataset["00310001"]
    for _ in range(79):
        entry = entry["Value"][0]["00310001"]
    assert entry == {"vr": "SQ", "Value": [{}]}
    with pytest.raises(Invalid, match="nested deeper than 80"):
        parse(uids() + parents() + nested(81))
    with pytest.raises(Invalid, match="nested deeper than 80"):
        parse(uids() + parents() + nested(20_000))


def test_ten_thousand_items() -> None:
    content = open_item(explicit(0x00310002, "LO", b"ab")) * 10_000
    found = json_of(explicit(0x00310001, "SQ", content + SEQUENCE_END, UNDEFINED))
    assert len(found["00310001"]["Value"]) == 10_000


LEFTOVERS = "bytes after the end of the data set are ignored"


def test_leftovers_after_the_data_set_are_ignored() -> None:
    whole = uids() + parents() + explicit(0x7FE00010, "OW", b"abcd")
    for rest, warned in [
        (explicit(0xFFFCFFFC, "OB", bytes(20)), False),
        (bytes(3), True),
        (bytes(513), True),
        (b"\xde\xad\xbe\xef", True),
        (b"\xde\xad\xbe\xef" * 10, True),
    ]:
        instance = parse(whole + rest)
        assert list(instance.dataset)[-1] == "7FE00010"
        assert (LEFTOVERS in instance.warnings) is warned
    assert parse(uids() + parents() + bytes(600)).warnings == (LEFTOVERS,)
    after = explicit(0xFFFAFFFA, "SQ", item(explicit(0x04000005, "US", b"\1\0")))
    assert list(parse(whole + after).dataset)[-1] == "FFFAFFFA"


def test_a_delimiter_too_many_is_passed_over() -> None:
    found = json_of(SEQUENCE_END, ITEM_END, explicit(0x00310020, "LO", b"after "))
    assert found["00310020"]["Value"] == ["after"]
