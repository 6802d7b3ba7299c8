"""What every request passes: errors, load, callers, CORS, methods (PS3.18 8.5, 8.6.3)."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from gateway.security.caller import Caller, Right
from gateway.security.policy import Forbidden, Unauthenticated
from storage.errors import Exhausted, Unavailable
from storage.packs import Damaged
from tests import samples
from tests.web.conftest import Door, opened

STUDY = "/studies/2.25.90817.1"
INSTANCE = f"{STUDY}/series/2.25.90817.1.1/instances/2.25.90817.1.1.1"


def with_token(authorization: str | None, address: str) -> Caller:
    if authorization != "Bearer secret":
        raise Unauthenticated("a bearer token is needed", presented=authorization is not None)
    return Caller("radiology", address, "web", frozenset({Right.READ}))


@pytest.fixture
def closed_door(tmp_path: Path) -> Iterator[Door]:
    with opened(tmp_path, with_token) as door:
        door.keep(samples.part10(samples.ct()))
        yield door


def test_h_401_403_without_a_token(closed_door: Door) -> None:
    for path in ("/studies", STUDY, INSTANCE + "/frames/1", STUDY + "/metadata", "/nothing"):
        response = closed_door.get(path)
        assert (response.status_code, response.json()["error"]) == (401, "unauthenticated")
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert closed_door.client.post(closed_door.url + "/studies", content=b"x").status_code == 401
    assert closed_door.client.get(closed_door.root + "/metrics").status_code == 401
    assert "invalid_token" in closed_door.get("/studies", authorization="Bearer x").headers["www-authenticate"]
    assert not closed_door.archive.callers


def test_h_401_403_with_a_token_and_open_health_pages(closed_door: Door) -> None:
    assert closed_door.get("/studies", authorization="Bearer secret").status_code == 200
    (caller,) = closed_door.archive.callers
    assert (caller.identity, caller.address, caller.door) == ("radiology", "127.0.0.1", "web")
    for path in ("/healthz", "/readyz"):
        assert closed_door.client.get(closed_door.root + path).status_code == 200


def test_paths_cannot_be_written_so_that_no_token_is_needed(closed_door: Door) -> None:
    for path in (
        "//dicomweb/studies",
        "/./dicomweb/studies",
        "/DICOMWEB/studies",
        "/%64icomweb/studies",
        "/dicomweb%2Fstudies",
        "/x/../dicomweb/studies",
        "/metrics/",
        "/%6detrics",
    ):
        with closed_door.client.stream("GET", closed_door.root, extensions={"target": path.encode()}) as response:
            assert response.status_code in (401, 404)
    assert not closed_door.archive.callers


def test_forbidden_is_403(ct: Door) -> None:
    ct.archive.fail["retrieve"] = Forbidden("store-only may not retrieve")
    response = ct.get(STUDY)
    assert (response.status_code, response.json()["error"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/studies", "GET, HEAD, POST, OPTIONS"),
        ("/series", "GET, HEAD, OPTIONS"),
        (STUDY, "GET, HEAD, POST, OPTIONS"),
        (f"{STUDY}/metadata", "GET, HEAD, OPTIONS"),
        (f"{INSTANCE}/frames/1", "GET, HEAD, OPTIONS"),
    ],
)
def test_h_method_405_with_allow(ct: Door, path: str, allow: str) -> None:
    for method in ("DELETE", "PUT", "PATCH", *(["POST"] if "POST" not in allow else [])):
        response = ct.client.request(method, ct.url + path)
        assert (response.status_code, response.headers["allow"]) == (405, allow)
        assert response.json()["error"] == "method-not-allowed"
    options = ct.client.options(ct.url + path)
    assert (options.status_code, options.headers["allow"]) == (204, allow)


def test_h_slash_is_the_same_resource_and_never_a_redirect(ct: Door) -> None:
    assert ct.get(STUDY + "/").content != b""
    file = samples.part10(samples.ct(9))
    response = ct.client.post(ct.url + "/studies/", content=file, headers={"content-type": "application/dicom"})
    assert response.status_code == 200


def test_h_errbody_for_what_is_not_there(ct: Door) -> None:
    for url in (ct.url + "/patients", ct.root + "/nothing", ct.url):
        response = ct.client.get(url)
        assert (response.status_code, response.json()["error"]) == (404, "not-found")


def test_h_errbody_an_unforeseen_error_has_an_id_that_is_in_the_log(ct: Door) -> None:
    ct.archive.fail["search"] = ZeroDivisionError("Wang^XiaoDong")
    with structlog.testing.capture_logs() as logged:
        response = ct.get("/studies")
    body = response.json()
    assert (response.status_code, body["error"]) == (500, "internal")
    assert "Wang" not in response.text
    assert "Traceback" not in response.text
    assert [entry["id"] for entry in logged] == [body["id"]]


def test_no_patient_data_in_errors_or_warnings(ct: Door) -> None:
    for query in (
        "PatientName=Wang*&StudyDate=Wang",
        "PatientID=Wang&PatientID=Wang",
        "limit=Wang",
        "PatientComments=Wang",
    ):
        response = ct.get(f"/studies?{query}")
        assert "Wang^" not in response.text or response.status_code == 200
        assert "Wang" not in str(response.headers)
        if response.status_code != 200:
            assert "Wang" not in response.text


PREFLIGHT = {"origin": "http://localhost:3000", "access-control-request-method": "GET"}


def test_h_cors_preflight(closed_door: Door) -> None:
    asked = "authorization, content-type, accept"
    for path, method in (("/studies", "POST"), (f"{INSTANCE}/frames/1", "GET")):
        headers = PREFLIGHT | {"access-control-request-method": method, "access-control-request-headers": asked}
        response = closed_door.client.options(closed_door.url + path, headers=headers)
        assert response.status_code == 200
        assert method in response.headers["access-control-allow-methods"]
        assert "authorization" in response.headers["access-control-allow-headers"].lower()


def test_h_cors_exposes_what_viewers_read_also_on_errors(closed_door: Door) -> None:
    for headers in ({}, {"authorization": "Bearer secret"}):
        response = closed_door.get("/studies", origin="http://127.0.0.1:3000", **headers)
        assert response.headers["access-control-allow-origin"] == "http://127.0.0.1:3000"
        exposed = response.headers["access-control-expose-headers"]
        assert all(name in exposed for name in ("Content-Type", "Content-Location", "Warning", "Location"))


ELSEWHERE = ("https://viewer.example", "http://localhost.example:3000", "http://127.0.0.1.example", "null")


@pytest.mark.parametrize("origin", ELSEWHERE)
def test_h_cors_lets_pages_from_elsewhere_read_nothing_unless_they_are_named(door: Door, origin: str) -> None:
    assert "access-control-allow-origin" not in door.get("/studies", origin=origin).headers


def test_h_cors_lets_named_pages_read(tmp_path: Path) -> None:
    with opened(tmp_path, cors_origins=("https://viewer.example",)) as door:
        assert door.get("/studies", origin="https://viewer.example").headers["access-control-allow-origin"]
        assert "access-control-allow-origin" not in door.get("/studies", origin="http://localhost:3000").headers


def test_a_name_that_is_not_ours_is_refused_where_everybody_is_let_in(tmp_path: Path) -> None:
    with opened(tmp_path, hosts=["localhost", "127.0.0.1", "::1"]) as door:
        for host in ("localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"):
            assert door.get("/studies", host=host).status_code == 204
        for host in ("rebound.example", "rebound.example:8080", "[::2]:8080", "127.0.0.1.example"):
            assert door.get("/studies", host=host).status_code == 403


def hold(door: Door, count: int) -> list[threading.Thread]:
    """Requests that hang in the archive until its gate is opened."""
    door.archive.gate = threading.Event()
    threads = [threading.Thread(target=lambda: httpx.get(door.url + "/studies", timeout=20)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for _ in range(count):
        assert door.archive.entered.acquire(timeout=10)
    return threads


def test_more_requests_than_allowed_are_told_to_come_back(tmp_path: Path) -> None:
    with opened(tmp_path, max_concurrent_requests=2) as door:
        threads = hold(door, 2)
        assert door.archive.gate is not None
        response = door.get("/studies")
        assert (response.status_code, response.json()["error"]) == (503, "exhausted")
        assert "retry-after" in response.headers
        assert door.client.get(door.root + "/healthz").status_code == 200
        door.archive.gate.set()
        for thread in threads:
            thread.join(20)
        assert door.get("/studies").status_code == 204


def test_health_pages(ct: Door) -> None:
    assert ct.client.get(ct.root + "/healthz").text == "ok\n"
    assert ct.client.get(ct.root + "/readyz").json() == {"ready": True}
    ct.archive.trouble = "archive: nothing answers"
    response = ct.client.get(ct.root + "/readyz")
    assert (response.status_code, response.json()) == (200, {"ready": True, "degraded": "archive: nothing answers"})
    errors = (
        Unavailable("the index cannot be written: make room"),
        Exhausted("no space in /data"),
        Damaged("cut short"),
    )
    for error in errors:
        ct.archive.fail["check"] = error
        response = ct.client.get(ct.root + "/readyz")
        assert response.status_code == 503
        assert response.json()["detail"].startswith(str(error))
    assert ct.client.get(ct.root + "/healthz").status_code == 200


def test_metrics_count_responses_by_resource(ct: Door) -> None:
    def counted() -> float:
        text = ct.client.get(ct.root + "/metrics").text
        lines = [line for line in text.splitlines() if line.startswith("gateway_http_responses_total")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if 'resource="studies"' in line and '"200"' in line)

    before = counted()
    ct.get("/studies")
    ct.get("/studies")
    deadline = time.monotonic() + 5
    while counted() != before + 2:
        assert time.monotonic() < deadline
    assert "2.25." not in ct.client.get(ct.root + "/metrics").text, "a UID is in the figures"


def test_errors_do_not_carry_anything_unexpected(ct: Door) -> None:
    def keys(response: httpx.Response) -> set[Any]:
        return set(response.json())

    assert keys(ct.get("/studies?limit=x")) == {"error", "detail"}
    assert keys(ct.get("/studies/1.2.3")) == {"error", "detail"}
