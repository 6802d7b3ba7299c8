"""What each part of an answer says of itself (PS3.18 8.6.1.2), and what an Accept may say without effect."""

import pytest

from gateway.archive import BY_DEFAULT, RATHER_THAN
from gateway.web import accept
from tests import samples
from tests.web.conftest import Door
from tests.web.test_retrieve import INSTANCE, JLS, LITTLE, OHIF, SERIES, STUDY, jls, parts

RLE = "1.2.840.10008.1.2.5"


@pytest.mark.parametrize(
    ("path", "accept", "place"),
    [
        (STUDY, 'multipart/related; type="application/dicom"', ""),
        (f"{INSTANCE}/frames/1", OHIF, "/frames/1"),
        (f"{INSTANCE}/bulkdata/7FE00010", OHIF, "/bulkdata/7FE00010"),
        (f"{SERIES}/pixeldata", OHIF, "/bulkdata/7FE00010"),
    ],
)
def test_h_multipart_out_h_part_ct_h_part_len_h_part_location(ct: Door, path: str, accept: str, place: str) -> None:
    response = ct.get(path, accept=accept)
    found = parts(response)  # which is strict about delimiters, CRLF and Content-Length
    kind = found[0][0]["content-type"].partition(";")[0]
    assert response.headers["content-type"].startswith(f'multipart/related; type="{kind}"; boundary=')
    for headers, _ in found:
        assert headers["content-type"] == f"{kind}; transfer-syntax={LITTLE}"
        assert headers["content-location"].startswith(f"{ct.url}{STUDY}/series/")
        assert headers["content-location"].endswith(place)
        assert ct.client.get(headers["content-location"]).status_code == 200


def test_h_part_ts_is_the_one_the_part_has_and_never_a_star(door: Door) -> None:
    door.keep(jls(1))
    door.keep(samples.part10(samples.ct(3, 1, 2)))
    response = door.get(
        "/studies/2.25.90817.3", accept='multipart/related; type="application/dicom"; transfer-syntax=*'
    )
    found = {headers["content-type"] for headers, _ in parts(response)}
    assert found == {f"application/dicom; transfer-syntax={syntax}" for syntax in (JLS, LITTLE)}


@pytest.mark.parametrize("charset", ["klingon", "utf-16", "", '"'])
def test_h_charset_what_is_not_supported_is_ignored(ct: Door, charset: str) -> None:
    headers = {"Accept": f"application/dicom+json; charset={charset}", "Accept-Charset": charset}
    response = ct.client.get(f"{ct.url}{INSTANCE}/metadata", params={"charset": charset}, headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    assert "小东" in response.content.decode("utf-8")


def test_w_ts_case_several_entries_by_their_weight() -> None:
    header = (
        f'multipart/related; type="application/dicom"; transfer-syntax={RLE}; q=0.4,'
        f'Multipart/Related; TYPE=application/dicom; Transfer-Syntax="{JLS}"; Q=0.8,'
        f"application/dicom;q=0.4"
    )
    assert accept.instance_syntaxes(accept.parse(header)) == [JLS, RATHER_THAN, RLE, BY_DEFAULT]


def test_w_frames_single_an_instance_without_number_of_frames(ct: Door) -> None:
    (stored,) = [each for uid, each in ct.archive.instances.items() if uid == "2.25.90817.1.1.1"]
    assert "NumberOfFrames" not in stored.dataset
    assert ct.get(f"{INSTANCE}/frames/1", accept="application/octet-stream").content == stored.dataset.PixelData
