"""The DICOM JSON Model: equal to pydicom's but for the rules of `tests.oracle`, and the cases those leave open."""

import io
import json
import struct
import warnings
from pathlib import Path
from typing import Any

import orjson
import pydicom
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
from tests import oracle
from tests.samples import corpus, ct, part10

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


def element(tag: int, vr: str, value: bytes) -> bytes:
    """An element in explicit VR little endian, as it stands: nothing padded, nothing checked."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV") or not vr.isalpha():
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


IDENTITY = (
    element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0")
    + element(0x00080018, "UI", b"1.2.3\0")
    + element(0x0020000D, "UI", b"1.2.4\0")
    + element(0x0020000E, "UI", b"1.2.5\0")
)


def json_of(tag: int, vr: str, value: bytes) -> dict[str, Any]:
    """How one element with these bytes appears in the JSON."""
    data = IDENTITY + element(tag, vr, value)
    found: dict[str, Any] = orjson.loads(parse(data).metadata)[f"{tag:08X}"]
    return found


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
