"""A DICOMweb server for the tests of the command: it answers as it is told to and remembers what it was sent."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests import samples


@dataclass
class Told:
    """An answer: the reasons by SOP Instance UID for what is not stored, or a bare status; None drops the line."""

    status: int = 200
    failed: dict[str, int] = field(default_factory=dict)
    silent_about: set[str] = field(default_factory=set)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # instead of a Store Instances Response Module


@dataclass
class FakeDicomWeb:
    answer: Callable[[list[bytes]], Told | None] = lambda parts: Told()
    rows: list[dict[str, Any]] = field(default_factory=list)
    search: Told = field(default_factory=Told)
    requests: list[list[bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    url: str = ""

    @property
    def received(self) -> list[bytes]:
        return [part for parts in self.requests for part in parts]


def sop_uid(part: bytes) -> str:
    """The SOP Instance UID of the data set of a generated instance."""
    found = re.search(rb"\x08\x00\x18\x00UI..([0-9.]+)", samples.dataset_bytes(part), re.DOTALL)
    assert found is not None
    return found[1].decode()


def _module(parts: list[bytes], told: Told) -> bytes:
    uids = [sop_uid(part) for part in parts]
    stored = [uid for uid in uids if uid not in told.failed and uid not in told.silent_about]
    module: dict[str, Any] = {"00081190": {"vr": "UR"}}
    if stored:
        module["00081199"] = {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in stored]}
    failed = [
        {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [told.failed[uid]]}}
        for uid in uids
        if uid in told.failed
    ]
    if failed:
        module["00081198"] = {"vr": "SQ", "Value": failed}
    return json.dumps(module).encode()


def _parts(body: bytes, content_type: str) -> list[bytes]:
    boundary = re.search(r"boundary=(\w+)", content_type)
    assert boundary is not None
    *parts, end = body.split(f"--{boundary[1]}".encode())[1:]
    assert end == b"--\r\n"
    return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts]


def _handler(fake: FakeDicomWeb) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            parts = _parts(body, self.headers["Content-Type"])
            self._remember()
            fake.requests.append(parts)
            told = fake.answer(parts)
            if told is None:
                self.close_connection = True
                return
            self._say(told, _module(parts, told) if told.body is None else told.body)

        def do_GET(self) -> None:
            self._remember()
            told = fake.search
            self._say(told, json.dumps(fake.rows).encode() if told.body is None else told.body)

        def _remember(self) -> None:
            fake.paths.append(self.path)
            fake.headers.append(self.headers)

        def _say(self, told: Told, body: bytes) -> None:
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            if told.status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if told.status != 204:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def fake_dicomweb() -> Iterator[FakeDicomWeb]:
    fake = FakeDicomWeb()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake)) as server:
        fake.url = f"http://127.0.0.1:{server.server_port}/dicomweb"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
