"""The server: its port, its bounds on what comes before a body, its way to stop (raw sockets throughout)."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway import metrics
from gateway.config import Web
from gateway.web.app import build
from gateway.web.server import WebServer
from tests import samples
from tests.web.conftest import Door, everybody, opened
from tests.web.fake_archive import FakeArchive


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Door]:
    with opened(tmp_path, read_timeout_seconds=1) as door:
        yield door


def connect(door: Door) -> socket.socket:
    return socket.create_connection(door.server.address, timeout=10)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    received = b""
    try:
        while data := connection.recv(1 << 16):
            received += data
    except ConnectionResetError:
        pass
    return received


def server(folder: Path, listen: str) -> WebServer:
    archive, settings = FakeArchive(folder), Web(listen=listen)
    app = build(archive, everybody, settings, ready=archive.check, metrics_text=metrics.render)
    return WebServer(app, settings)


def test_a_port_in_use_is_an_oserror_at_once(door: Door, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="in use"):
        server(tmp_path, f"127.0.0.1:{door.server.address[1]}").start()


def test_ipv6(tmp_path: Path) -> None:
    web = server(tmp_path, "[::1]:0")
    web.start()
    try:
        host, port = web.address
        assert host == "::1"
        (row,) = [httpx.get(f"http://[::1]:{port}/healthz", timeout=60)]
        assert row.status_code == 200
    finally:
        web.stop(2)


def test_stop_finishes_what_was_begun_and_frees_the_port(tmp_path: Path) -> None:
    with opened(tmp_path) as door:
        door.keep(samples.part10(samples.ct()))
        door.archive.gate = threading.Event()
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(httpx.get(door.url + "/studies", timeout=20)))
        asking.start()
        assert door.archive.entered.acquire(timeout=10)
        with connect(door) as idle:
            stopping = threading.Thread(target=door.server.stop, args=(10,))
            stopping.start()
            time.sleep(0.3)
            with pytest.raises(OSError):
                connect(door)
            assert idle.recv(1) == b"", "idle connections are closed"
        door.archive.gate.set()
        asking.join(10)
        stopping.join(10)
        assert [answer.status_code for answer in answers] == [200]
        again = server(tmp_path, f"127.0.0.1:{door.server.address[1]}")
        again.start()
        again.stop(1)


def test_stop_does_not_wait_longer_than_it_may(tmp_path: Path) -> None:
    with opened(tmp_path) as door:
        door.archive.gate = threading.Event()
        answers: list[int] = []
        asking = threading.Thread(
            target=lambda: answers.append(httpx.get(door.url + "/studies", timeout=60).status_code)
        )
        asking.start()
        assert door.archive.entered.acquire(timeout=10)
        threading.Timer(2.5, door.archive.gate.set).start()
        began = time.monotonic()
        door.server.stop(1)
        assert time.monotonic() - began < 6
        asking.join(10)
        assert answers == [500]


def test_h_413_414_a_request_target_that_is_too_long(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(b"GET /dicomweb/studies?PatientID=" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert all_of(connection).startswith(b"HTTP/1.1 414")


@pytest.mark.parametrize("header", [b"X: " + b"x" * 300_000, b"X: y\r\n" * 60_000], ids=["one long", "many"])
def test_headers_without_end_are_431(door: Door, header: bytes) -> None:
    with connect(door) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + header[: 1 << 18])
        assert all_of(connection).startswith(b"HTTP/1.1 431")
    assert httpx.get(door.root + "/healthz", timeout=60).status_code == 200


def test_a_long_but_possible_list_of_uids(ct: Door) -> None:
    uids = ",".join(f"1.2.840.{number}" for number in range(3000))
    assert ct.get(f"/studies?StudyInstanceUID={uids},2.25.90817.1").status_code == 200


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00garbage\r\n\r\n", b"GET\r\n\r\n", b"NONSENSE / HTTP/1.1\r\n\r\n", b"\0" * 100]
)
def test_garbage_is_400_and_closed(door: Door, garbage: bytes) -> None:
    with connect(door) as connection:
        connection.sendall(garbage)
        assert all_of(connection).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"GET /heal"])
def test_a_caller_who_never_finishes_a_request_is_cut_off(impatient: Door, sent: bytes) -> None:
    with connect(impatient) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        assert all_of(connection) == b""
        assert 0.5 < time.monotonic() - began < 4


def test_headers_drop_by_drop_do_not_hold_a_connection(impatient: Door) -> None:
    with connect(impatient) as connection:
        began = time.monotonic()
        with pytest.raises(OSError):
            for _ in range(100):
                connection.sendall(b"G" if time.monotonic() == began else b"x")
                time.sleep(0.1)
        assert time.monotonic() - began < 6


def test_a_body_that_was_refused_is_not_taken_for_ever(impatient: Door) -> None:
    head = b"POST /dicomweb/studies HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n"
    with connect(impatient) as connection:
        connection.sendall(head + b"some")
        began = time.monotonic()
        assert connection.recv(12) == b"HTTP/1.1 415"
        with pytest.raises(OSError):
            while time.monotonic() - began < 8:
                connection.sendall(b"more")
                time.sleep(0.05)
        assert time.monotonic() - began < 5


def test_keep_alive_outlives_the_read_timeout(impatient: Door) -> None:
    with connect(impatient) as connection:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            time.sleep(2.2)


def test_a_caller_who_takes_nothing_is_let_go(impatient: Door) -> None:
    pixels = bytes(40_000_000)
    impatient.keep(samples.part10(samples.ct(Rows=4000, Columns=5000, PixelData=pixels)))
    path = "/dicomweb/studies/2.25.90817.1"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(impatient.server.address)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        deadline = time.monotonic() + 15
        while not impatient.archive.opened or impatient.archive.opened != impatient.archive.closed:
            assert time.monotonic() < deadline, "its answer is kept open"
            time.sleep(0.05)


def test_pipelined_requests_are_answered_in_order(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        answers = all_of(connection)
    assert answers.index(b"200 OK") < answers.index(b"404 Not Found")


def test_http_1_0(ct: Door) -> None:
    with connect(ct) as connection:
        connection.sendall(b"GET /dicomweb/studies HTTP/1.0\r\n\r\n")
        assert b"2.25.90817.1" in all_of(connection)


def test_many_at_once(ct: Door) -> None:
    path = ct.url + "/studies/2.25.90817.1/series/2.25.90817.1.1/instances/2.25.90817.1.1.1/frames/1"
    statuses: list[int] = []

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            statuses.extend(client.get(path).status_code for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses == [200] * 320
