"""WADO-RS in its rarer forms: pieces of a part, ZIP, all bulk data, and what must not be asked for together."""

import io
import zipfile

import httpx
import pytest

from gateway.security.caller import Caller, Right
from gateway.web.zipped import chunks
from storage.dicom.identity import Scope
from storage.errors import Unavailable
from tests import samples
from tests.web.conftest import Door
from tests.web.test_retrieve import INSTANCE, LITTLE, SERIES, STUDY, all_closed, jls, parts, waveform

FRAME = f"{INSTANCE}/frames/1"


def ranged(door: Door, path: str, value: str, accept: str, method: str = "GET", **more: str) -> httpx.Response:
    headers = {"Accept": accept, "Range": value, **more}
    return door.client.request(method, door.url + path, headers=headers)


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        (INSTANCE, "application/dicom"),
        (FRAME, "application/octet-stream"),
        (f"{INSTANCE}/bulkdata/7FE00010", "application/octet-stream"),
    ],
)
@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("Bytes = 5-5", 5, 6)],
)
def test_h_range_a_piece_of_a_single_part(
    ct: Door, path: str, accept: str, value: str, start: int, stop: int | None
) -> None:
    whole = ct.get(path, accept=accept)
    assert whole.headers["accept-ranges"] == "bytes"
    response = ranged(ct, path, value, accept)
    expected = whole.content[start:stop]
    assert (response.status_code, response.content) == (206, expected)
    first = start % len(whole.content)
    assert response.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(whole.content)}"
    assert response.headers["content-length"] == str(len(expected))
    assert response.headers["content-type"] == whole.headers["content-type"]
    all_closed(ct)


@pytest.mark.parametrize("value", ["bytes=99999999-", "bytes=-0"])
def test_h_range_416_when_there_are_no_such_bytes(ct: Door, value: str) -> None:
    response = ranged(ct, FRAME, value, "application/octet-stream")
    assert (response.status_code, response.headers["content-range"]) == (416, "bytes */512")
    all_closed(ct)


@pytest.mark.parametrize("value", ["bytes=0-1,5-6", "items=0-1", "bytes=5-1", "bytes=-", "bytes=a-b", ""])
def test_h_range_what_is_no_single_range_is_ignored(ct: Door, value: str) -> None:
    response = ranged(ct, FRAME, value, "application/octet-stream")
    assert (response.status_code, len(response.content)) == (200, 512)


def test_h_206_only_for_a_piece_of_one_part(ct: Door) -> None:
    response = ranged(ct, FRAME, "bytes=0-1", 'multipart/related; type="application/octet-stream"')
    assert (response.status_code, "content-range" in response.headers) == (200, False)
    response = ranged(ct, FRAME, "bytes=0-1", "application/octet-stream", **{"If-Range": '"x"'})
    assert response.status_code == 200
    assert ranged(ct, FRAME, "bytes=0-1", "application/octet-stream", "HEAD").status_code == 200


@pytest.mark.parametrize(("path", "count"), [(STUDY, 4), (SERIES, 2), (INSTANCE, 1)])
def test_w_zip_names_entries_by_uids(ct: Door, path: str, count: int) -> None:
    response = ct.get(path, accept="application/zip; transfer-syntax=*")
    assert response.headers["content-type"] == "application/zip"
    file = zipfile.ZipFile(io.BytesIO(response.content))
    assert file.testzip() is None
    assert len(file.namelist()) == len(set(file.namelist())) == count
    for entry in file.infolist():
        study, series, name = entry.filename.split("/")
        stored = ct.archive.instances[name.removesuffix(".dcm")]
        assert (study, series) == (stored.identity.study_uid, stored.identity.series_uid)
        assert file.read(entry) == stored.file
    all_closed(ct)


def test_w_zip_is_only_for_who_names_it(ct: Door) -> None:
    for accept in ("*/*", "application/*"):
        assert "zip" not in ct.get(INSTANCE, accept=accept).headers["content-type"]
    assert ct.get(SERIES, accept="application/*").status_code == 406


def test_w_zip_that_breaks_off_raises_and_has_no_end(ct: Door) -> None:
    scope = Scope("2.25.90817.1")
    by = Caller("viewer", "127.0.0.1", "web", frozenset(Right))
    ct.archive.break_after = 1 << 20
    whole = b"".join(chunks(ct.archive.retrieve(scope, accept=["*"], by=by)))
    ct.archive.break_after = 0
    sent: list[bytes] = []
    with pytest.raises(Unavailable):
        sent.extend(chunks(ct.archive.retrieve(scope, accept=["*"], by=by)))
    assert len(zipfile.ZipFile(io.BytesIO(whole)).namelist()) == 4
    assert not zipfile.is_zipfile(io.BytesIO(b"".join(sent)))


@pytest.mark.parametrize("path", [STUDY, SERIES, INSTANCE])
def test_w_inst_octet_gives_the_bulk_data(ct: Door, path: str) -> None:
    found = parts(ct.get(path, accept='multipart/related; type="application/octet-stream"'))
    assert [body for _, body in found] == [body for _, body in parts(ct.get(f"{path}/bulkdata"))]
    for headers, body in found:
        assert headers["content-type"] == f"application/octet-stream; transfer-syntax={LITTLE}"
        uid = headers["content-location"].split("/instances/")[1].partition("/")[0]
        assert headers["content-location"].endswith(f"{uid}/bulkdata/7FE00010")
        assert body == ct.archive.instances[uid].dataset.PixelData


def test_w_bulk_all_and_pixeldata_at_each_level(door: Door) -> None:
    path = waveform(door)
    for place in (path, path.partition("/instances")[0], path.partition("/series")[0]):
        found = [headers["content-location"].rpartition("/")[2] for headers, _ in parts(door.get(f"{place}/bulkdata"))]
        assert sorted(found) == ["00281201", "7FE00010"]
        found = [headers["content-location"].rpartition("/")[2] for headers, _ in parts(door.get(f"{place}/pixeldata"))]
        assert found == ["7FE00010"]
    all_closed(door)


def test_w_bulk_all_404_where_there_is_none(door: Door) -> None:
    ds = samples.ct(6, PixelData=None)
    door.keep(samples.part10(ds))
    assert door.get(f"/studies/{ds.StudyInstanceUID}/bulkdata").status_code == 404
    assert door.get("/studies/1.2.3/pixeldata").status_code == 404
    assert door.get(f"/studies/{ds.StudyInstanceUID}/pixeldata", accept="text/html").status_code == 406


def test_w_bulk_types_each_part_has_its_own(door: Door) -> None:
    door.keep(jls(1))
    door.keep(samples.part10(samples.ct(3, 1, 2)))
    response = door.get("/studies/2.25.90817.3/pixeldata", accept='multipart/related; type="*/*"; transfer-syntax=*')
    types = {headers["content-type"].partition(";")[0] for headers, _ in parts(response)}
    assert types == {"image/jls", "application/octet-stream"}


@pytest.mark.parametrize("suffix", ["", "/metadata"])
@pytest.mark.parametrize(
    "accept",
    [
        "application/dicom, image/jpeg",
        'multipart/related; type="application/dicom", text/html',
        "application/dicom+json, application/pdf",
    ],
)
def test_h_accept_mix(ct: Door, suffix: str, accept: str) -> None:
    assert ct.get(INSTANCE + suffix, accept=accept).status_code == 400


def test_h_accept_mix_is_not_what_names_no_dicom_or_no_picture(ct: Door) -> None:
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
    for accept in (browser, "application/dicom, image/jpeg;q=0, */*;q=0.1", "application/dicom, application/json"):
        assert ct.get(INSTANCE, accept=accept).status_code == 200
