"""STOW-RS of metadata and bulk data (PS3.18 10.5.1.4): what the parts make, and what is said of those that fit not."""

from collections.abc import Iterator
from typing import Any

import httpx
import imagecodecs
import numpy as np
import orjson
import pytest
from pydicom.encaps import generate_frames

from gateway.web import bulk_parts, described
from storage.dicom import parse as parsing
from storage.dicom import xmlmodel
from storage.dicom.pixels.decode import decode
from storage.dicom.pixels.description import PixelDescription
from storage.errors import Exhausted
from tests import samples
from tests.web.conftest import Door, opened
from tests.web.test_stow import body_of, file, post, reasons, uids

JSON = "application/dicom+json"
XML = "application/dicom+xml"
OCTETS = "application/octet-stream"
PIXELS = "7FE00010"
PIXEL_MACRO = ("00280002", "00280004", "00280010", "00280011", "00280100", "00280101", "00280102", "00280103")
CELLS = samples.ct().PixelData
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.random.default_rng(1).integers(0, 255, (16, 16, 3), dtype=np.uint8)

Part = tuple[str, str | None, bytes | bytearray]


def metadata(number: int = 1, uri: str = "bulk/1", *, without: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """The metadata of a CT instance, its pixel data under `uri`; `more` are elements by tag, written t00280008."""
    ds = samples.ct(number=number)
    del ds.PixelData
    found = {key: entry for key, entry in ds.to_json_dict().items() if key not in without and key != "00080005"}
    return found | {PIXELS: {"vr": "OW", "BulkDataURI": uri}} | {key[1:]: entry for key, entry in more.items()}


def parts(*each: Part) -> bytes:
    pieces = []
    for content_type, location, data in each:
        headers = f"Content-Type: {content_type}\r\n" if content_type else ""
        headers += f"Content-Location: {location}\r\n" if location is not None else ""
        pieces.append(f"--b\r\n{headers}\r\n".encode() + data + b"\r\n")
    return b"".join(pieces) + b"--b--\r\n"


def send(door: Door, *each: Part, type: str = JSON, path: str = "/studies", **headers: str) -> httpx.Response:
    return post(door, parts(*each), f'multipart/related; type="{type}"; boundary=b', path, **headers)


def as_json(*instances: Any) -> Part:
    return JSON, None, orjson.dumps(list(instances))


def octets(data: bytes | bytearray = CELLS, location: str = "bulk/1", syntax: str = "") -> Part:
    return OCTETS + (f"; transfer-syntax={syntax}" if syntax else ""), location, data


def stored(door: Door, number: int = 1) -> Any:
    """The instance that the archive took in, as our own parser reads it, and its file."""
    kept = door.archive.instances[f"2.25.90817.1.1.{number}"]
    return parsing.parse(kept.file), kept


def test_s_ct_json_s_bulk_uncomp_metadata_and_pixel_data(door: Door) -> None:
    response = send(door, as_json(metadata(1), metadata(2, "bulk/2")), octets(), octets(CELLS[::-1], "bulk/2"))
    assert response.status_code == 200, response.text
    assert uids(response.json(), "00081199") == ["2.25.90817.1.1.1", "2.25.90817.1.1.2"]
    instance, kept = stored(door, 1)
    assert instance.warnings == ()
    assert kept.syntax == "1.2.840.10008.1.2.1"
    assert kept.dataset.PixelData == CELLS
    assert str(kept.dataset.PatientName) == str(samples.ct().PatientName)
    assert kept.dataset.SpecificCharacterSet == "ISO_IR 192"
    assert stored(door, 2)[1].dataset.PixelData == CELLS[::-1]
    assert response.headers["location"].endswith("/studies/2.25.90817.1")
    assert not list(door.archive.folder.glob("*.part"))


def test_s_ct_xml_one_part_an_instance(door: Door) -> None:
    documents = [(XML, None, xmlmodel.write(metadata(number, "bulk/1"))) for number in (1, 2)]
    response = send(door, *documents, octets(), type=XML, accept=XML)
    assert (response.status_code, response.headers["content-type"]) == (200, XML)
    for number in (1, 2):
        instance, kept = stored(door, number)
        assert instance.warnings == ()
        assert kept.dataset.PixelData == CELLS
        assert str(kept.dataset.PatientName) == str(samples.ct().PatientName)


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("bulk/1", "bulk/1"),
        ("bulk/1", "{url}/bulk/1"),
        ("{url}/bulk/1", "/dicomweb/bulk/1"),
        ("urn:x:1", "urn:x:1"),
        ("http://[no-url", "http://[no-url"),
    ],
)
def test_s_ct_json_content_location_is_the_bulk_data_uri(door: Door, uri: str, location: str) -> None:
    names = (uri.format(url=door.url), location.format(url=door.url))
    assert send(door, as_json(metadata(1, names[0])), octets(location=names[1])).status_code == 200
    assert stored(door)[1].dataset.PixelData == CELLS


@pytest.mark.parametrize("type", [JSON, XML])
def test_s_ct_json_s_ct_xml_metadata_parts_as_senders_name_them(door: Door, type: str) -> None:
    document = (orjson.dumps if type == JSON else xmlmodel.write)(metadata(1))
    for name in ("", type.replace("dicom+", ""), type.upper() + "; charset=utf-8"):
        response = send(door, octets(), (name, None, document), type=type)  # and in whatever order
        assert response.status_code == 200, response.text


def test_s_bulk_uncomp_transfer_syntaxes_of_the_same_bytes(door: Door) -> None:
    for syntax in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "*"):
        assert send(door, as_json(metadata(1)), octets(syntax=syntax)).status_code == 200
        assert stored(door)[1].syntax == "1.2.840.10008.1.2.1"
    for syntax in ("1.2.840.10008.1.2.2", "1.2.3"):
        response = send(door, as_json(metadata(2)), octets(syntax=syntax))
        assert (response.status_code, reasons(response.json(), "00081198")) == (409, [0xC122])


def test_s_bulk_uncomp_values_within_sequences_and_inline(door: Door) -> None:
    icon = {"vr": "SQ", "Value": [{PIXELS: {"vr": "OB", "BulkDataURI": "icon"}}]}
    private = {"00310010": {"vr": "LO", "Value": ["X"]}, "00311001": {"vr": "OB", "InlineBinary": "AQID"}}
    each = metadata(1, t00880200=icon) | private
    assert send(door, as_json(each), octets(), octets(b"\7\7", "icon")).status_code == 200
    dataset = stored(door)[1].dataset
    assert dataset.IconImageSequence[0].PixelData == b"\7\7"
    assert dataset[0x00311001].value == b"\1\2\3\0"


FRAMES = [
    ("image/jpeg", imagecodecs.jpeg8_encode(GREY), "1.2.840.10008.1.2.4.50", "MONOCHROME2"),
    ("image/jpeg", imagecodecs.jpeg8_encode(COLOUR), "1.2.840.10008.1.2.4.50", "YBR_FULL_422"),
    ("image/jpeg", imagecodecs.ljpeg_encode(GREY), None, "MONOCHROME2"),
    ("image/jls", imagecodecs.jpegls_encode(GREY), "1.2.840.10008.1.2.4.80", "MONOCHROME2"),
    ("image/x-jls", imagecodecs.jpegls_encode(GREY, level=3), "1.2.840.10008.1.2.4.81", "MONOCHROME2"),
    ("image/jp2", imagecodecs.jpeg2k_encode(GREY, reversible=True), "1.2.840.10008.1.2.4.90", "MONOCHROME2"),
    ("image/jp2", imagecodecs.jpeg2k_encode(COLOUR, level=40), "1.2.840.10008.1.2.4.91", None),
    ("image/jxl", imagecodecs.jpegxl_encode(GREY, lossless=True), "1.2.840.10008.1.2.4.112", "MONOCHROME2"),
]


@pytest.mark.parametrize(("media_type", "frame", "syntax", "photometric"), FRAMES)
def test_s_bulk_comp_a_frame_describes_itself(
    door: Door, media_type: str, frame: bytes, syntax: str | None, photometric: str | None
) -> None:
    response = send(door, as_json(metadata(1, without=PIXEL_MACRO)), (media_type, "bulk/1", frame))
    assert response.status_code == 200, response.headers.get("warning")
    instance, kept = stored(door)
    dataset = kept.dataset
    assert instance.warnings == ()
    assert syntax in (None, kept.syntax)
    assert photometric in (None, dataset.PhotometricInterpretation)
    assert (dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == (
        16,
        16,
        8,
        8,
        7,
    )
    assert dataset.PixelRepresentation == 0
    assert dataset.get("PlanarConfiguration") == (0 if dataset.SamplesPerPixel == 3 else None)
    is_lossy = kept.syntax in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91")
    assert dataset.get("LossyImageCompression") == ("01" if is_lossy else None)
    decoded = decode(frame, kept.syntax, PixelDescription.of(instance.dataset)).array
    assert np.abs(decoded.astype(int) - (COLOUR if decoded.ndim == 3 else GREY)).mean() < 60
    assert instance.frames.count == 1
    assert frame in kept.file


def test_s_bulk_comp_the_syntax_that_is_named(door: Door) -> None:
    frame = imagecodecs.jpegls_encode(GREY)
    each = as_json(metadata(1, without=PIXEL_MACRO))
    named = "1.2.840.10008.1.2.4.81"
    assert send(door, each, (f"image/jls; transfer-syntax={named}", "bulk/1", frame)).status_code == 200
    assert stored(door)[1].syntax == named
    assert send(door, each, octets(frame, syntax="1.2.840.10008.1.2.4.80")).status_code in (200, 202)
    assert stored(door)[1].syntax == "1.2.840.10008.1.2.4.80"
    by_metadata = metadata(1, without=PIXEL_MACRO, t00020010={"vr": "UI", "Value": [named]})
    assert send(door, as_json(by_metadata), ("image/jls", "bulk/1", frame)).status_code in (200, 202)
    assert stored(door)[1].syntax == named


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/jls", imagecodecs.jpeg8_encode(GREY)),
        ("image/jpeg", imagecodecs.jpegls_encode(GREY)),
        ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.90", imagecodecs.jpeg8_encode(GREY)),
        ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.70", imagecodecs.jpeg8_encode(GREY)),
        ("image/jp2", b"no image at all"),
        ("image/tiff", b"II*\0"),
    ],
)
def test_s_bulk_comp_a_type_that_is_not_that_of_the_bytes_fails(door: Door, media_type: str, data: bytes) -> None:
    response = send(door, as_json(metadata(1, without=PIXEL_MACRO)), (media_type, "bulk/1", data))
    assert (response.status_code, reasons(response.json(), "00081198")) == (409, [0xC122])
    assert not door.archive.instances


def test_s_bulk_comp_frames_are_parts_of_one_content_location(door: Door) -> None:
    frames = [imagecodecs.jpegls_encode(np.roll(GREY, shift)) for shift in range(3)]
    each = [("image/jls", "bulk/1", frame) for frame in frames]
    assert send(door, as_json(metadata(1, without=PIXEL_MACRO)), *each).status_code == 200
    dataset = stored(door)[1].dataset
    assert dataset.NumberOfFrames == 3
    assert [fragment.rstrip(b"\0") for fragment in generate_frames(dataset.PixelData, number_of_frames=3)] == frames
    other = metadata(2, without=PIXEL_MACRO, t00280008={"vr": "IS", "Value": [2]})
    response = send(door, as_json(other), *each)
    assert (response.status_code, reasons(response.json(), "00081198")) == (400, [0xC001])


def test_s_bulk_comp_a_description_that_contradicts_the_frame_fails(door: Door) -> None:
    each = metadata(1, without=PIXEL_MACRO, t00280010={"vr": "US", "Value": [17]})
    response = send(door, as_json(each), ("image/jls", "bulk/1", imagecodecs.jpegls_encode(GREY)))
    assert (response.status_code, reasons(response.json(), "00081198")) == (400, [0xC001])
    assert "Rows" in response.headers["warning"]


def test_s_bulk_comp_rle_and_video_keep_their_bytes(door: Door) -> None:
    types = {1: ("image/dicom-rle", "1.2.840.10008.1.2.5"), 2: ("video/mp4", "1.2.840.10008.1.2.4.102")}
    for number, (media_type, syntax) in types.items():
        assert send(door, as_json(metadata(number)), (media_type, "bulk/1", b"whatever is coded")).status_code == 200
        _, kept = stored(door, number)
        assert kept.syntax == syntax
        assert b"whatever is coded\0" in kept.file


def test_s_bulk_uncomp_pixels_without_their_description_fail(door: Door) -> None:
    response = send(door, as_json(metadata(1, without=("00280010", "00280100"))), octets())
    assert (response.status_code, uids(response.json(), "00081198")) == (400, ["2.25.90817.1.1.1"])
    assert "Rows, Bits Allocated" in response.headers["warning"]


@pytest.mark.parametrize("media_type", ["application/pdf", "text/xml", "model/stl"])
def test_s_bulk_uncomp_a_document_in_its_own_type(door: Door, media_type: str) -> None:
    each = metadata(1, without=PIXEL_MACRO, t00420011={"vr": "OB", "BulkDataURI": "doc"})
    del each[PIXELS]
    assert send(door, as_json(each), (media_type, "doc", b"%PDF of odd length")).status_code == 200
    dataset = stored(door)[1].dataset
    assert dataset.MIMETypeOfEncapsulatedDocument == media_type
    assert dataset.EncapsulatedDocumentLength == 18
    assert dataset.EncapsulatedDocument == b"%PDF of odd length"


def test_s_bulk_missing_fails_alone(door: Door) -> None:
    lost = metadata(2, "bulk/2")
    within = metadata(3, t00311001={"vr": "OB", "BulkDataURI": "nowhere"})
    response = send(door, as_json(metadata(1), lost, within), octets())
    module = response.json()
    assert response.status_code == 202
    assert uids(module, "00081199") == ["2.25.90817.1.1.1"]
    assert uids(module, "00081198") == ["2.25.90817.1.1.2", "2.25.90817.1.1.3"]
    assert reasons(module, "00081198") == [0xC001, 0xC001]
    assert "no part has it as its Content-Location" in response.headers["warning"]
    assert "bulk/2" not in str(response.headers)
    empty = send(door, as_json(metadata(4)), octets(b""))
    assert (empty.status_code, uids(empty.json(), "00081198")) == (400, ["2.25.90817.1.1.4"])


def test_s_bulk_orphan_is_reported(door: Door) -> None:
    nameless = (OCTETS, None, b"x")
    response = send(door, as_json(metadata(1)), octets(), octets(b"more", "bulk/9"), nameless)
    assert response.status_code == 202
    assert uids(response.json(), "00081199") == ["2.25.90817.1.1.1"]
    assert reasons(response.json(), "0008119A") == [0xC000, 0xC000]


def test_s_otherfail_metadata_that_is_none(door: Door) -> None:
    response = send(door, as_json(metadata(1), 7, {"x": 1}), (JSON, None, b"{"), (XML, None, b"<a/>"), octets())
    module = response.json()
    assert response.status_code == 202
    assert uids(module, "00081199") == ["2.25.90817.1.1.1"]
    assert len(reasons(module, "0008119A")) == 4
    for content in (b"[]", b"", b"[" * 5000, b"null"):
        assert send(door, (JSON, None, content)).status_code == 400


@pytest.mark.parametrize("lacking", ["00080016", "00080018"])
def test_s_missinguid_in_metadata(door: Door, lacking: str) -> None:
    response = send(door, as_json(metadata(1, without=(lacking,))), octets())
    assert (response.status_code, reasons(response.json(), "0008119A")) == (400, [0xC002])
    twice = metadata(1) | {"7fe00010": {"vr": "OW"}}
    assert send(door, as_json(twice), octets()).status_code == 400


def test_s_studymismatch_in_metadata(door: Door) -> None:
    response = send(door, as_json(metadata(1)), octets(), path="/studies/1.2.3")
    assert (response.status_code, reasons(response.json(), "00081198")) == (409, [0xA901])


def test_s_disconnect_metadata_whose_body_is_cut_short_stores_nothing(door: Door) -> None:
    whole = parts(as_json(metadata(1)), octets())
    for cut in (len(whole) - 8, len(whole) - 300):
        response = post(door, whole[:cut], f'multipart/related; type="{JSON}"; boundary=b')
        assert response.status_code == 400
        assert "closing delimiter" in response.json()["detail"]
    assert not door.archive.instances
    assert not list(door.archive.folder.glob("*.part"))


def test_h_413_metadata_and_bulk_data_over_the_limits(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described, "MAX_METADATA_BYTES", 1000)
    assert send(door, as_json(metadata(1)), octets()).status_code == 413
    monkeypatch.undo()
    monkeypatch.setattr(described, "MAX_PARTS", 2)
    assert send(door, as_json(metadata(1)), octets(), octets(location="bulk/2")).status_code == 413
    assert send(door, as_json(metadata(1), metadata(2), metadata(3)), octets()).status_code == 413
    monkeypatch.undo()
    door.archive.max_bytes = 100
    assert send(door, as_json(metadata(1)), octets()).status_code == 413
    assert not door.archive.instances
    assert not list(door.archive.folder.glob("*.part"))


def test_h_413_values_in_memory_are_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_parts, "MAX_VALUE_BYTES", 3)
    values = {f"003110{number}0": {"vr": "OB", "BulkDataURI": "v"} for number in (2, 3)}
    response = send(door, as_json(metadata(1) | values), octets(), octets(b"12", "v"))
    assert (response.status_code, reasons(response.json(), "00081198")) == (413, [0xA700])


def test_h_413_a_small_request_does_not_become_many_large_instances(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_parts, "ALWAYS_USABLE_BYTES", 0)
    response = send(door, as_json(*map(metadata, range(1, 21))), octets())
    module = response.json()
    assert response.status_code == 202
    assert (len(uids(module, "00081199")), reasons(module, "00081198")) == (bulk_parts.MAX_USES, [0xA700] * 4)


def test_s_503_no_room_for_bulk_data(door: Door) -> None:
    door.archive.fail["incoming"] = Exhausted("the disk is full")
    response = send(door, as_json(metadata(1)), octets())
    assert response.status_code == 503
    assert "retry-after" in response.headers


def test_s_stream_bulk_data_in_bounded_pieces_and_large(tmp_path_factory: pytest.TempPathFactory) -> None:
    cells = bytes(range(256)) * 8 * 2048  # 4 MiB: more than is kept in memory
    each = metadata(1, t00280010={"vr": "US", "Value": [2048]}, t00280011={"vr": "US", "Value": [1024]})
    whole = parts(as_json(each), octets(cells))

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(whole), 100_003):
            yield whole[start : start + 100_003]

    with opened(tmp_path_factory.mktemp("large")) as door:
        response = post(door, pieces(), f'multipart/related; type="{JSON}"; boundary=b')
        assert response.status_code == 200, response.text
        assert stored(door)[1].dataset.PixelData == cells
        assert not list(door.archive.folder.glob("*.part"))


def test_s_parttype_a_whole_instance_among_metadata_is_passed_over(door: Door) -> None:
    response = post(door, body_of(file(1)), f'multipart/related; type="{JSON}"; boundary=b')
    assert (response.status_code, reasons(response.json(), "0008119A")) == (415, [0xC000])
