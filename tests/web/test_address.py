"""URLs as the caller sees the service (H-BASE), and who the caller is behind a proxy."""

from pathlib import Path

import pytest
from starlette.requests import Request

from gateway.config import Web
from gateway.web.address import base_url, client_address
from gateway.web.errors import Refused
from tests import samples
from tests.web.conftest import Door, opened


def request(peer: str = "127.0.0.1", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request(
        {"type": "http", "scheme": "http", "client": (peer, 5), "server": ("10.0.0.1", 8080), "headers": raw}
    )


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"host": "gw.example:8080"}, "http://gw.example:8080/dicomweb"),
        ({"host": "[::1]:8080"}, "http://[::1]:8080/dicomweb"),
        ({}, "http://10.0.0.1:8080/dicomweb"),
        (
            {"host": "x", "x_forwarded_proto": "https", "x_forwarded_host": "pacs.example"},
            "https://pacs.example/dicomweb",
        ),
        ({"host": "x", "x_forwarded_proto": "https", "x_forwarded_prefix": "/gw/1/"}, "https://x/gw/1/dicomweb"),
        (
            {"host": "x", "forwarded": 'for=1.2.3.4;proto=https;host="pacs.example:444"'},
            "https://pacs.example:444/dicomweb",
        ),
        (
            {"host": "x", "forwarded": "host=evil;proto=http, host=pacs.example;proto=https"},
            "https://pacs.example/dicomweb",
        ),
        ({"host": "gw"}, "http://gw:8080/dicomweb"),  # as dicomweb-client writes it
        ({"host": "[::1]"}, "http://[::1]:8080/dicomweb"),
        ({"host": "gw", "via": "1.1 proxy"}, "http://gw/dicomweb"),
        ({"host": "x", "x_forwarded_proto": "gopher", "x_forwarded_prefix": "/<script>"}, "http://x/dicomweb"),
    ],
)
def test_h_base_from_headers(headers: dict[str, str], expected: str) -> None:
    assert base_url(request(**headers), Web()) == expected


def test_h_base_forwarded_headers_count_only_from_this_machine() -> None:
    headers = {"host": "gw", "x_forwarded_host": "evil", "forwarded": "host=evil", "x_forwarded_for": "1.2.3.4"}
    assert base_url(request("10.1.1.1", **headers), Web()) == "http://gw/dicomweb"
    assert client_address(request("10.1.1.1", **headers)) == "10.1.1.1"


def test_h_base_a_configured_public_url_wins() -> None:
    settings = Web(public_url="https://pacs.example/gw/")
    assert base_url(request(host="x", x_forwarded_host="y"), settings) == "https://pacs.example/gw/dicomweb"


@pytest.mark.parametrize("host", ["evil/path", 'a"b', "a b", "a@b", "x:123456", "", "<x>"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    if host:
        with pytest.raises(Refused):
            base_url(request(host=host), Web())
    else:
        assert base_url(request(host=host), Web()) == "http://10.0.0.1:8080/dicomweb"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "127.0.0.1"),
        ({"x_forwarded_for": "9.9.9.9, 10.1.2.3"}, "10.1.2.3"),
        ({"forwarded": 'for="[2001:db8::1]:443"'}, "2001:db8::1"),
        ({"forwarded": "for=10.1.2.3:5555"}, "10.1.2.3"),
        ({"x_forwarded_for": "unknown"}, "127.0.0.1"),
        ({"forwarded": "for=_hidden"}, "127.0.0.1"),
    ],
)
def test_the_caller_behind_a_proxy_on_this_machine(headers: dict[str, str], expected: str) -> None:
    assert client_address(request(**headers)) == expected


def test_h_base_every_url_in_answers(tmp_path: Path) -> None:
    with opened(tmp_path, public_url="https://pacs.example/gw") as door:
        door.keep(samples.part10(samples.ct()))
        answers = [door.get("/studies").text, door.get("/studies/2.25.90817.1/metadata").text]
        answers.append(door.get("/studies/2.25.90817.1").text[:400])
        for answer in answers:
            assert "https://pacs.example/gw/dicomweb/studies/2.25.90817.1" in answer
            assert "127.0.0.1" not in answer


def test_a_host_that_is_none_is_refused_over_http(ct: Door) -> None:
    assert ct.get("/studies", host="a<b").status_code == 400
