"""The limits of parsing: whatever the bytes are, memory stays below them."""

import mmap
import multiprocessing
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from storage.dicom.parse import parse
from storage.errors import Fault, Invalid
from tests.raw import SEQUENCE_END, UNDEFINED, encapsulated, explicit, implicit, item, parents, pixel_description, uids
from tests.raw import part10 as raw_part10


def fault_of(data: bytes) -> Fault:
    with pytest.raises(Invalid) as error:
        parse(data)
    return error.value.fault


def test_too_many_elements_or_fragments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.dicom.jsonmodel.MAX_ELEMENTS", 50)
    monkeypatch.setattr("storage.dicom.jsonmodel.MAX_FRAGMENTS", 50)
    assert fault_of(uids() + parents() + explicit(0x00310001, "SQ", item(b"") * 60)) is Fault.TOO_LARGE
    many = b"".join(explicit(0x00310001 + number, "LO", b"") for number in range(60))
    assert fault_of(uids() + parents() + many) is Fault.TOO_LARGE
    assert fault_of(uids() + parents() + encapsulated([b""] * 60)) is Fault.TOO_LARGE


def test_fragments_are_counted_over_all_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.dicom.jsonmodel.MAX_FRAGMENTS", 50)
    value = item(b"") * 31 + b"\xfe\xff\xdd\xe0\0\0\0\0"
    several = [explicit(0x00310001 + number, "OB", value, 0xFFFFFFFF) for number in range(2)]
    assert parse(uids() + parents() + several[0])
    assert fault_of(uids() + parents() + b"".join(several)) is Fault.TOO_LARGE


HOSTILE = {
    "empty": (explicit(0x00410001, "LO", b""), Fault.TOO_LARGE),
    "texts": (explicit(0x00410001, "LO", b"\xe4bcdef"), Fault.TOO_LARGE),
    "numbers": (explicit(0x00410001, "US", b"\x60\xea" * 100), Fault.TOO_LARGE),
    "names": (explicit(0x00410001, "PN", b"A\\" * 100), Fault.TOO_LARGE),
    "decimals": (explicit(0x00410001, "DS", b"1\\" * 120), Fault.TOO_LARGE),
    "long numbers": (explicit(0x00410001, "US", b"\x60\xea" * 32767), None),
    "control characters": (explicit(0x00410001, "UT", b"\1" * 200_000), Fault.TOO_LARGE),
    "bulk": (explicit(0x00410001, "OB", bytes(1030)), None),
    "items": (b"", Fault.TOO_LARGE),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_memory_is_bounded_for_a_header_of_100_mb(kind: str, tmp_path: Path) -> None:
    element, fault = HOSTILE[kind]
    file = tmp_path / "hostile.dcm"
    one = item(element)
    with file.open("wb") as stream:
        stream.write(uids() + explicit(0x00081140, "SQ", b"", 0xFFFFFFFF))
        for _ in range(100):
            stream.write(one * ((1 << 20) // len(one)))
        stream.write(b"\xfe\xff\xdd\xe0\0\0\0\0" + parents())
    found = None
    with file.open("rb") as mapped_file, mmap.mmap(mapped_file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        before = peak_memory_bytes(reset=True)
        try:
            parse(mapped)
        except Invalid as error:
            found = error.fault
        after = peak_memory_bytes()
    assert found is fault
    assert after - before < 260 << 20


def test_long_values_become_bulk_data_when_room_is_short() -> None:
    contour = explicit(0x30060050, "DS", (b"-123.45\\" * 300)[:-1] + b" ")
    instance = parse(uids() + parents() + explicit(0x30060040, "SQ", item(contour) * 10_000 + SEQUENCE_END, UNDEFINED))
    entries = [each["30060050"] for each in instance.dataset["30060040"]["Value"]]
    inline = sum("Value" in entry for entry in entries)
    assert 3000 < inline < 10_000
    assert entries[0]["Value"] == [-123.45] * 300
    assert entries[-1] == {"vr": "DS", "BulkDataURI": "bulkdata/30060040/10000/30060050"}
    assert len(instance.bulk) == 10_000 - inline
    assert instance.bulk["30060040/10000/30060050"].spans[0].length == 2400


def test_too_large_is_not_taken_for_another_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.dicom.jsonmodel.MAX_ELEMENTS", 50)
    items = item(implicit(0x00400007, b"CT ")) * 60
    assert fault_of(uids() + parents() + explicit(0x00400275, "UN", items)) is Fault.TOO_LARGE
    misdeclared = uids() + parents() + explicit(0x00400275, "SQ", item(b"") * 60)
    assert fault_of(raw_part10(ImplicitVRLittleEndian, misdeclared)) is Fault.TOO_LARGE


def test_metadata_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.dicom.parse.MAX_METADATA_BYTES", 1000)
    assert fault_of(uids() + parents() + explicit(0x00410001, "UT", b"\1" * 160)) is Fault.TOO_LARGE
    assert parse(uids() + parents() + explicit(0x00410001, "UT", b"a" * 160))


def test_what_inflates_to_far_more_is_refused_in_little_memory() -> None:
    """In a process of its own: in one that other tests have used, old garbage counts as memory too."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        assert process.submit(memory_to_refuse_what_inflates).result() < 200 << 20


def memory_to_refuse_what_inflates() -> int:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflated = deflater.compress(uids() + parents() + explicit(0x00420011, "OB", b"", 400 << 20))
    deflated += b"".join(deflater.compress(bytes(1 << 20)) for _ in range(400)) + deflater.flush()
    before = peak_memory_bytes(reset=True)
    assert fault_of(raw_part10(DeflatedExplicitVRLittleEndian, deflated)) is Fault.TOO_LARGE
    return peak_memory_bytes() - before


@pytest.mark.parametrize("megabytes", [300, pytest.param(2100, marks=pytest.mark.long)])
@pytest.mark.parametrize("native", [True, False])
def test_memory_stays_flat_for_a_large_mapped_file(megabytes: int, native: bool, tmp_path: Path) -> None:
    file = tmp_path / "large.dcm"
    fragment = 1 << 20
    with file.open("wb") as stream:
        syntax = ExplicitVRLittleEndian if native else "1.2.840.10008.1.2.4.90"
        description = pixel_description(1024, 1024, frames=str(megabytes))
        stream.write(raw_part10(syntax, uids() + parents() + description))
        if native:
            stream.write(explicit(0x7FE00010, "OW", b"", megabytes << 20))
            stream.truncate(stream.tell() + (megabytes << 20))
        else:
            stream.write(explicit(0x7FE00010, "OB", item(b""), 0xFFFFFFFF))
            for _ in range(megabytes):
                stream.write(item(b"", fragment))
                stream.seek(fragment, 1)
            stream.write(b"\xfe\xff\xdd\xe0\0\0\0\0")
    with file.open("rb") as large, mmap.mmap(large.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        before = peak_memory_bytes(reset=True)
        instance = parse(mapped)
        after = peak_memory_bytes()
    assert instance.frames.count == megabytes
    assert after - before < 40 << 20


def peak_memory_bytes(*, reset: bool = False) -> int:
    """The most resident memory, mapped files included, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
