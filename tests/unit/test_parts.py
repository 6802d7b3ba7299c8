"""Reading: instances, frames and bulk values as the standard wants them, and errors before the first byte."""

import errno
import io
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import structlog.testing
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

from gateway.archive import AS_STORED, Part, parts
from gateway.archive.parts import StoredPart, value
from gateway.archive.seldom import Seldom
from storage.dicom.frames import Span
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import BulkValue
from storage.dicom.syntax import EXPLICIT_LITTLE
from storage.errors import Exhausted, Invalid, NotAcceptable, NotFound, Unavailable
from storage.index import Contents, Location, Stored
from storage.index.sqlite import SqliteIndex
from storage.objects.memory import MemoryStore
from tests import samples
from tests.unit.fakes import MemoryIndex
from tests.unit.test_local_archive import BY, ONE, House

STUDY = Scope(ONE.study_uid)


@pytest.fixture(params=["memory", "sqlite"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    index = SqliteIndex(tmp_path / "index.sqlite") if request.param == "sqlite" else MemoryIndex()
    yield House(tmp_path, index)
    index.close()


def stored(house: House, ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    data = samples.part10(ds, syntax)
    house.store(data)
    return data


def frames(house: House, *numbers: int, accept: tuple[str, ...] = (AS_STORED,)) -> list[Part]:
    return list(house.archive.frames(ONE, numbers, accept=accept, by=BY))


def bytes_of(part: Part) -> bytes:
    data = b"".join(part.chunks())
    assert len(data) == part.length
    return data


def bulk(house: House, path: str) -> list[bytes]:
    return [bytes_of(part) for part in house.archive.bulk(ONE, path, by=BY)]


def multiframe(count: int, **changes: Any) -> Dataset:
    pixels = b"".join(bytes([number]) * 512 for number in range(1, count + 1))
    return samples.ct(NumberOfFrames=count, PixelData=pixels, **changes)


def test_frames_come_in_the_order_asked(house: House) -> None:
    stored(house, multiframe(3))
    parts = frames(house, 3, 1, 3)
    assert [part.place for part in parts] == ["frames/3", "frames/1", "frames/3"]
    assert [bytes_of(part) for part in parts] == [b"\3" * 512, b"\1" * 512, b"\3" * 512]
    assert {part.transfer_syntax for part in parts} == {EXPLICIT_LITTLE}


def test_a_single_frame_needs_no_number_of_frames(house: House) -> None:
    ds = samples.ct()
    stored(house, ds)
    assert [bytes_of(part) for part in frames(house, 1)] == [ds.PixelData]


def test_a_frame_is_one_read_of_its_bytes_alone(house: House) -> None:
    stored(house, multiframe(3))
    house.spool.spans.clear()
    [part] = frames(house, 2)
    bytes_of(part)
    [span] = house.spool.spans
    assert span is not None
    assert span[1] == 512


@pytest.mark.parametrize("numbers", [(0,), (-1,), (4,), (1, 4), (2**70,), ()])
def test_a_frame_that_is_not_there_is_not_found_at_once(house: House, numbers: tuple[int, ...]) -> None:
    stored(house, multiframe(3))
    with pytest.raises(NotFound):
        house.archive.frames(ONE, numbers, accept=[AS_STORED], by=BY)


def test_an_instance_without_pixels_has_no_frames(house: House) -> None:
    stored(house, samples.ct(PixelData=None))
    with pytest.raises(NotFound):
        frames(house, 1)
    with pytest.raises(NotFound):
        bulk(house, "7FE00010")


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_uncompressed_frames_and_values_are_little_endian_whatever_was_stored(house: House, syntax: str) -> None:
    ds = multiframe(3)
    ds.PixelData = little = bytes(range(256)) * 6
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = swap(little)  # pydicom writes it as it is
    stored(house, ds, syntax)
    [part] = frames(house, 2, accept=(EXPLICIT_LITTLE,))
    assert part.transfer_syntax == EXPLICIT_LITTLE
    assert bytes_of(part) == little[512:1024]
    assert bulk(house, "7FE00010") == [little]


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"])
def test_values_are_inflated_in_every_deflated_syntax(syntax: str) -> None:
    wanted = bytes(range(256)) * 8
    compressor = zlib.compressobj(wbits=-15)
    deflated = compressor.compress(b"before" + wanted + b"after") + compressor.flush()
    store = MemoryStore()
    store.put("a", [b"header", deflated])
    identity = Identity("1.2", "1.2.3", "1.2.3.4", samples.CT)
    stored = Stored(identity, syntax, Location("spool", "a", 0, 6 + len(deflated)), 6, b"", 1)
    reading = value(stored, BulkValue("OB", (Span(6, len(wanted)),)))
    assert bytes_of(StoredPart(store, stored, EXPLICIT_LITTLE, "bulkdata/00420011", reading)) == wanted


def test_a_deflated_instance_is_inflated_once_for_all_its_frames(house: House) -> None:
    stored(house, multiframe(9), DeflatedExplicitVRLittleEndian)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    house.spool.spans.clear()
    parts = frames(house, 9, 1, 5, 9)
    assert [bytes_of(part)[:1] for part in parts] == [b"\x09", b"\1", b"\5", b"\x09"]
    assert len(house.spool.spans) == 1
    assert house.left_in_staging == []
    del parts
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_a_deflated_instance_that_cannot_be_inflated_is_an_error_before_the_answer(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = stored(house, multiframe(3), DeflatedExplicitVRLittleEndian)
    [key] = house.keys
    start = house.index.locate(ONE)[0].header_length
    house.disk.put(key, [data[:start], b"\xff" * (len(data) - start)], if_absent=False)
    with pytest.raises(Unavailable):
        house.archive.frames(ONE, [1, 2], accept=[AS_STORED], by=BY)
    house.disk.put(key, [data[:-200]], if_absent=False)
    with pytest.raises(Unavailable):
        house.archive.frames(ONE, [1, 2], accept=[AS_STORED], by=BY)
    house.disk.put(key, [data], if_absent=False)

    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gateway.archive.kept.os.write", full)
    with pytest.raises(Exhausted):
        house.archive.frames(ONE, [1, 2], accept=[AS_STORED], by=BY)
    assert house.left_in_staging == []


def test_inflating_leaves_the_reserve_of_the_disk_alone(house: House) -> None:
    def no_room() -> None:
        raise Exhausted("no room")

    stored(house, multiframe(3), DeflatedExplicitVRLittleEndian)
    house.check_room = no_room
    with pytest.raises(Exhausted, match="no room"):
        house.archive.frames(ONE, [1, 2], accept=[AS_STORED], by=BY)
    assert house.left_in_staging == []
    assert len(list(house.archive.frames(ONE, [2], accept=[AS_STORED], by=BY))) == 1


def swap(data: bytes) -> bytes:
    return b"".join(data[at : at + 2][::-1] for at in range(0, len(data), 2))


def test_odd_frames_of_bytes_in_big_endian_words(house: House) -> None:
    """8 bits in OW: the frames of 3 x 3 lie across words whose bytes are swapped (PS3.5 8.1.1)."""
    little = bytes(range(1, 28)) + b"\0"
    ds = samples.ct(size=3, NumberOfFrames=3, BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=swap(little))
    ds["PixelData"].VR = "OW"
    stored(house, ds, ExplicitVRBigEndian)
    assert [bytes_of(part) for part in frames(house, 1, 2, 3)] == [little[0:9], little[9:18], little[18:27]]


def test_one_bit_frames_begin_at_bit_zero(house: House) -> None:
    count, bits = 5, 9
    pixels = [(0b1_0110_0111 + number * 37) % 512 for number in range(count)]
    packed = sum(frame << number * bits for number, frame in enumerate(pixels))
    ds = samples.ct(size=3, NumberOfFrames=count, BitsAllocated=1, BitsStored=1, HighBit=0, PixelRepresentation=0)
    ds.PixelData = packed.to_bytes(6, "little")
    ds["PixelData"].VR = "OB"
    stored(house, ds)
    found = [int.from_bytes(bytes_of(part), "little") for part in frames(house, *range(1, count + 1))]
    assert found == pixels


def test_float_pixel_data_has_frames(house: House) -> None:
    ds = samples.ct(PixelData=None, BitsAllocated=32, NumberOfFrames=2)
    ds.FloatPixelData = bytes(range(256)) * 8
    stored(house, ds)
    assert bytes_of(frames(house, 2)[0]) == ds.FloatPixelData[1024:]


def encapsulated(fragments_per_frame: int, syntax: str = JPEGLSLossless) -> tuple[Dataset, list[bytes]]:
    pictures = [b"\xff\xd8" + bytes([number]) * (40 + 2 * number) + b"\xff\xd9" for number in range(3)]
    ds = samples.ct(NumberOfFrames=3, PixelData=encapsulate(pictures, fragments_per_frame=fragments_per_frame))
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return ds, pictures


@pytest.mark.parametrize("fragments", [1, 2, 5])
def test_encapsulated_frames_come_as_they_are_without_item_headers(house: House, fragments: int) -> None:
    ds, pictures = encapsulated(fragments)
    data = stored(house, ds, JPEGLSLossless)
    parts = frames(house, 3, 1, accept=("1.2.3", JPEGLSLossless))
    assert {part.transfer_syntax for part in parts} == {JPEGLSLossless}
    assert [bytes_of(part).rstrip(b"\0") for part in parts] == [pictures[2], pictures[0]]
    back = pydicom.dcmread(io.BytesIO(data))
    assert bulk(house, "7FE00010") == list(generate_frames(back.PixelData, number_of_frames=3))


def test_what_is_not_accepted_says_what_is_stored(house: House) -> None:
    ds, _ = encapsulated(1)
    stored(house, ds, JPEGLSLossless)
    with pytest.raises(NotAcceptable, match=JPEGLSLossless):
        frames(house, 1, accept=(EXPLICIT_LITTLE,))
    with pytest.raises(NotAcceptable, match=JPEGLSLossless):
        house.archive.retrieve(STUDY, accept=[EXPLICIT_LITTLE], by=BY)
    assert len(list(house.archive.retrieve(STUDY, accept=["1.2.3", JPEGLSLossless], by=BY))) == 1


def test_a_video_has_no_frames_but_is_one_value(house: House) -> None:
    ds, pictures = encapsulated(1)
    stored(house, ds, MPEG4HP41)
    with pytest.raises(NotAcceptable):
        frames(house, 1)
    [part] = house.archive.bulk(ONE, "7FE00010", by=BY)
    assert part.transfer_syntax == MPEG4HP41
    assert bytes_of(part) == b"".join(pictures)


def test_bulk_values_are_found_by_their_path(house: House) -> None:
    ds = samples.ct()
    ds.EncapsulatedDocument = b"%PDF" + bytes(range(256)) * 8
    item = Dataset()
    item.RedPaletteColorLookupTableData = bytes(range(256)) * 5
    ds.IconImageSequence = [Dataset(), item]
    stored(house, ds)
    assert bulk(house, "00420011") == [ds.EncapsulatedDocument]
    assert bulk(house, "00880200/2/00281201") == [item.RedPaletteColorLookupTableData]
    for path in ("00280010", "00880200", "", "../x", "00880200/1/00281201"):
        with pytest.raises(NotFound):
            bulk(house, path)


def test_frames_and_values_are_those_of_one_instance(house: House) -> None:
    stored(house, samples.ct())
    with pytest.raises(NotFound):
        house.archive.frames(STUDY, [1], accept=[AS_STORED], by=BY)
    with pytest.raises(NotFound):
        house.archive.bulk(STUDY, "7FE00010", by=BY)


def test_an_object_that_is_lost_is_an_error_before_the_answer_and_never_not_found(house: House) -> None:
    stored(house, samples.ct())
    house.disk.delete(house.keys)
    for act in (
        lambda: house.archive.retrieve(ONE, accept=[AS_STORED], by=BY),
        lambda: house.archive.frames(ONE, [1], accept=[AS_STORED], by=BY),
        lambda: house.archive.bulk(ONE, "7FE00010", by=BY),
    ):
        with pytest.raises(Unavailable):
            act()


def test_what_is_lost_is_told_in_the_log_with_its_key_and_seldom(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_seldom", Seldom())
    stored(house, samples.ct())
    [key] = house.keys
    house.disk.delete([key])
    with structlog.testing.capture_logs() as told:
        for _ in range(3):
            with pytest.raises(Unavailable):
                house.archive.retrieve(ONE, accept=[AS_STORED], by=BY)
    assert [(line["log_level"], line["key"]) for line in told] == [("error", key)]


def test_an_object_that_is_cut_short_never_ends_politely(house: House) -> None:
    data = stored(house, samples.ct())
    [key] = house.keys
    house.disk.put(key, [data[:-100]], if_absent=False)
    with pytest.raises(Unavailable):
        house.archive.retrieve(ONE, accept=[AS_STORED], by=BY)


def test_objects_are_opened_one_at_a_time_and_the_first_at_once(house: House) -> None:
    files = [stored(house, samples.ct(number=number)) for number in (1, 2, 3)]
    house.spool.spans.clear()
    parts = house.archive.retrieve(STUDY, accept=[AS_STORED], by=BY)
    assert len(house.spool.spans) == 1
    assert bytes_of(next(parts)) == files[0]
    second = next(parts)
    assert len(house.spool.spans) == 1
    house.disk.delete([house.keys[1]])
    with pytest.raises(Unavailable):
        bytes_of(second)
    assert bytes_of(next(parts)) == files[2]
    assert next(parts, None) is None


def test_an_answer_that_nobody_reads_leaves_nothing_open(house: House) -> None:
    stored(house, samples.ct(size=800))
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    parts = house.archive.retrieve(STUDY, accept=[AS_STORED], by=BY)
    parts.close()  # type: ignore[attr-defined]
    assert next(parts, None) is None
    half_read = next(house.archive.retrieve(STUDY, accept=[AS_STORED], by=BY))
    assert len(next(half_read.chunks())) == 1 << 20
    half_read.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_frames_are_never_cut_by_the_table_of_another_version(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(house, samples.ct())
    newer = samples.ct(StudyDescription="a longer description moves the pixels")
    newer.PixelData = b"\7" * 512
    contents = house.index.contents

    def replaced_first(scope: Scope) -> Contents:
        monkeypatch.undo()
        stored(house, newer)
        return contents(scope)

    monkeypatch.setattr(house.index, "contents", replaced_first)
    assert bytes_of(frames(house, 1)[0]) == b"\7" * 512


def test_every_valid_file_comes_back_as_it_went_in(house: House) -> None:
    done, refused = 0, []
    for path, data in samples.valid_files():
        if len(data) > 1 << 20:
            continue
        try:
            identity = house.store(data).identity
        except Invalid:
            refused.append(path.name)  # pydicom reads what is cut short or contradicts itself; it is not stored here
            continue
        done += 1
        scope = Scope(identity.study_uid, identity.series_uid, identity.sop_uid)
        assert house.retrieved(scope) == [data], path
        contents = house.index.contents(scope)
        for number in {1, contents.frames.count} if contents.frames.count else ():
            check_frame(house, scope, data, number, path)
    assert done > 80
    assert len(refused) <= 4, refused


def check_frame(house: House, scope: Scope, data: bytes, number: int, path: Path) -> None:
    try:
        [part] = house.archive.frames(scope, [number], accept=[AS_STORED], by=BY)
    except NotAcceptable:
        return
    ours = bytes_of(part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(io.BytesIO(data))
        if not ds.file_meta.TransferSyntaxUID.is_encapsulated:
            return
        count = int(ds.get("NumberOfFrames") or 1)
        theirs = list(generate_frames(ds.PixelData, number_of_frames=count))[number - 1]
    assert ours.rstrip(b"\0") == theirs.rstrip(b"\0"), path


def test_parts_whose_first_cannot_be_opened_are_released() -> None:
    released: list[bool] = []
    lost = Stored(Identity("1", "2", "3", samples.CT), EXPLICIT_LITTLE, Location("spool", "none", 0, 10), 0, b"", 1)
    part = StoredPart(MemoryStore(), lost, EXPLICIT_LITTLE, "", parts.whole(lost))
    with pytest.raises(Unavailable, match="missing"):
        parts.Parts(iter([part]), lambda: released.append(True))
    assert released == [True]
