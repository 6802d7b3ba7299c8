"""STOW-RS over HTTP (PS3.18 10.5): what is taken, and what is answered."""

import itertools
import socket
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.security.policy import Forbidden
from gateway.web import reception
from storage.errors import Conflict, Exhausted, Fault, Invalid, StorageError, Unavailable
from tests import samples
from tests.web.conftest import Door, opened

MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'
PART = b"--b\r\nContent-Type: application/dicom\r\n\r\n"


def body_of(*files: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(PART + file + b"\r\n" for file in files) + end


def post(
    door: Door, content: Any, content_type: str = MULTIPART, path: str = "/studies", **headers: str
) -> httpx.Response:
    return door.client.post(door.url + path, content=content, headers={"content-type": content_type, **headers})


def uids(module: dict[str, Any], sequence: str) -> list[str]:
    return [item["00081155"]["Value"][0] for item in module.get(sequence, {"Value": []})["Value"]]


def reasons(module: dict[str, Any], sequence: str) -> list[int]:
    return [item["00081197"]["Value"][0] for item in module.get(sequence, {"Value": []})["Value"]]


def file(number: int = 1, **changes: Any) -> bytes:
    return samples.part10(samples.ct(number=number, **changes))


def test_s_200_s_module_s_refseq_s_retrieveurl(door: Door) -> None:
    response = post(door, body_of(file(1), file(2)))
    assert (response.status_code, response.headers["content-type"]) == (200, "application/dicom+json")
    module = response.json()
    study = f"{door.url}/studies/2.25.90817.1"
    assert module["00081190"] == {"vr": "UR", "Value": [study]}
    assert uids(module, "00081199") == ["2.25.90817.1.1.1", "2.25.90817.1.1.2"]
    first = module["00081199"]["Value"][0]
    assert first["00081150"] == {"vr": "UI", "Value": [samples.CT]}
    assert first["00081190"]["Value"] == [f"{study}/series/2.25.90817.1.1/instances/2.25.90817.1.1.1"]
    assert set(module) == {"00081190", "00081199"}
    assert response.headers["location"] == study
    assert door.client.get(first["00081190"]["Value"][0]).status_code == 200


def test_s_target_the_study_of_the_path_s_studymismatch(door: Door) -> None:
    other = samples.part10(samples.ct(2))
    response = post(door, body_of(file(1), other), path="/studies/2.25.90817.1")
    module = response.json()
    assert response.status_code == 202
    assert uids(module, "00081199") == ["2.25.90817.1.1.1"]
    assert (uids(module, "00081198"), reasons(module, "00081198")) == (["2.25.90817.2.1.1"], [0xA901])
    assert "1 of 2" in response.headers["warning"]
    alone = post(door, body_of(other), path="/studies/2.25.90817.1")
    assert alone.status_code == 409
    assert alone.json()["00081190"] == {"vr": "UR"}


def test_s_multistudy_has_no_single_retrieve_url(door: Door) -> None:
    response = post(door, body_of(file(1), samples.part10(samples.ct(2))))
    assert response.status_code == 200
    assert response.json()["00081190"] == {"vr": "UR"}
    assert "location" not in response.headers


def test_s_idempotent(door: Door) -> None:
    for _ in range(2):
        assert post(door, body_of(file(1))).status_code == 200
    assert len(door.archive.instances) == 1


def test_s_warnreason_for_another_version(door: Door) -> None:
    post(door, body_of(file(1)))
    response = post(door, body_of(file(1, PatientComments="changed")))
    (item,) = response.json()["00081199"]["Value"]
    assert (response.status_code, item["00081196"]) == (202, {"vr": "US", "Value": [0xB007]})
    assert "version 2" in response.headers["warning"]


def test_s_otherfail_and_a_broken_part_does_not_harm_the_others(door: Door) -> None:
    response = post(door, body_of(file(1), b"garbage", b"", file(2)))
    module = response.json()
    assert response.status_code == 202
    assert len(uids(module, "00081199")) == 2
    assert reasons(module, "0008119A") == [0xC000, 0xC000]
    assert "00081198" not in module


def test_s_400_when_nothing_could_be_read(door: Door) -> None:
    assert post(door, body_of(b"garbage")).status_code == 400
    for content in (b"", b"no delimiter at all", b"--c\r\n\r\nx\r\n--c--"):
        response = post(door, content)
        assert response.status_code == 400
        assert "boundary" in response.json()["detail"]
    assert post(door, b"--b--").status_code == 400


FAILURES = [
    (Invalid(Fault.MALFORMED, "cut short"), 400, 0xC001),
    (Invalid(Fault.MISSING_UID, "no UID"), 400, 0xC002),
    (Invalid(Fault.MISMATCH, "other study"), 409, 0xA901),
    (Invalid(Fault.SOP_CLASS, "a DICOMDIR"), 409, 0x0122),
    (Invalid(Fault.TRANSFER_SYNTAX, "cannot be read"), 409, 0xC122),
    (Invalid(Fault.TOO_LARGE, "too large"), 413, 0xA700),
    (Conflict("there"), 409, 0x0110),
    (Exhausted("disk full"), 503, 0xA700),
    (Unavailable("index"), 503, 0xA700),
    (ZeroDivisionError("patient Wang"), 500, 0x0110),
]


@pytest.mark.parametrize(("error", "status", "reason"), FAILURES, ids=lambda value: str(value)[:20])
def test_s_reason_s_409_s_503(door: Door, error: Exception, status: int, reason: int) -> None:
    door.archive.fail["store"] = error
    response = post(door, body_of(file(1), file(2)))
    assert response.status_code == status
    assert reasons(response.json(), "00081198") == [reason, reason]
    assert ("retry-after" in response.headers) == (status == 503)
    assert "Wang" not in response.text + str(response.headers)
    if isinstance(error, StorageError):
        assert str(error) in response.headers["warning"]


def test_every_fault_has_a_failure() -> None:
    from gateway.web import failures

    for fault in Fault:
        assert failures.of(Invalid(fault, "x")) is not failures.UNFORESEEN


def test_mixed_failures_are_409(door: Door) -> None:
    other = samples.part10(samples.ct(2))
    assert post(door, body_of(b"garbage", other), path="/studies/2.25.90817.1").status_code == 409


def test_h_401_403_a_caller_who_may_not_store(door: Door) -> None:
    door.archive.fail["store"] = Forbidden("reader may not store")
    assert post(door, body_of(file(1), file(2))).status_code == 403


def test_s_ct_single_one_instance_as_the_body(door: Door) -> None:
    for content_type in ("application/dicom", "Application/DICOM; transfer-syntax=1.2.840.10008.1.2.1"):
        assert post(door, file(1), content_type).status_code == 200
    assert post(door, b"", "application/dicom").status_code == 400


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("multipart/related; boundary=b", 400),
        ('multipart/related; type="application/dicom"', 400),
        ('multipart/related; type="application/dicom"; boundary=""', 400),
        ('multipart/related; type="application/dicom"; boundary="' + "x" * 300 + '"', 400),
        ('multipart/related; type="application/dicom+json"', 400),
        ('multipart/related; type="application/json"; boundary=b', 415),
        ('multipart/related; type="image/jpeg"; boundary=b', 415),
        ("multipart/form-data; boundary=b", 415),
        ("application/octet-stream", 415),
        ("text/plain", 415),
        ("", 415),
        (";;;", 415),
    ],
)
def test_s_415_and_s_400_by_content_type(door: Door, content_type: str, status: int) -> None:
    response = post(door, body_of(file(1)), content_type)
    assert response.status_code == status
    assert set(response.json()) == {"error", "detail"}
    assert not door.archive.instances


def test_a_content_encoding_is_415(door: Door) -> None:
    assert post(door, body_of(file(1)), **{"content-encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/related; type="application/dicom"; boundary="b"',
        "multipart/related;boundary=b;type=application/dicom",
        "Multipart/Related; Type=APPLICATION/DICOM; Boundary=b; start=x",
    ],
)
def test_s_multipart_in_content_type_forms(door: Door, content_type: str) -> None:
    assert post(door, body_of(file(1)), content_type).status_code == 200


def test_s_multipart_in_a_quoted_boundary_with_legal_characters(door: Door) -> None:
    boundary = "=_b 'x'(1)+,-./:=?"
    content = f"--{boundary}\r\n\r\n".encode() + file(1) + f"\r\n--{boundary}--".encode()
    assert post(door, content, f'multipart/related; type="application/dicom"; boundary="{boundary}"').status_code == 200


def test_s_parttype(door: Door) -> None:
    content = (
        b"--b\r\n\r\n" + file(1) + b"\r\n--b\r\nCONTENT-TYPE: Application/DICOM; transfer-syntax=*\r\n\r\n" + file(2)
    )
    content += b"\r\n--b\r\nContent-Type: image/jpeg\r\n\r\n" + file(3) + b"\r\n--b--"
    response = post(door, content)
    assert response.status_code == 202
    assert set(door.archive.instances) == {"2.25.90817.1.1.1", "2.25.90817.1.1.2"}
    assert reasons(response.json(), "0008119A") == [0xC000]
    only = b"--b\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--b--"
    assert post(door, only).status_code == 415


def test_s_multipart_in_chunked_body_in_odd_pieces(door: Door) -> None:
    content = body_of(*(file(number) for number in range(1, 8)))

    def pieces() -> Iterator[bytes]:
        at = 0
        for size in itertools.cycle([1, 7, 1000, 3, 64]):
            if at >= len(content):
                return
            yield content[at : at + size]
            at += size

    response = post(door, pieces())
    assert (response.status_code, len(door.archive.instances)) == (200, 7)
    for number in range(1, 8):
        assert door.archive.instances[f"2.25.90817.1.1.{number}"].file == file(number)


def test_s_disconnect_a_part_without_its_delimiter_is_not_stored(door: Door) -> None:
    for end in (b"", b"\r\n--b", b"\r\n--b\r\nContent-Type: app"):
        door.archive.instances.clear()
        response = post(door, body_of(file(1), end=PART + file(2) + end))
        assert (response.status_code, len(door.archive.instances)) == (202, 2 if end.endswith(b"app") else 1)
        assert "closing delimiter" in response.headers["warning"]
    assert post(door, PART + file(1)).status_code == 400


def test_results_come_in_the_order_of_the_request(door: Door) -> None:
    content = body_of(*(file(number) for number in range(1, 30)))
    module = post(door, content).json()
    assert uids(module, "00081199") == [f"2.25.90817.1.1.{number}" for number in range(1, 30)]


def test_parts_are_stored_side_by_side_up_to_the_limit(tmp_path: Path) -> None:
    with opened(tmp_path, store_concurrency=3) as door:
        door.archive.gate = threading.Event()
        answers: list[httpx.Response] = []
        content = body_of(*(file(number) for number in range(1, 10)))
        sender = threading.Thread(target=lambda: answers.append(post(door, content)))
        sender.start()
        deadline = time.monotonic() + 10
        while door.archive.storing < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert door.archive.storing == 3
        door.archive.gate.set()
        sender.join(20)
        assert answers[0].status_code == 200
        assert door.archive.most_storing == 3


def test_s_stream_a_large_part_in_bounded_pieces(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    write = reception._write

    def measured(incoming: Any, pending: list[bytes]) -> None:
        nonlocal most
        most = max(most, sum(map(len, pending)))
        write(incoming, pending)

    monkeypatch.setattr(reception, "_write", measured)
    large = file(1, Rows=4000, Columns=2000, PixelData=bytes(16_000_000))
    assert post(door, body_of(large, file(2))).status_code == 200
    assert most < 2 << 20
    assert door.archive.instances["2.25.90817.1.1.1"].file == large
    assert not list(door.archive.folder.glob("*.part"))


def test_h_413_a_part_over_the_limit_fails_alone(door: Door) -> None:
    door.archive.max_bytes = 2 << 20
    large = file(1, Rows=4000, Columns=2000, PixelData=bytes(16_000_000))
    response = post(door, body_of(large, file(2)))
    assert response.status_code == 202
    assert reasons(response.json(), "0008119A") == [0xA700]
    assert post(door, body_of(large)).status_code == 413
    assert not list(door.archive.folder.glob("*.part"))


def test_archive_without_room_to_receive(door: Door) -> None:
    door.archive.fail["incoming"] = Exhausted("no space")
    response = post(door, body_of(file(1), file(2)))
    assert (response.status_code, reasons(response.json(), "0008119A")) == (503, [0xA700, 0xA700])


def test_s_module_in_xml(door: Door) -> None:
    response = post(door, body_of(file(1), b"garbage"), accept="application/dicom+xml")
    assert (response.status_code, response.headers["content-type"]) == (202, "application/dicom+xml")
    root = ElementTree.fromstring(response.content)
    assert root.tag == "NativeDicomModel"
    found = {attribute.get("tag"): attribute for attribute in root.iter("DicomAttribute")}
    assert found["00081155"].findtext("Value") == "2.25.90817.1.1.1"
    assert found["00081197"].findtext("Value") == str(0xC000)
    assert found["00081199"].get("vr") == "SQ"
    assert found["00081199"].find("Item") is not None


def test_a_store_is_not_refused_for_the_form_of_its_answer(door: Door) -> None:
    response = post(door, body_of(file(1)), accept="text/html")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/dicom+json")


def test_a_path_that_is_no_uid_is_refused_before_anything_is_stored(door: Door) -> None:
    assert post(door, body_of(file(1)), path="/studies/abc").status_code == 400
    assert not door.archive.instances


def raw(door: Door, head: str, content: bytes = b"") -> socket.socket:
    connection = socket.create_connection(door.server.address, timeout=10)
    connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + content)
    return connection


HEAD = "POST /dicomweb/studies HTTP/1.1\nHost: x\nContent-Type: " + MULTIPART + "\n"


def test_s_expect_is_answered_before_the_body(door: Door) -> None:
    content = body_of(file(1))
    with raw(door, f"{HEAD}Content-Length: {len(content)}\nExpect: 100-continue\n") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(content)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_s_expect_a_refusal_comes_instead_of_100(door: Door) -> None:
    head = HEAD.replace("application/dicom", "text/plain")
    with raw(door, f"{head}Content-Length: 1000000\nExpect: 100-continue\n") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 415")


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_s_disconnect_complete_parts_stay_the_incomplete_does_not(door: Door) -> None:
    large = file(2, Rows=2000, Columns=1000, PixelData=bytes(4_000_000))
    content = PART + file(1) + b"\r\n" + PART + large
    with raw(door, f"{HEAD}Content-Length: {len(content) + 100}\n", content):
        wait_for(lambda: list(door.archive.folder.glob("*.part")))
    wait_for(lambda: not list(door.archive.folder.glob("*.part")))
    assert set(door.archive.instances) == {"2.25.90817.1.1.1"}
    assert door.get("/studies").status_code == 200, "the door still works"


def test_a_caller_who_stops_sending_gets_408(tmp_path: Path) -> None:
    with opened(tmp_path, read_timeout_seconds=1) as door:
        content = PART + file(1) + b"\r\n" + PART + b"half"
        with raw(door, f"{HEAD}Content-Length: {len(content) + 100}\n", content) as connection:
            answer = connection.recv(1000)
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"connection: close" in answer.lower()
        assert set(door.archive.instances) == {"2.25.90817.1.1.1"}


def test_an_answer_before_the_body_is_read_leaves_the_connection_usable(door: Door) -> None:
    for _ in range(3):
        response = post(door, b"x" * 3_000_000, "text/plain")
        assert response.status_code == 415
    assert door.get("/studies").status_code == 204
