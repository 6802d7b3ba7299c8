"""QIDO-RS over HTTP: the forms of results and what stands beside them (PS3.18 10.6.3, 10.6.4)."""

import email.message
import email.policy

import pytest

from storage.dicom import xmlreading
from tests.web.conftest import Door

XML = 'multipart/related; type="application/dicom+xml"'


def parts(content_type: str, body: bytes) -> list[email.message.Message]:
    """The parts of a multipart answer, by somebody else's reading of it."""
    message = email.message_from_bytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP
    )
    assert not message.defects
    return message.get_payload()  # type: ignore[return-value]


@pytest.mark.parametrize("path", ["/studies", "/series", "/instances"])
def test_q_xml_one_document_a_match_the_same_as_in_json(ct: Door, path: str) -> None:
    response = ct.get(path, accept=XML)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(XML)
    rows = ct.get(path).json()
    found = parts(response.headers["content-type"], response.content)
    assert [part["content-location"] for part in found] == [row["00081190"]["Value"][0] for row in rows]
    for part, row in zip(found, rows, strict=True):
        document = part.get_payload(decode=True)
        assert isinstance(document, bytes)
        assert part.get_content_type() == "application/dicom+xml"
        assert int(part["content-length"]) == len(document)
        assert set(xmlreading.read(document)) == set(row)


def test_q_xml_only_as_multipart(ct: Door) -> None:
    assert ct.get("/studies", accept="application/dicom+xml").status_code == 406
    assert ct.get("/studies?PatientID=nobody", accept=XML).status_code == 204
    assert ct.get("/studies", accept=f"{XML};q=0.5, application/json;q=0.4").headers["content-type"].startswith(XML)


def test_q_total_in_a_header(ct: Door) -> None:
    for query, total in (("", "2"), ("limit=1", "2"), ("limit=1&offset=1", "2"), ("limit=0", "2"), ("StudyID=9", "0")):
        assert ct.get(f"/studies?{query}").headers["x-total-count"] == total, query
    assert "x-total-count" not in ct.get("/studies?offset=5").headers, "how far past the end is not known"
    ct.archive.extra_remaining = 10_000
    assert "x-total-count" not in ct.get("/studies").headers, "nor what was not counted"


def test_h_cors_exposes_the_total(ct: Door) -> None:
    response = ct.get("/studies", origin="http://localhost:3000")
    assert "X-Total-Count" in response.headers["access-control-expose-headers"]
