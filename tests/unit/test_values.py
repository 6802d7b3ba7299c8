"""The values of each VR in the DICOM JSON Model (PS3.18 F.2)."""

import base64
import struct
import warnings
from typing import Any

import pytest
from pydicom.uid import ExplicitVRBigEndian

from storage.dicom.parse import parse
from tests.raw import explicit, json_of, values_of
from tests.samples import ct, part10


@pytest.mark.parametrize(
    ("vr", "raw", "value"),
    [
        ("IS", b"12 ", [12]),
        ("IS", b"-7\\\\+3", [-7, None, 3]),
        ("IS", b"1.5", ["1.5"]),
        ("IS", b"1_0", ["1_0"]),
        ("IS", b"99999999999999999999", ["99999999999999999999"]),
        ("DS", b"1.50\\-.5\\2.", [1.5, -0.5, 2.0]),
        ("DS", b"NaN\\inf\\1e999\\1,5", ["NaN", "inf", "1e999", "1,5"]),
        ("DS", b"0.1234567890123456789", ["0.1234567890123456789"]),
        ("DS", b"9007199254740993", ["9007199254740993"]),
        ("DS", b"1e-400", ["1e-400"]),
        ("UV", struct.pack("<QQ", 2**53, 2**53 + 1), [2**53, str(2**53 + 1)]),
        ("SV", struct.pack("<q", -(2**63)), [str(-(2**63))]),
        ("AT", struct.pack("<HH", 0x0018, 0x106A), ["0018106A"]),
        ("LT", b"  a\\b ", ["  a\\b"]),
        ("UT", b"a\\b", ["a\\b"]),
        ("UR", b"http://a/b\\c ", ["http://a/b\\c"]),
        ("LO", b" a \\\\ b\0", ["a", None, "b"]),
        ("PN", b"A^B==C\\\\D=", [{"Alphabetic": "A^B", "Phonetic": "C"}, None, {"Alphabetic": "D"}]),
        ("DA", b"2024.01.02", ["2024.01.02"]),
        ("CS", b"\xd0\xd8", ["ÐØ"]),
        ("SH", b"a\x01\tb", ["a\x01\tb"]),
    ],
)
def test_values(vr: str, raw: bytes, value: list[Any]) -> None:
    scs = explicit(0x00080005, "CS", b"ISO_IR 100")
    found = json_of(scs, explicit(0x00310001, vr, raw))
    assert found["00310001"] == {"vr": vr, "Value": value}


@pytest.mark.parametrize("vr", ["LO", "PN", "IS", "DS", "US", "FD", "AT", "SQ", "OB", "UN", "UT", "LT"])
def test_an_empty_value_has_only_its_vr(vr: str) -> None:
    assert values_of(vr, b"") == {"vr": vr}


@pytest.mark.parametrize("vr", ["LO", "PN", "LT", "CS", "IS"])
def test_padding_alone_is_an_empty_value(vr: str) -> None:
    assert values_of(vr, b"  ") == {"vr": vr}


@pytest.mark.parametrize(
    ("vr", "raw"),
    [
        ("FL", struct.pack("<f", float("nan"))),
        ("FD", struct.pack("<dd", 1.0, float("inf"))),
        ("US", b"\1\2\3"),
        ("UV", b"1234"),
        ("OW", b"\1\2\3\4"),
    ],
)
def test_what_json_cannot_say_is_inline_binary(vr: str, raw: bytes) -> None:
    assert values_of(vr, raw) == {"vr": vr, "InlineBinary": base64.b64encode(raw).decode()}


def test_a_broken_value_of_a_vr_that_must_not_be_binary_is_unknown() -> None:
    assert values_of("AT", b"\1\2") == {"vr": "UN", "InlineBinary": "AQI="}


def test_big_endian_values_are_given_in_little_endian() -> None:
    ds = ct(RedPaletteColorLookupTableData=b"\1\2\3\4", SelectorODValue=bytes(range(8)), SelectorULValue=[1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = part10(ds, ExplicitVRBigEndian)
    found = parse(data).dataset
    assert found["00281201"] == {"vr": "OW", "InlineBinary": base64.b64encode(b"\2\1\4\3").decode()}
    assert found["00720073"]["InlineBinary"] == base64.b64encode(bytes(range(8))[::-1]).decode()
    assert found["00720078"]["Value"] == [1, 2]
    assert found["00280010"]["Value"] == [16]
