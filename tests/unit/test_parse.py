"""Parsing whole instances: identity, transfer syntax, digest, and every kind of bytes that is none."""

import mmap
import random
import struct
import time
import warnings
import zlib
from pathlib import Path

import orjson
import pydicom
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from storage.dicom.frames import Layout
from storage.dicom.identity import Identity
from storage.dicom.parse import parse
from storage.errors import Fault, Invalid
from tests.raw import encapsulated, explicit, implicit, item, parents, pixel_description, uids
from tests.raw import part10 as raw_part10
from tests.samples import CT, ROOT, corpus, ct, dataset_bytes, part10, valid_files

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
GE_PRIVATE = "1.2.840.113619.5.2"

# Files of the corpus that are refused, and why; all others are stored.
REFUSED = {
    Fault.SOP_CLASS: {
        "DICOMDIR",
        *(f"DICOMDIR-{kind}" for kind in ("bigEnd", "empty.dcm", "implicit", "nooffset", "nopatient", "reordered")),
    },
    Fault.MALFORMED: {"MR_truncated.dcm", "rtplan_truncated.dcm", "emri_small_jpeg_2k_lossless_too_short.dcm"},
    Fault.NOT_DICOM: {"no_meta.dcm"},
    Fault.BAD_UID: {"bad_sequence.dcm"},
    Fault.MISSING_UID: {
        "chrSQEncoding.dcm",
        "chrSQEncoding1.dcm",
        "fall.dcm",
        "hotiron.dcm",
        "hotmetalblue.dcm",
        "pet.dcm",
        "pet20step.dcm",
        "spring.dcm",
        "summer.dcm",
        "winter.dcm",
        "JPEGLSNearLossless_08.dcm",
        "JPEGLSNearLossless_16.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_jls_lossy_sample.dcm",
        "UN_sequence.dcm",
        "empty_charset_LEI.dcm",
        "meta_missing_tsyntax.dcm",
        "nested_priv_SQ.dcm",
        "no_meta_group_length.dcm",
        "priv_SQ.dcm",
    },
}


def fault_of(data: bytes) -> Fault:
    with pytest.raises(Invalid) as error:
        parse(data)
    return error.value.fault


def test_of_the_corpus_exactly_these_files_are_refused() -> None:
    refused: dict[Fault, set[str]] = {}
    for path in corpus():
        try:
            parse(path.read_bytes())
        except Invalid as error:
            refused.setdefault(error.fault, set()).add(path.name)
    assert refused == REFUSED


def test_identity_and_transfer_syntax_are_those_that_pydicom_reads() -> None:
    checked = 0
    for path, data in valid_files():
        if path.name in {"MR_truncated.dcm", "rtplan_truncated.dcm", "bad_sequence.dcm"}:
            continue
        try:
            instance = parse(data)
        except Invalid as error:
            assert path.name in REFUSED[error.fault]
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(path)
        uid = instance.identity
        assert (uid.study_uid, uid.series_uid) == (ds.StudyInstanceUID, ds.SeriesInstanceUID)
        assert (uid.sop_uid, uid.sop_class) == (ds.SOPInstanceUID, ds.SOPClassUID)
        assert instance.transfer_syntax == ds.file_meta.TransferSyntaxUID
        assert instance.preface == b""
        checked += 1
    assert checked > 200


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_gives_the_same(syntax: str, kind: type, tmp_path: Path) -> None:
    data = part10(ct(), syntax)
    instance = parse(kind(data))
    assert instance == parse(data)
    assert instance.identity == Identity(f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1", CT)
    assert instance.transfer_syntax == syntax
    file = tmp_path / "instance.dcm"
    file.write_bytes(data)
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert parse(mapped) == instance


def test_a_refused_mapping_can_be_closed(tmp_path: Path) -> None:
    file = tmp_path / "instance.dcm"
    file.write_bytes(part10(ct())[:-40])
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        with pytest.raises(Invalid) as error:
            parse(mapped)
        assert error.value.__traceback__ is not None
    assert mapped.closed


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_digest_is_of_the_transfer_syntax_and_the_data_set(syntax: str) -> None:
    data = part10(ct(), syntax)
    assert parse(data).digest == blake3(syntax.encode() + dataset_bytes(data)).digest()


def test_the_metadata_is_the_data_set_encoded() -> None:
    instance = parse(part10(ct()))
    assert orjson.loads(instance.metadata) == instance.dataset


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
def test_a_bare_data_set_is_recognised(syntax: str) -> None:
    body = dataset_bytes(part10(ct(), syntax))
    instance = parse(body)
    assert instance.transfer_syntax == syntax
    whole = parse(instance.preface + body)
    assert whole.dataset == instance.dataset == parse(part10(ct(), syntax)).dataset


@pytest.mark.parametrize("declared", SYNTAXES[:3])
@pytest.mark.parametrize("actual", SYNTAXES[:3])
def test_bytes_that_contradict_their_transfer_syntax_are_read_as_what_they_are(declared: str, actual: str) -> None:
    instance = parse(raw_part10(declared, dataset_bytes(part10(ct(), actual))))
    assert instance.transfer_syntax == actual
    assert instance.dataset == parse(part10(ct(), actual)).dataset
    assert bool(instance.warnings) is (declared != actual)


def test_compressed_frames_behind_headers_in_implicit_vr_are_kept() -> None:
    path = next(path for path in corpus() if path.name == "SC_rgb_jpeg.dcm")
    instance = parse(path.read_bytes())
    assert instance.transfer_syntax == "1.2.840.10008.1.2.4.50"
    assert (instance.frames.layout, instance.frames.count) == (Layout.FRAGMENTS, 1)
    assert "begins as 1.2.840.10008.1.2" in instance.warnings[0]


@pytest.mark.parametrize("actual", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_contradiction_that_leaves_the_pixels_in_doubt_is_refused(actual: str) -> None:
    data = raw_part10("1.2.840.10008.1.2.4.50", dataset_bytes(part10(ct(), actual)))
    assert fault_of(data) is Fault.TRANSFER_SYNTAX


def test_a_private_transfer_syntax_in_implicit_vr() -> None:
    body = dataset_bytes(part10(ct(), ImplicitVRLittleEndian))
    instance = parse(raw_part10(GE_PRIVATE, body))
    assert instance.transfer_syntax == GE_PRIVATE
    assert instance.frames.layout is Layout.NATIVE
    assert instance.warnings == ()


@pytest.mark.parametrize("leaf", ["94", "95", "204", "205"])
def test_pixel_data_that_lies_elsewhere_is_refused(leaf: str) -> None:
    native = dataset_bytes(part10(ct()))
    deflated = dataset_bytes(part10(ct(), DeflatedExplicitVRLittleEndian))
    body = deflated if leaf.endswith("5") else native
    assert fault_of(raw_part10(f"1.2.840.10008.1.2.4.{leaf}", body)) is Fault.TRANSFER_SYNTAX


def test_an_unknown_transfer_syntax_is_explicit_vr_or_cannot_be_read() -> None:
    unknown = "1.2.3.4.5"
    native = dataset_bytes(part10(ct()))
    assert parse(raw_part10(unknown, native)).transfer_syntax == unknown
    fragments = uids() + parents() + pixel_description(4, 4) + encapsulated([b"abcd"])
    assert parse(raw_part10(unknown, fragments)).frames.layout is Layout.FRAGMENTS
    assert fault_of(raw_part10(unknown, native[:-40])) is Fault.TRANSFER_SYNTAX
    assert fault_of(raw_part10(unknown, bytes(range(100, 200)))) is Fault.TRANSFER_SYNTAX


def test_deflated_bytes_are_bounded_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    data = part10(ct(), DeflatedExplicitVRLittleEndian)
    instance = parse(data)
    assert instance.frames.layout is Layout.NATIVE
    body = zlib.decompress(dataset_bytes(data), -15)
    ((offset, length),) = instance.frames.spans(1)
    assert body[offset : offset + length] == ct().PixelData
    assert fault_of(data[:-30]) is Fault.MALFORMED
    plain = raw_part10(DeflatedExplicitVRLittleEndian, dataset_bytes(part10(ct())))
    assert fault_of(plain) is Fault.TRANSFER_SYNTAX
    monkeypatch.setattr("storage.dicom.parse.MAX_INFLATED_BYTES", 1000)
    assert fault_of(data) is Fault.TOO_LARGE


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_a_missing_or_empty_uid_is_named(keyword: str) -> None:
    for ds in (ct(**{keyword: None}), ct(**{keyword: ""})):
        body = dataset_bytes(part10(ds)) if keyword.startswith("S") and "SOP" not in keyword else _body(ds)
        assert fault_of(body) is Fault.MISSING_UID


def _body(ds: pydicom.Dataset) -> bytes:
    stream = pydicom.filebase.DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    pydicom.filewriter.write_dataset(stream, ds)
    return bytes(stream.getvalue())


@pytest.mark.parametrize(
    "uid", [b"../../etc/passwd", b"1.2..3\0", b"1.2.3.x\0", b"1" * 66, b"1.2\\1.3\0", b"1 2\0", b"\xff\xfe"]
)
def test_an_invalid_uid_is_refused_without_being_repeated(uid: bytes) -> None:
    with pytest.raises(Invalid) as error:
        parse(uids(sop=uid) + parents())
    assert error.value.fault is Fault.BAD_UID
    assert "passwd" not in str(error.value)
    assert fault_of(uids() + parents(series=uid)) is Fault.BAD_UID


def test_only_the_top_level_identifies() -> None:
    inner = uids(sop=b"9.9\0") + parents(study=b"9.8\0", series=b"9.7\0")
    sequence = explicit(0x00081140, "SQ", item(inner))
    assert parse(uids() + sequence + parents()).identity.sop_uid == "1.2.3"
    assert fault_of(sequence + parents()) is Fault.MISSING_UID


def test_a_dicomdir_is_refused() -> None:
    directory = uids(sop_class=b"1.2.840.10008.1.3.10")
    assert fault_of(directory + parents()) is Fault.SOP_CLASS


@pytest.mark.parametrize("data", [b"", b"\0", b"DICM", b"hello, world", b"%PDF-1.7" * 100, bytes(5000), b"\xff" * 3000])
def test_other_files_are_not_dicom(data: bytes) -> None:
    assert fault_of(data) is Fault.NOT_DICOM


@given(st.binary(max_size=400))
def test_garbage_never_raises_anything_else(data: bytes) -> None:
    for garbage in (data, bytes(128) + b"DICM" + data, raw_part10(ExplicitVRLittleEndian, data), uids() + data):
        with pytest.raises(Invalid):
            parse(garbage)


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
def test_a_file_cut_anywhere_is_refused(syntax: str) -> None:
    data = part10(ct(size=4), syntax)
    boundary = data.index(struct.pack(">HH" if syntax == ExplicitVRBigEndian else "<HH", 0x7FE0, 0x0010))
    whole = {at for at in range(len(data)) if _is_readable(data[:at])}
    # Only where the data set ends between two elements after all UIDs does a shorter one remain.
    assert all(at <= boundary for at in whole)
    assert boundary in whole
    for at in set(range(200, len(data))) - whole:
        with pytest.raises(Invalid) as error:
            parse(data[:at])
        assert error.value.fault in (Fault.MALFORMED, Fault.MISSING_UID, Fault.NOT_DICOM)
        if error.value.fault is Fault.MALFORMED:
            assert "at byte " in str(error.value)


def _is_readable(data: bytes) -> bool:
    try:
        parse(data)
    except Invalid:
        return False
    return True


@pytest.mark.parametrize(
    "tail",
    [
        explicit(0x00310001, "LO", b"abc", 4),
        explicit(0x00310001, "OB", b"abc", 0xFFFFFFF0),
        explicit(0x7FE00010, "OW", b"abcd", 6),
        explicit(0x7FE10010, "OB", b"abcd", 600),
        explicit(0x00310001, "SQ", item(b"", 8)),
        explicit(0x00310001, "SQ", item(b"") + b"\xfe\xff", 0xFFFFFFFF),
        explicit(0x00310001, "SQ", b"", 0xFFFFFFFF),
        explicit(0x00310001, "SQ", item(b"", 0xFFFFFFFF), 0xFFFFFFFF),
        explicit(0x00310001, "SQ", item(b"", 0xFFFFFFFF)),
        explicit(0x00310001, "SQ", explicit(0x00310002, "LO", b"ab")),
        explicit(0x00310001, "UN", item(implicit(0x00310002, b"ab", 9)), 0xFFFFFFFF),
        explicit(0x00310001, "OB", item(b"ab", 9), 0xFFFFFFFF),
        explicit(0x00310001, "OB", item(b"ab"), 0xFFFFFFFF),
        explicit(0x7FE00010, "OB", item(b"") + item(b"ab", 0xFFFFFFFF), 0xFFFFFFFF),
        b"\x31\0\1",
    ],
)
def test_lengths_that_cannot_be_true_are_malformed(tail: bytes) -> None:
    with pytest.raises(Invalid, match=r"at byte \d+$") as error:
        parse(uids() + parents() + tail)
    assert error.value.fault is Fault.MALFORMED


def test_faults_do_not_repeat_values() -> None:
    secret = explicit(0x00100010, "PN", b"Secret^Name ") + explicit(0x00100020, "LO", b"S3CRET", 5000)
    with pytest.raises(Invalid) as error:
        parse(uids() + secret)
    assert "ecret" not in str(error.value) and "S3" not in str(error.value)


@pytest.mark.parametrize(("vr", "raw"), [("UL", b"\xff" * 4), ("IS", b"9" * 15), ("UV", b"\xff" * 6 + b"\0\0")])
@pytest.mark.parametrize("tag", [0x00280002, 0x00280010, 0x00280011, 0x00280100])
def test_pixel_descriptions_of_another_vr_that_are_too_large_give_no_frames(vr: str, raw: bytes, tag: int) -> None:
    elements = {0x00280002: 1, 0x00280010: 2, 0x00280011: 2, 0x00280100: 8}
    described = b"".join(
        explicit(each, vr, raw) if each >= tag else explicit(each, "US", struct.pack("<H", number))
        for each, number in elements.items()
    )
    instance = parse(uids() + parents() + described + explicit(0x7FE00010, "OW", b"abcd"))
    assert (instance.frames.layout, instance.frames.count) == (Layout.NONE, 0)
    assert "no valid description" in instance.warnings[0]


@pytest.mark.parametrize("frames", ["2147483648", "999999999999999"])
def test_a_number_of_frames_that_its_vr_cannot_hold_is_none(frames: str) -> None:
    data = uids() + parents() + pixel_description(2, 2, frames=frames) + explicit(0x7FE00010, "OW", b"abcdefgh")
    assert parse(data).frames.count == 1


def test_what_nobody_foresaw_is_malformed_and_keeps_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def divide(*arguments: object) -> None:
        raise ZeroDivisionError("Secret^Name")

    monkeypatch.setattr("storage.dicom.parse.frames_of", divide)
    with pytest.raises(Invalid) as error:
        parse(part10(ct()))
    assert error.value.fault is Fault.MALFORMED
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert "Secret" not in str(error.value)


def test_runs_of_zeros_cost_no_more_than_their_length() -> None:
    implicit_body = dataset_bytes(part10(ct(), ImplicitVRLittleEndian))
    started = time.monotonic()
    assert fault_of(implicit_body[:8] + bytes(4 << 20) + b"\1") in (Fault.MALFORMED, Fault.NOT_DICOM)
    instance = parse(raw_part10(ImplicitVRLittleEndian, implicit_body[:-520] + bytes(1 << 20) + implicit_body[-520:]))
    assert time.monotonic() - started < 10
    assert instance.dataset == parse(raw_part10(ImplicitVRLittleEndian, implicit_body)).dataset


def test_a_bad_first_vr_is_not_taken_for_implicit_vr() -> None:
    first = struct.pack("<HH2sH", 0x0008, 0x0008, b"??", 2) + b"AB"
    data = raw_part10(ExplicitVRLittleEndian, first + uids() + parents() + explicit(0x7FE00010, "OW", bytes(400_000)))
    assert parse(data).transfer_syntax == ExplicitVRLittleEndian


def test_damaged_files_are_read_or_refused_in_time() -> None:
    random_bytes = random.Random(20260311)
    files = [path.read_bytes() for path in corpus() if path.stat().st_size < 60_000]
    for _ in range(600):
        data = bytearray(random_bytes.choice(files))
        for _ in range(random_bytes.choice((1, 1, 3, 20))):
            data[random_bytes.randrange(min(len(data), 4000))] = random_bytes.choice(
                (0, 1, 0x7F, 0xFE, 0xFF, random_bytes.randrange(256))
            )
        if random_bytes.random() < 0.3:
            del data[random_bytes.randrange(len(data)) :]
        started = time.monotonic()
        try:
            instance = parse(data)
        except Invalid:
            continue
        finally:
            assert time.monotonic() - started < 3
        orjson.loads(instance.metadata)
        for number in range(1, min(instance.frames.count, 3) + 1):
            assert all(offset >= 0 and length >= 0 for offset, length in instance.frames.spans(number))
