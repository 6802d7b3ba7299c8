"""WADO-RS metadata over HTTP (PS3.18 10.4.1.1.2)."""

import gzip
import json
from email import policy
from email.parser import BytesParser

import httpx
import pytest

from gateway.web import compression
from storage.dicom import xmlreading
from storage.dicom.identity import Identity
from tests import samples
from tests.web.conftest import Door
from tests.web.fake_archive import Stored, read

STUDY = "/studies/2.25.90817.1"
SERIES = f"{STUDY}/series/2.25.90817.1.1"


@pytest.mark.parametrize(("path", "count"), [(STUDY, 4), (SERIES, 2), (f"{SERIES}/instances/2.25.90817.1.1.2", 1)])
def test_w_meta_json(ct: Door, path: str, count: int) -> None:
    response = ct.get(path + "/metadata", accept="application/dicom+json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/dicom+json")
    datasets = response.json()
    assert len(datasets) == count
    for dataset in datasets:
        uids = [dataset[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")]
        url = "{}/studies/{}/series/{}/instances/{}".format(ct.url, *uids)
        assert dataset["7FE00010"] == {"vr": "OW", "BulkDataURI": f"{url}/bulkdata/7FE00010"}
        assert not any(tag.startswith("0002") for tag in dataset)


def test_w_meta_bulk_only_real_bulk_uris_are_made_absolute(door: Door) -> None:
    tricky = 'x "BulkDataURI":"bulkdata/ y'
    stored = read(samples.part10(samples.ct(PatientComments=tricky)))
    door.archive.instances["1"] = stored
    (dataset,) = door.get(f"{STUDY}/metadata").json()
    assert dataset["00104000"]["Value"] == [tricky]


def documents(response: httpx.Response) -> dict[str, bytes]:
    """The parts of a multipart answer by their Content-Location, their headers checked."""
    message = BytesParser(policy=policy.HTTP).parsebytes(
        b"Content-Type: " + response.headers["content-type"].encode() + b"\r\n\r\n" + response.content
    )
    assert message.get_content_type() == "multipart/related"
    assert message.get_param("type") == "application/dicom+xml"
    found = {}
    for part in message.iter_parts():
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        assert part.get_content_type() == "application/dicom+xml"
        assert int(part["Content-Length"]) == len(data)
        found[part["Content-Location"]] = data
    return found


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize(("path", "count"), [(STUDY, 4), (SERIES, 2), (f"{SERIES}/instances/2.25.90817.1.1.2", 1)])
def test_w_meta_xml(ct: Door, path: str, count: int, encoding: str) -> None:
    headers = {"accept": 'multipart/related; type="application/dicom+xml"', "accept-encoding": encoding}
    response = ct.get(path + "/metadata", **headers)
    assert (response.status_code, response.headers.get("content-encoding", "identity")) == (200, encoding)
    found = documents(response)
    expected = {}
    for dataset in ct.get(path + "/metadata").json():
        uids = [dataset[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")]
        expected["{}/studies/{}/series/{}/instances/{}/metadata".format(ct.url, *uids)] = dataset
    assert {location: xmlreading.read(document) for location, document in found.items()} == expected
    assert len(found) == count


def test_w_meta_xml_of_one_instance_as_a_single_part(ct: Door) -> None:
    path = f"{SERIES}/instances/2.25.90817.1.1.2/metadata"
    response = ct.get(path, accept="application/dicom+xml", **{"accept-encoding": "identity"})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/dicom+xml")
    assert int(response.headers["content-length"]) == len(response.content)
    (dataset,) = ct.get(path).json()
    assert xmlreading.read(response.content) == dataset
    preferred = ct.get(path, accept="application/dicom+xml;q=0.5, application/dicom+json")
    assert preferred.headers["content-type"] == "application/dicom+json"
    assert ct.get(path + "?accept=application/dicom%2Bxml").content == response.content


@pytest.fixture
def thousands(door: Door) -> Door:
    base = read(samples.part10(samples.ct()))
    for number in range(3000):
        identity = Identity(base.identity.study_uid, base.identity.series_uid, f"2.25.{number}", samples.CT)
        text = b'{"00080018":{"vr":"UI","Value":["2.25.%d"]},"00104000":{"vr":"LT","Value":["%s"]}}' % (
            number,
            b"x" * 900,
        )
        door.archive.instances[str(number)] = Stored(identity, b"", "", {}, text, base.dataset)
    return door


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_w_meta_study_thousands_are_streamed(thousands: Door, encoding: str) -> None:
    with thousands.client.stream(
        "GET", f"{thousands.url}{STUDY}/metadata", headers={"accept-encoding": encoding}
    ) as response:
        body = b"".join(response.iter_raw())
    assert response.headers.get("content-encoding", "identity") == encoding
    datasets = json.loads(gzip.decompress(body) if encoding == "gzip" else body)
    assert [each["00080018"]["Value"][0] for each in datasets] == [f"2.25.{number}" for number in range(3000)]


def test_w_meta_xml_thousands_are_streamed(thousands: Door) -> None:
    accepted = {"accept": "multipart/related; type=application/dicom+xml"}
    body = thousands.get(f"{STUDY}/metadata", **accepted).content
    assert body.count(b"</NativeDicomModel>") == body.count(b"Content-Location: ") == 3000
    assert body.endswith(b"--\r\n")


def test_metadata_406_and_head(ct: Door) -> None:
    refused = ct.get(f"{STUDY}/metadata", accept="application/dicom")
    assert refused.status_code == 406
    assert "application/dicom+json" in refused.text
    assert "application/dicom+xml" in refused.text
    assert ct.get(f"{STUDY}/metadata", accept="application/dicom+xml").status_code == 406  # many documents, one part
    headed = ct.client.head(f"{ct.url}{STUDY}/metadata", headers={"accept-encoding": "identity"})
    assert (headed.status_code, headed.content) == (200, b"")
    plain = ct.get(f"{STUDY}/metadata", **{"accept-encoding": "identity"})
    assert headed.headers["content-length"] == plain.headers["content-length"] == str(len(plain.content))


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("GZIP, deflate, br", True),
        ("x-gzip", True),
        ("*", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, *", False),
        ("gzipped", False),
        ("gzip;q", False),
    ],
)
def test_h_enc_what_takes_gzip(header: str, taken: bool) -> None:
    assert compression.takes_gzip(header) is taken
