"""WADO-RS over HTTP: instances, frames and bulk values (PS3.18 10.4)."""

import io
import socket
import time
from contextlib import suppress
from email.message import Message
from email.parser import BytesParser

import httpx
import pydicom
import pytest
import structlog
from pydicom.encaps import encapsulate

from storage.errors import NotFound, Unavailable
from storage.packs import Damaged
from tests import samples
from tests.web.conftest import Door

STUDY = "/studies/2.25.90817.1"
SERIES = f"{STUDY}/series/2.25.90817.1.1"
INSTANCE = f"{SERIES}/instances/2.25.90817.1.1.1"
JLS = "1.2.840.10008.1.2.4.80"
LITTLE = "1.2.840.10008.1.2.1"
OHIF = "multipart/related; type=application/octet-stream; transfer-syntax=*"


def parts(response: httpx.Response) -> list[tuple[Message, bytes]]:
    """The parts of a multipart answer, by a reader that is strict about CRLF and not ours."""
    assert response.status_code == 200, response.text
    content_type = response.headers["content-type"]
    message = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode())
    delimiter = f"--{message.get_boundary()}".encode()
    before, *found, end = response.content.split(delimiter)
    assert (before, end) == (b"", b"--\r\n")
    result = []
    for part in found:
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = BytesParser().parsebytes(head + b"\r\n\r\n")
        assert part.startswith(b"\r\n")
        assert body.endswith(b"\r\n")
        assert int(headers["content-length"]) == len(body) - 2
        result.append((headers, body[:-2]))
    return result


def all_closed(door: Door) -> None:
    """Wait for the server to close what it opened: it does so after the caller has got, or left, the answer."""
    deadline = time.monotonic() + 10
    while door.archive.opened == 0 or door.archive.opened != door.archive.closed:
        assert time.monotonic() < deadline, "parts are still open"
        time.sleep(0.01)


def jls(number: int = 1, frames: int = 3) -> bytes:
    """An instance whose frames are said to be JPEG-LS; nobody here looks into them."""
    pixels = encapsulate([b"\xff\xd8 frame %d \xff\xd9" % frame for frame in range(1, frames + 1)])
    ds = samples.ct(3, 1, number, NumberOfFrames=frames, PixelData=pixels)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return samples.part10(ds, JLS)


@pytest.fixture
def compressed(door: Door) -> str:
    door.keep(jls())
    return "/studies/2.25.90817.3/series/2.25.90817.3.1/instances/2.25.90817.3.1.1"


@pytest.mark.parametrize(("path", "count"), [(STUDY, 4), (SERIES, 2), (INSTANCE, 1)])
def test_w_multipart_every_instance_byte_for_byte(ct: Door, path: str, count: int) -> None:
    response = ct.get(path, accept='multipart/related; type="application/dicom"')
    found = parts(response)
    assert response.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert response.headers["content-length"] == str(len(response.content))
    assert len(found) == count
    for headers, body in found:
        assert headers["content-type"] == f"application/dicom; transfer-syntax={LITTLE}"
        uid = headers["content-location"].rpartition("/")[2]
        assert headers["content-location"].startswith(ct.url + "/studies/")
        assert body == ct.archive.instances[uid].file
    assert ct.archive.opened == ct.archive.closed


def test_h_boundary_safe_is_new_each_time(ct: Door) -> None:
    first, second = (ct.get(INSTANCE).headers["content-type"].rpartition("=")[2] for _ in range(2))
    assert first != second
    assert len(first) >= 32


def test_w_singlepart(ct: Door) -> None:
    for accept in (
        "application/dicom",
        "application/dicom; transfer-syntax=*",
        f"application/dicom;transfer-syntax={LITTLE}",
    ):
        response = ct.get(INSTANCE, accept=accept)
        assert response.headers["content-type"] == f"application/dicom; transfer-syntax={LITTLE}"
        assert pydicom.dcmread(io.BytesIO(response.content)).PatientID == "P1"


@pytest.mark.parametrize("path", [STUDY, SERIES])
def test_x_single_and_w_single_series_406(ct: Door, path: str) -> None:
    assert ct.get(path, accept="application/dicom").status_code == 406
    assert ct.archive.opened == ct.archive.closed


def test_w_ts_specific_406_names_what_is_stored(ct: Door) -> None:
    response = ct.get(INSTANCE, accept=f'multipart/related; type="application/dicom"; transfer-syntax={JLS}')
    assert response.status_code == 406
    assert LITTLE in response.json()["detail"]
    assert ct.get(INSTANCE, accept="text/html").status_code == 406


@pytest.mark.parametrize(
    "path",
    [
        "/studies/1.2.3",
        f"{STUDY}/series/1.2.3",
        f"{SERIES}/instances/1.2.3",
        "/studies/2.25.90817.2/series/2.25.90817.1.1",
        "/studies/2.25.90817.2/series/2.25.90817.2.1/instances/2.25.90817.1.1.1",
    ],
)
def test_w_404_also_for_uids_that_do_not_belong_together(ct: Door, path: str) -> None:
    suffixes = ["", "/metadata"] + (["/frames/1", "/bulkdata/7FE00010"] if "instances" in path else [])
    for suffix in suffixes:
        response = ct.get(path + suffix)
        assert (response.status_code, response.json()["error"]) == (404, "not-found")


@pytest.mark.parametrize(
    "uid",
    ["abc", "..%2F..%2Fetc", "1.2.3%00", "1..2", ".1", "1.2'--", "%221%22", "9" * 65, "%E7%8E%8B", "1.2%0d%0aX:y"],
)
def test_h_uidpath(ct: Door, uid: str) -> None:
    for path in (
        f"/studies/{uid}",
        f"/studies/{uid}/series",
        f"{STUDY}/series/{uid}/metadata",
        f"{SERIES}/instances/{uid}/frames/1",
    ):
        assert ct.get(path).status_code in (400, 404)


def test_w_frames_in_the_order_asked(door: Door, compressed: str) -> None:
    for path in ("/frames/3,1,2", "/frames/3%2C1%2C2"):
        found = parts(door.get(compressed + path, accept=OHIF))
        assert [headers["content-location"].rpartition("/")[2] for headers, _ in found] == ["3", "1", "2"]
        assert [body for _, body in found] == [
            b"\xff\xd8 frame %d \xff\xd9" % number + b"\0" * pad(number) for number in (3, 1, 2)
        ]


def pad(number: int) -> int:
    return len(b"\xff\xd8 frame %d \xff\xd9" % number) % 2


def test_w_frames_star_tells_the_true_type(door: Door, compressed: str) -> None:
    response = door.get(f"{compressed}/frames/2", accept=OHIF)
    ((headers, _),) = parts(response)
    assert headers["content-type"] == f"image/jls; transfer-syntax={JLS}"
    assert 'type="image/jls"' in response.headers["content-type"]
    single = door.get(f"{compressed}/frames/2", accept="image/jls")
    assert single.headers["content-type"] == f"image/jls; transfer-syntax={JLS}"
    assert single.content == parts(response)[0][1]


@pytest.mark.parametrize(
    "accept",
    [
        'multipart/related; type="application/octet-stream"',
        "application/octet-stream",
        "image/jpeg",
        "image/png",
        "text/html",
    ],
)
def test_w_frames_octet_is_refused_for_compressed_frames(door: Door, compressed: str, accept: str) -> None:
    assert door.get(f"{compressed}/frames/1", accept=accept).status_code == 406
    assert door.archive.opened == door.archive.closed


def test_w_frames_single_part_for_several_frames_is_refused(door: Door, compressed: str) -> None:
    assert door.get(f"{compressed}/frames/1,2", accept="image/jls").status_code == 406


def test_w_frames_native(ct: Door) -> None:
    pixels = ct.archive.instances["2.25.90817.1.1.1"].dataset.PixelData
    for accept in (OHIF, "*/*", 'multipart/related; type="application/octet-stream"', 'multipart/related; type="*/*"'):
        response = ct.get(f"{INSTANCE}/frames/1", accept=accept)
        ((headers, body),) = parts(response)
        assert headers["content-type"] == f"application/octet-stream; transfer-syntax={LITTLE}"
        assert body == pixels
    assert ct.get(f"{INSTANCE}/frames/1", accept="application/octet-stream").content == pixels


@pytest.mark.parametrize("frames", ["0", "-1", "x", "1,", ",1", "1,,2", "1-2", "1,0", "1.5", "%EF%BC%91", "9" * 30])
def test_w_frames_range_what_is_no_frame_number(ct: Door, frames: str) -> None:
    response = ct.get(f"{INSTANCE}/frames/{frames}")
    assert (response.status_code, response.json()["error"]) == (400, "frames")


def test_w_frames_range_beyond_the_last(ct: Door) -> None:
    assert ct.get(f"{INSTANCE}/frames/2").status_code == 404
    assert ct.get(f"{INSTANCE}/frames/1,2").status_code == 404


def test_too_many_frames_at_once(ct: Door) -> None:
    assert ct.get(f"{INSTANCE}/frames/" + ",".join(["1"] * 10_001)).status_code == 413


def document(mime: str = "application/pdf") -> tuple[str, bytes]:
    ds = samples.ct(4, PixelData=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    ds.EncapsulatedDocument, ds.MIMETypeOfEncapsulatedDocument = b"%PDF-1.7 " + b"x" * 2000 + b"\0", mime
    return (
        f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}",
        samples.part10(ds),
    )


def test_w_bulk_encapdoc_as_ohif_asks_for_it(door: Door) -> None:
    path, file = document()
    door.keep(file)
    accept = 'multipart/related; type="application/pdf", multipart/related; type="application/octet-stream"'
    ((headers, body),) = parts(door.get(f"{path}/bulkdata/00420011", accept=accept))
    assert headers["content-type"] == "application/pdf"
    assert body.startswith(b"%PDF-1.7")
    single = door.get(f"{path}/bulkdata/00420011", accept="application/pdf")
    assert (single.headers["content-type"], single.content) == ("application/pdf", body)
    octets = door.get(f"{path}/bulkdata/00420011", accept="application/octet-stream")
    assert octets.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(("declared", "left_out"), [(2009, 1), (2010, 0), (9, 0), (None, 0)])
def test_w_bulk_encapdoc_without_the_byte_that_pads_it(door: Door, declared: int | None, left_out: int) -> None:
    path, file = document()
    ds = pydicom.dcmread(io.BytesIO(file))
    whole = bytes(ds.EncapsulatedDocument)
    if declared is not None:
        ds.EncapsulatedDocumentLength = declared
    door.keep(samples.part10(ds))
    for accept in ("application/pdf", "application/octet-stream"):
        answer = door.get(f"{path}/bulkdata/00420011", accept=accept)
        assert answer.content == whole[: len(whole) - left_out]
        assert answer.headers["content-length"] == str(len(answer.content))
    all_closed(door)


def test_a_document_that_could_run_in_a_browser_is_sent_as_octets(door: Door) -> None:
    path, file = document("text/html")
    door.keep(file)
    assert door.get(f"{path}/bulkdata/00420011", accept="text/html").status_code == 406
    ((headers, _),) = parts(door.get(f"{path}/bulkdata/00420011"))
    assert headers["content-type"].startswith("application/octet-stream")
    assert door.get(f"{path}/bulkdata/00420011").headers["x-content-type-options"] == "nosniff"


def waveform(door: Door) -> str:
    ds = samples.ct(5, RedPaletteColorLookupTableData=bytes(range(256)) * 8)
    door.keep(samples.part10(ds))
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def test_w_bulkuri_from_metadata_in_both_forms(door: Door) -> None:
    path = waveform(door)
    (dataset,) = door.get(f"{path}/metadata").json()
    uri = dataset["00281201"]["BulkDataURI"]
    assert uri == f"{door.url}{path}/bulkdata/00281201"
    single = door.client.get(uri, headers={"accept": "application/octet-stream"})
    assert single.content == bytes(range(256)) * 8
    ((headers, body),) = parts(
        door.client.get(uri, headers={"accept": 'multipart/related; type="application/octet-stream"'})
    )
    assert body == single.content
    assert headers["content-location"] == uri


def test_w_bulk_mf_compressed_pixel_data_frame_by_frame(door: Door, compressed: str) -> None:
    found = parts(door.get(f"{compressed}/bulkdata/7FE00010"))
    assert [headers.get_content_type() for headers, _ in found] == ["image/jls"] * 3
    assert door.get(f"{compressed}/bulkdata/7fe00010", accept="image/jls").status_code == 406, "several parts"


@pytest.mark.parametrize("path", ["x", "7FE0001", "7FE00010/1", "7FE00010/../x", "0042%30011x", "00420011/1/" * 80])
def test_bulk_paths_that_name_nothing(ct: Door, path: str) -> None:
    assert ct.get(f"{INSTANCE}/bulkdata/{path}").status_code == 404


def test_h_head_does_not_read_the_body(door: Door) -> None:
    door.keep(samples.part10(samples.ct(Rows=1200, Columns=1200, PixelData=bytes(2_880_000))))
    response = door.client.head(door.url + INSTANCE)
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) > 1200 * 1200 * 2
    all_closed(door)
    assert door.archive.sent == 1 << 20
    assert door.get(INSTANCE).headers["content-length"] == response.headers["content-length"]


def test_h_len_one_large_part_has_its_length(door: Door) -> None:
    door.keep(samples.part10(samples.ct(Rows=1200, Columns=1200, PixelData=bytes(2_880_000))))
    response = door.get(INSTANCE, accept="application/dicom")
    assert (
        int(response.headers["content-length"])
        == len(response.content)
        == len(door.archive.instances["2.25.90817.1.1.1"].file)
    )


@pytest.fixture
def large(door: Door) -> Door:
    """A series of 12 instances of 2 MB."""
    pixels = bytes(2_000_000)
    door.keep(*(samples.part10(samples.ct(number=n, Rows=1000, Columns=1000, PixelData=pixels)) for n in range(1, 13)))
    return door


def test_h_multipart_stream_many_instances(large: Door) -> None:
    response = large.get(SERIES)
    assert "content-length" not in response.headers
    assert response.headers["transfer-encoding"] == "chunked"
    found = parts(response)
    assert len(found) == len(large.archive.instances)
    assert [body for _, body in found] == [each.file for each in large.archive.instances.values()]


def test_h_multipart_stream_an_error_half_way_breaks_the_connection(large: Door) -> None:
    large.archive.break_after = 1 << 20
    with pytest.raises(httpx.RemoteProtocolError):
        large.get(SERIES)
    with pytest.raises(httpx.RemoteProtocolError):
        large.get(INSTANCE, accept="application/dicom")
    all_closed(large)


@pytest.mark.parametrize("error", [Unavailable("the bucket stopped"), ValueError("nobody foresaw this")])
def test_an_answer_that_is_broken_off_is_one_line_of_the_log(
    large: Door, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    large.archive.break_after, large.archive.break_by = 1 << 20, error
    with structlog.testing.capture_logs() as logged, pytest.raises(httpx.RemoteProtocolError):
        large.get(SERIES)
    all_closed(large)
    [line] = logged
    assert line["event"].startswith("answer broken off")
    assert (line["resource"], line["log_level"]) == ("series instances", "error")
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_who_asks_on_before_an_answer_is_broken_off_is_not_kept_waiting(large: Door) -> None:
    large.archive.break_after = 1 << 20
    asked = f"GET /dicomweb{SERIES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with socket.create_connection(large.server.address, timeout=30) as connection:
        connection.sendall(asked + asked)
        received = b""
        with suppress(ConnectionResetError):
            while data := connection.recv(1 << 20):
                received += data
    assert received.count(b"HTTP/1.1 200") == 1
    assert not received.endswith(b"0\r\n\r\n")
    all_closed(large)


def test_an_error_before_the_first_byte_is_an_answer(ct: Door) -> None:
    ct.archive.break_after = 0
    assert ct.get(STUDY).status_code == 503
    assert ct.get(f"{INSTANCE}/frames/1").status_code == 503
    ct.archive.fail["retrieve"] = NotFound("gone")
    assert ct.get(STUDY).status_code == 404
    ct.archive.fail["metadata"] = Unavailable("index")
    assert ct.get(f"{STUDY}/metadata").status_code == 503


def test_what_is_damaged_is_told_from_what_is_away(ct: Door) -> None:
    for path, act in ((STUDY, "retrieve"), (f"{INSTANCE}/frames/1", "frames"), (f"{STUDY}/metadata", "metadata")):
        ct.archive.fail[act] = Damaged("a block is not what was stored", key="packs/secret.zip")
        response = ct.get(path)
        assert (response.status_code, response.json()["error"]) == (503, "damaged")
        assert "gateway verify" in response.json()["detail"] and "secret" not in response.text
        assert int(response.headers["retry-after"]) > 0, "it may have been damaged on its way"
        ct.archive.fail[act] = Unavailable("no route to host")
        response = ct.get(path)
        assert response.json() == {"error": "unavailable", "detail": "no route to host"}
        assert int(response.headers["retry-after"]) > 0


def test_a_caller_who_leaves_stops_the_reading(large: Door) -> None:
    large.archive.instances = {f"{number}": next(iter(large.archive.instances.values())) for number in range(100)}
    with large.client.stream("GET", large.url + SERIES) as response:
        next(response.iter_raw())
    all_closed(large)
    assert large.archive.sent < 100 << 20
