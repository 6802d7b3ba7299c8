"""Instances, frames and pixel data in other transfer syntaxes than they are stored in, judged by pydicom."""

import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from gateway.archive import AS_STORED, BY_DEFAULT, RATHER_THAN, Part, rewritten
from gateway.archive.frame_work import FrameWork
from gateway.archive.incoming import Incoming
from gateway.archive.pool import Pool
from gateway.archive.transcoded import TranscodedArchive
from storage.dicom.identity import Scope
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.pixels.transcode import transcode
from storage.errors import NotAcceptable, NotFound
from tests import samples
from tests.unit.test_local_archive import BY, House

LITTLE, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED, GE = "1.2.840.10008.1.2.1.99", "1.2.840.113619.5.2"
RLE, JLS, J2K, J2K_LOSSY = ("1.2.840.10008.1.2." + tail for tail in ("5", "4.80", "4.90", "4.91"))
HTJ2K, JPEG, H264 = ("1.2.840.10008.1.2.4." + tail for tail in ("201", "50", "102"))
DEFAULT = [BY_DEFAULT]


@pytest.fixture(scope="module")
def work() -> Iterator[FrameWork]:
    pool = Pool(2)
    made = FrameWork(pool)
    yield made
    pool.close()
    made.close()


class Lens:
    """A local archive behind the lens, and everything that was opened in it."""

    def __init__(self, folder: Path, work: FrameWork) -> None:
        self.house = House(folder)
        staging = folder / "room"
        staging.mkdir()
        self.staging = staging
        room = partial(Incoming, staging, memory_bytes=10_000, max_bytes=1 << 30)
        self.archive = TranscodedArchive(self.house.archive, work, room)

    def keep(self, ds: Dataset, transfer_syntax: str = LITTLE) -> Scope:
        return self.keep_file(samples.part10(ds, transfer_syntax))

    def keep_file(self, file: bytes) -> Scope:
        identity = self.house.store(file).identity
        return Scope(identity.study_uid, identity.series_uid, identity.sop_uid)

    def file(self, scope: Scope, *accept: str) -> bytes:
        (part,) = self.archive.retrieve(scope, accept=accept, by=BY)
        return all_of(part)

    def read(self, scope: Scope, *accept: str) -> Dataset:
        return pydicom.dcmread(io.BytesIO(self.file(scope, *accept)))

    def frames(self, scope: Scope, numbers: Sequence[int], *accept: str) -> list[tuple[str, bytes]]:
        parts = self.archive.frames(scope, numbers, accept=accept, by=BY)
        return [(part.transfer_syntax, all_of(part)) for part in parts]


@pytest.fixture
def lens(tmp_path: Path, work: FrameWork) -> Iterator[Lens]:
    made = Lens(tmp_path, work)
    yield made
    assert list(made.staging.iterdir()) == [], "something that was being made is left"


def all_of(part: Part) -> bytes:
    data = b"".join(part.chunks())
    assert len(data) == part.length
    return data


def image(*, frames: int = 1, colour: bool = False, size: int = 24, **changes: Any) -> Dataset:
    """Noise of 12 bits, or colours."""
    random = np.random.default_rng(7)
    if colour:
        pixels = random.integers(0, 256, (frames, size, size, 3)).astype("<u1").tobytes()
        more: dict[str, Any] = {
            "SamplesPerPixel": 3,
            "PhotometricInterpretation": "RGB",
            "PlanarConfiguration": 0,
            "BitsAllocated": 8,
            "BitsStored": 8,
            "HighBit": 7,
            "PixelRepresentation": 0,
        }
    else:
        pixels = random.integers(-2048, 2048, (frames, size, size)).astype("<i2").tobytes()
        more = {"BitsStored": 12, "HighBit": 11}
    if frames > 1:
        more["NumberOfFrames"] = frames
    ds = samples.ct(size=size, **{"PixelData": pixels, **more, **changes})
    samples.part10(ds)  # adds the file meta group
    return ds


def compressed(ds: Dataset, target: str, declared: str | None = None) -> bytes:
    """The same as a file whose frames are coded in `target`."""
    description = PixelDescription.of(ds.to_json_dict())
    length = description.frame_bytes
    done = [
        transcode(ds.PixelData[at : at + length], LITTLE, target, description)
        for at in range(0, length * description.frames, length)
    ]
    ds.PixelData = encapsulate([each.data for each in done])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.PhotometricInterpretation = done[0].description.photometric
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = done[0].description.planar
    return samples.part10(ds, declared or target)


def same_but_pixels(one: Dataset, other: Dataset) -> bool:
    different = ("PixelData", "PhotometricInterpretation", "PlanarConfiguration", "ExtendedOffsetTable")
    return [e for e in one if e.keyword not in different] == [e for e in other if e.keyword not in different]


@pytest.mark.parametrize("stored", [J2K, JLS, RLE, HTJ2K])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("frames", [1, 5])
def test_w_default_ts_is_explicit_little_endian_with_the_same_pixels(
    lens: Lens, stored: str, colour: bool, frames: int
) -> None:
    ds = image(frames=frames, colour=colour)
    pixels = ds.pixel_array
    scope = lens.keep_file(compressed(ds, stored))
    found = lens.read(scope, *DEFAULT)
    assert found.file_meta.TransferSyntaxUID == LITTLE
    assert np.array_equal(found.pixel_array, pixels)
    assert same_but_pixels(found, ds)
    if colour:
        assert (found.PhotometricInterpretation, found.PlanarConfiguration) == ("RGB", 0)


@pytest.mark.parametrize("target", [J2K, JLS, RLE, HTJ2K])
@pytest.mark.parametrize("frames", [1, 4])
def test_w_ts_specific_and_t_lossless_from_native(lens: Lens, target: str, frames: int) -> None:
    ds = image(frames=frames)
    pixels = ds.pixel_array
    scope = lens.keep(ds)
    file = lens.file(scope, target)
    found = pydicom.dcmread(io.BytesIO(file))
    assert found.file_meta.TransferSyntaxUID == target
    assert len(list(generate_frames(found.PixelData, number_of_frames=frames))) == frames
    again = lens.keep_file(file)
    assert np.array_equal(lens.read(again, LITTLE).pixel_array, pixels)


def test_w_ts_specific_from_one_compression_to_another(lens: Lens) -> None:
    ds = image(frames=3)
    pixels = ds.pixel_array
    scope = lens.keep_file(compressed(ds, J2K))
    found = lens.read(scope, RLE)
    assert found.file_meta.TransferSyntaxUID == RLE
    assert np.array_equal(found.pixel_array, pixels)


def test_w_ts_star_passes_what_is_stored_through_untouched(lens: Lens) -> None:
    for number, file in enumerate((compressed(image(), J2K), samples.part10(image(), DEFLATED)), 1):
        ds = pydicom.dcmread(io.BytesIO(file))
        ds.SOPInstanceUID = f"2.25.1.{number}"
        scope = lens.keep_file(file)
        assert lens.file(scope, AS_STORED) == file


@pytest.mark.parametrize("stored", [IMPLICIT, BIG])
@pytest.mark.parametrize("accept", [AS_STORED, BY_DEFAULT, LITTLE])
def test_w_no_implicit_and_w_bigendian(lens: Lens, stored: str, accept: str) -> None:
    ds = image(frames=2)
    pixels = ds.pixel_array
    if stored == BIG:
        ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
    scope = lens.keep(ds, stored)
    found = lens.read(scope, accept)
    assert found.file_meta.TransferSyntaxUID == LITTLE
    assert np.array_equal(found.pixel_array, pixels)
    assert found.PatientName == ds.PatientName


def test_w_no_implicit_is_not_given_to_who_asks_for_it(lens: Lens) -> None:
    scope = lens.keep(image(), IMPLICIT)
    for target in (IMPLICIT, BIG):
        with pytest.raises(NotAcceptable):
            lens.file(scope, target)


def test_w_deflated_is_inflated_by_default(lens: Lens) -> None:
    ds = image()
    found = lens.read(lens.keep(ds, DEFLATED), *DEFAULT)
    assert found.file_meta.TransferSyntaxUID == LITTLE
    assert found.PixelData == ds.PixelData


def jpeg() -> bytes:
    """A real lossy one that pydicom brings along."""
    return next(data for path, data in samples.valid_files() if path.name == "SC_rgb_jpeg_dcmtk.dcm")


def test_w_lossy_asis_by_default_and_decoded_only_for_who_asks(lens: Lens) -> None:
    file = jpeg()
    scope = lens.keep_file(file)
    assert lens.file(scope, *DEFAULT) == file
    found = lens.read(scope, LITTLE)
    assert found.file_meta.TransferSyntaxUID == LITTLE
    assert found.PhotometricInterpretation == "RGB"
    assert found.LossyImageCompression == "01"
    oracle = pydicom.dcmread(io.BytesIO(file)).pixel_array
    assert np.abs(found.pixel_array.astype(int) - oracle.astype(int)).max() <= 3
    for target in (J2K, JLS, RLE):
        with pytest.raises(NotAcceptable):
            lens.file(scope, target)


def test_w_lossy_asis_also_when_only_the_data_set_says_so(lens: Lens) -> None:
    file = compressed(image(LossyImageCompression="01"), J2K, J2K_LOSSY)
    scope = lens.keep_file(file)
    assert lens.file(scope, *DEFAULT) == file
    assert [syntax for syntax, _ in lens.frames(scope, [1], *DEFAULT)] == [J2K_LOSSY]
    assert [syntax for syntax, _ in lens.frames(scope, [1], LITTLE)] == [LITTLE]


def test_the_first_possible_of_what_is_liked_best(lens: Lens) -> None:
    scope = lens.keep_file(compressed(image(), J2K))
    assert lens.read(scope, H264, RLE, JLS).file_meta.TransferSyntaxUID == RLE
    assert lens.read(scope, RLE, J2K).file_meta.TransferSyntaxUID == J2K
    assert lens.read(scope, RLE, RATHER_THAN, J2K).file_meta.TransferSyntaxUID == RLE
    assert lens.read(scope, H264, RATHER_THAN, AS_STORED).file_meta.TransferSyntaxUID == J2K
    with pytest.raises(NotAcceptable):
        lens.file(scope, H264)


def damaged() -> bytes:
    ds = image()
    ds.PixelData = encapsulate([b"\xff\x4f\xff\x51 this is no code stream"])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return samples.part10(ds, J2K)


def test_t_failsoft_what_cannot_be_decoded_comes_as_it_is(lens: Lens) -> None:
    file = damaged()
    scope = lens.keep_file(file)
    assert lens.file(scope, *DEFAULT) == file
    assert lens.file(scope, AS_STORED) == file
    with pytest.raises(NotAcceptable, match="frame"):
        lens.file(scope, LITTLE)
    with pytest.raises(NotAcceptable, match="frame"):
        lens.frames(scope, [1], LITTLE)


def test_t_failsoft_one_damaged_instance_leaves_the_series_whole(lens: Lens) -> None:
    files = [compressed(image(SOPInstanceUID=f"2.25.5.{n}", InstanceNumber=n), J2K) for n in (1, 2, 4)]
    ds = pydicom.dcmread(io.BytesIO(damaged()))
    ds.SOPInstanceUID, ds.InstanceNumber = "2.25.5.3", 3
    for file in (*files, samples.part10(ds, J2K)):
        scope = lens.keep_file(file)
    series = Scope(scope.study_uid, scope.series_uid)
    found = {
        part.identity.sop_uid: (part.transfer_syntax, all_of(part))
        for part in lens.archive.retrieve(series, accept=DEFAULT, by=BY)
    }
    assert {uid: syntax for uid, (syntax, _) in found.items()} == {
        "2.25.5.1": LITTLE,
        "2.25.5.2": LITTLE,
        "2.25.5.3": J2K,
        "2.25.5.4": LITTLE,
    }


def test_t_htj2k_and_t_video_without_a_codec_come_as_they_are(lens: Lens) -> None:
    for number, syntax in enumerate((H264, "1.2.840.10008.1.2.4.106.1", "1.2.840.10008.1.2.4.93"), 1):
        ds = image(SOPInstanceUID=f"2.25.6.{number}")
        ds.PixelData = encapsulate([b"\0\0\0\1 a stream ", b"in fragments"], has_bot=False)
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        file = samples.part10(ds, syntax)
        scope = lens.keep_file(file)
        assert lens.file(scope, *DEFAULT) == file
        with pytest.raises(NotAcceptable):
            lens.file(scope, LITTLE)


def test_w_frames_video_and_w_bulk_mf_a_video_is_one_stream(lens: Lens) -> None:
    ds = image(NumberOfFrames=2)
    ds.PixelData = encapsulate([b"\0\0\0\1 a stream ", b"in fragments"], has_bot=False)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    scope = lens.keep(ds, H264)
    for accept in (AS_STORED, BY_DEFAULT, LITTLE):
        with pytest.raises(NotAcceptable):
            lens.frames(scope, [1], accept)
    for accept in (AS_STORED, BY_DEFAULT, H264):
        (part,) = lens.archive.bulk(scope, "7FE00010", accept=[accept], by=BY)
        assert (part.transfer_syntax, all_of(part)) == (H264, b"\0\0\0\1 a stream in fragments")
    with pytest.raises(NotAcceptable):
        lens.archive.bulk(scope, "7FE00010", accept=[LITTLE], by=BY)


def test_w_frames_1bit_frames_and_the_whole_in_one_stream(lens: Lens) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (3, 5, 5), dtype=np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    changes: dict[str, Any] = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelRepresentation": 0}
    scope = lens.keep(image(frames=3, size=5, PixelData=packed, **changes), IMPLICIT)
    found = lens.frames(scope, [1, 2, 3], *DEFAULT)
    assert [data for _, data in found] == [np.packbits(each.ravel(), bitorder="little").tobytes() for each in bits]
    assert np.array_equal(lens.read(scope, *DEFAULT).pixel_array, bits)
    with pytest.raises(NotAcceptable):
        lens.file(scope, RLE)


def test_pixel_data_without_room_in_a_native_element_comes_as_it_is(
    lens: Lens, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = compressed(image(frames=3), J2K)
    scope = lens.keep_file(file)
    monkeypatch.setattr(rewritten, "_MAX_NATIVE_BYTES", 3 * 24 * 24 * 2 - 1)
    assert lens.file(scope, *DEFAULT) == file
    with pytest.raises(NotAcceptable, match="4 GiB"):
        lens.file(scope, LITTLE)
    assert lens.read(scope, RLE).NumberOfFrames == 3


def test_an_instance_without_pixels_can_be_had_with_the_others(lens: Lens) -> None:
    scope = lens.keep(samples.ct(PixelData=None), IMPLICIT)
    for accept, expected in ((BY_DEFAULT, LITTLE), (AS_STORED, LITTLE), (J2K, J2K)):
        found = lens.read(scope, accept)
        assert found.file_meta.TransferSyntaxUID == expected
        assert found.PatientID == "P1"


def test_a_large_document_is_streamed(lens: Lens) -> None:
    document = bytes(range(256)) * (20 << 10)
    ds = samples.ct(PixelData=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    ds.EncapsulatedDocument = document
    found = lens.read(lens.keep(ds, IMPLICIT), *DEFAULT)
    assert found.EncapsulatedDocument == document


def test_order_is_kept_among_those_that_pass_and_those_that_do_not(lens: Lens) -> None:
    for number in range(1, 13):
        ds = image(SOPInstanceUID=f"2.25.7.{number}", InstanceNumber=number)
        scope = lens.keep(ds) if number % 3 == 0 else lens.keep_file(compressed(ds, (J2K, RLE)[number % 2]))
    series = Scope(scope.study_uid, scope.series_uid)
    stored = lens.house.archive.retrieve(series, accept=[AS_STORED], by=BY)
    parts = lens.archive.retrieve(series, accept=DEFAULT, by=BY)
    datasets = [pydicom.dcmread(io.BytesIO(all_of(part))) for part in parts]
    assert [ds.SOPInstanceUID for ds in datasets] == [part.identity.sop_uid for part in stored]
    assert len(datasets) == 12
    assert {ds.PixelData for ds in datasets} == {image().PixelData}


def test_who_leaves_before_the_end_leaves_nothing_behind(lens: Lens) -> None:
    for number in range(1, 8):
        scope = lens.keep_file(compressed(image(SOPInstanceUID=f"2.25.8.{number}", size=128), J2K))
    parts = lens.archive.retrieve(Scope(scope.study_uid, scope.series_uid), accept=DEFAULT, by=BY)
    part = next(parts)
    chunks = part.chunks()
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    next(parts).close()
    parts.close()  # type: ignore[attr-defined]
    assert list(lens.staging.iterdir()) == []


def test_w_frames_octet_decompressed_in_the_order_asked(lens: Lens) -> None:
    ds = image(frames=5)
    native = ds.PixelData
    scope = lens.keep_file(compressed(ds, J2K))
    size = len(native) // 5
    frames = [native[number * size : (number + 1) * size] for number in range(5)]
    assert lens.frames(scope, [4, 1, 5, 2], LITTLE) == [(LITTLE, frames[n - 1]) for n in (4, 1, 5, 2)]
    assert lens.frames(scope, [2], *DEFAULT) == [(LITTLE, frames[1])]
    with pytest.raises(NotFound):
        lens.frames(scope, [6], LITTLE)


def test_w_frames_star_as_stored(lens: Lens) -> None:
    file = compressed(image(), J2K)
    scope = lens.keep_file(file)
    (stored,) = generate_frames(pydicom.dcmread(io.BytesIO(file)).PixelData, number_of_frames=1)
    assert lens.frames(scope, [1], AS_STORED) == [(J2K, stored)]
    assert lens.frames(scope, [1], LITTLE, J2K) == [(J2K, stored)]


def test_w_frames_comp_in_a_syntax_that_was_not_stored(lens: Lens) -> None:
    ds = image()
    scope = lens.keep(ds)
    ((syntax, data),) = lens.frames(scope, [1], JLS)
    assert syntax == JLS
    description = PixelDescription.of(ds.to_json_dict())
    assert transcode(data, JLS, LITTLE, description).data == ds.PixelData
    with pytest.raises(NotAcceptable):
        lens.frames(scope, [1], H264)


def test_frames_of_the_private_syntax_with_big_endian_pixels(lens: Lens) -> None:
    ds = image(frames=2)
    file = samples.part10(
        image(frames=2, PixelData=np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()), IMPLICIT
    )
    meta = pydicom.dcmread(io.BytesIO(file))
    meta.file_meta.TransferSyntaxUID = pydicom.uid.UID(GE)
    stream = io.BytesIO()
    pydicom.filewriter.write_file_meta_info(pydicom.filebase.DicomFileLike(stream), meta.file_meta)
    private = b"\0" * 128 + b"DICM" + stream.getvalue() + samples.dataset_bytes(file)
    scope = lens.keep_file(private)
    for accept in (AS_STORED, BY_DEFAULT, LITTLE):
        assert b"".join(data for _, data in lens.frames(scope, [1, 2], accept)) == ds.PixelData
        found = lens.read(scope, accept)
        assert (found.file_meta.TransferSyntaxUID, found.PixelData) == (LITTLE, ds.PixelData)


def test_w_bulk_mf_uncompressed_is_one_part_and_compressed_one_a_frame(lens: Lens) -> None:
    ds = image(frames=3)
    native = ds.PixelData
    scope = lens.keep_file(compressed(ds, J2K))
    (part,) = lens.archive.bulk(scope, "7FE00010", accept=[LITTLE], by=BY)
    assert (part.transfer_syntax, part.place, all_of(part)) == (LITTLE, "bulkdata/7FE00010", native)
    found = list(lens.archive.bulk(scope, "7FE00010", by=BY))
    assert [part.transfer_syntax for part in found] == [J2K] * 3
    found = list(lens.archive.bulk(scope, "7FE00010", accept=[RLE], by=BY))
    assert [(part.transfer_syntax, part.place) for part in found] == [(RLE, "bulkdata/7FE00010")] * 3
    for part in found:
        part.close()


def test_everything_else_is_the_archive_within(lens: Lens) -> None:
    scope = lens.keep(image())
    assert [identity.sop_uid for identity, _ in lens.archive.metadata(scope, by=BY)] == [scope.sop_uid]
    assert lens.archive.check() == lens.house.archive.check()
    assert lens.archive.delete(scope, by=BY).instances == 1
    with pytest.raises(NotFound):
        lens.file(scope, *DEFAULT)


@pytest.mark.long
def test_every_file_of_pydicom_that_can_be_decoded_comes_out_as_it_decodes(lens: Lens) -> None:
    compared = 0
    for path, data in samples.valid_files():
        ds = pydicom.dcmread(io.BytesIO(data))
        if "PixelData" not in ds or len(data) > 2_000_000 or ds.file_meta.TransferSyntaxUID.is_encapsulated is False:
            continue
        try:
            expected = ds.pixel_array
        except Exception:
            continue
        scope = lens.keep_file(data)
        try:
            found = lens.read(scope, LITTLE)
        except NotAcceptable:
            continue
        ours = found.pixel_array
        if ds.SamplesPerPixel == 1 and ds.get("LossyImageCompression") != "01":
            assert np.array_equal(ours, expected), path
            compared += 1
        lens.archive.delete(scope, by=BY)
    assert compared > 10
