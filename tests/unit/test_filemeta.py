"""File meta information: written as the standard wants it, read however it comes."""

import io
import struct

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from storage.dicom import filemeta
from storage.dicom.identity import is_uid
from storage.dicom.parse import parse
from storage.errors import Fault, Invalid
from tests.raw import explicit, implicit
from tests.samples import CT, ct, dataset_bytes, part10

SYNTAX = "1.2.840.10008.1.2.4.50"


def test_what_is_built_is_what_pydicom_reads() -> None:
    built = filemeta.build(CT, "1.2.3.4", SYNTAX, source_ae_title="CT1")
    meta = pydicom.dcmread(io.BytesIO(built)).file_meta
    assert built[:132] == bytes(128) + b"DICM"
    assert meta.FileMetaInformationGroupLength == len(built) - 144
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, "1.2.3.4")
    assert meta.TransferSyntaxUID == SYNTAX
    assert meta.SourceApplicationEntityTitle == "CT1"
    assert is_uid(meta.ImplementationClassUID) and meta.ImplementationClassUID.startswith("2.25.")
    assert len(meta.ImplementationVersionName) <= 16


def test_without_an_ae_title_there_is_no_such_element() -> None:
    meta = pydicom.dcmread(io.BytesIO(filemeta.build(CT, "1.2.3", SYNTAX))).file_meta
    assert "SourceApplicationEntityTitle" not in meta


def test_what_is_built_makes_a_bare_data_set_whole() -> None:
    file = part10(ct())
    body = dataset_bytes(file)
    instance = parse(body)
    assert instance.header_length == len(instance.preface)
    again = parse(instance.preface + body)
    assert again.preface == b""
    assert again.header_length == instance.header_length
    assert (again.identity, again.digest, again.metadata) == (instance.identity, instance.digest, instance.metadata)
    assert again.warnings == ()


@pytest.mark.parametrize("missing", [0, 128, 132])
def test_a_missing_preamble_or_prefix_is_put_before(missing: int) -> None:
    file = bytes(128) + part10(ct())[128:]
    received = file[missing:]
    instance = parse(received)
    assert instance.preface + received == file
    assert instance.header_length == 144 + int.from_bytes(file[140:144], "little")


def test_the_bytes_of_a_preamble_do_not_matter() -> None:
    file = part10(ct())
    assert parse(b"II*\0" + bytes(range(124)) + file[128:]).digest == parse(file).digest


def meta_of(*elements: bytes) -> bytes:
    return bytes(128) + b"DICM" + b"".join(elements) + dataset_bytes(part10(ct()))


SYNTAX_ELEMENT = explicit(0x00020010, "UI", ExplicitVRLittleEndian.encode() + b"\0")


@pytest.mark.parametrize("length", [0, 1, 12, 5000, 0xFFFFFFFF])
def test_a_wrong_group_length_is_tolerated(length: int) -> None:
    data = meta_of(explicit(0x00020000, "UL", struct.pack("<I", length)), SYNTAX_ELEMENT)
    assert parse(data).transfer_syntax == ExplicitVRLittleEndian
    assert parse(data).dataset == parse(part10(ct())).dataset


def test_a_missing_group_length_is_tolerated() -> None:
    assert parse(meta_of(SYNTAX_ELEMENT)).dataset == parse(part10(ct())).dataset


def test_implicit_vr_is_tolerated() -> None:
    syntax = implicit(0x00020010, ExplicitVRLittleEndian.encode() + b"\0")
    data = meta_of(implicit(0x00020000, struct.pack("<I", len(syntax))), syntax)
    assert parse(data).transfer_syntax == ExplicitVRLittleEndian
    assert parse(data).warnings == ()


def test_a_missing_transfer_syntax_is_found_out() -> None:
    instance = parse(meta_of(explicit(0x00020002, "UI", CT.encode() + b"\0")))
    assert instance.transfer_syntax == ExplicitVRLittleEndian
    assert instance.warnings == ("the file meta information has no Transfer Syntax UID",)


def test_other_uids_than_those_of_the_data_set_are_noted() -> None:
    data = meta_of(explicit(0x00020002, "UI", b"1.2\0"), explicit(0x00020003, "UI", b"1.9\0"), SYNTAX_ELEMENT)
    assert parse(data).identity.sop_class == CT
    assert len(parse(data).warnings) == 2


@pytest.mark.parametrize("length", [0xFFFF, 0x7000])
def test_file_meta_information_that_is_cut_short_is_malformed(length: int) -> None:
    with pytest.raises(Invalid, match="at byte 132") as error:
        parse(bytes(128) + b"DICM" + explicit(0x00020010, "UI", b"1.2.840", length))
    assert error.value.fault is Fault.MALFORMED
