"""`gateway search`: the request it makes, and how it tells what was found."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from tests.unit.fake_dicomweb import FakeDicomWeb, Told, fake_dicomweb

ROW: dict[str, Any] = {
    "00080020": {"vr": "DA", "Value": ["20260311"]},
    "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
    "00081030": {"vr": "LO", "Value": ["胸部CT平扫 [bold]"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}]},
    "00100020": {"vr": "LO"},
    "0020000D": {"vr": "UI", "Value": ["2.25.90817.1234567890123456789012345678901234567890123456789"]},
    "00201208": {"vr": "IS", "Value": [600]},
}
Search = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[FakeDicomWeb]:
    with fake_dicomweb() as fake:
        fake.rows = [ROW]
        yield fake


@pytest.fixture
def search(server: FakeDicomWeb) -> Search:
    return lambda *arguments: CliRunner().invoke(app, ["search", *arguments, "--url", server.url])


def asked(server: FakeDicomWeb) -> tuple[str, list[tuple[str, str]]]:
    url = urlsplit(server.paths[-1])
    return url.path, parse_qsl(url.query, keep_blank_values=True, strict_parsing=True)


def test_keys_reach_the_server_as_they_were_meant(search: Search, server: FakeDicomWeb) -> None:
    assert search("PatientName=王*", "StudyDescription=a+b=c%41&d", "PatientID=").exit_code == 0
    path, parameters = asked(server)
    assert path == "/dicomweb/studies"
    assert parameters == [
        ("PatientName", "王*"),
        ("StudyDescription", "a+b=c%41&d"),
        ("PatientID", ""),
        ("limit", "20"),
        ("offset", "0"),
        ("includefield", "StudyDescription"),
    ]


def test_paging_and_further_attributes(search: Search, server: FakeDicomWeb) -> None:
    search("--json", "--limit", "5", "--offset", "10", "--include", "PatientAge", "--include", "00080090")
    assert asked(server)[1] == [
        ("limit", "5"),
        ("offset", "10"),
        ("includefield", "PatientAge"),
        ("includefield", "00080090"),
    ]


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ("", "/studies"),
        ("--level series", "/series"),
        ("--level series --study 1.2", "/studies/1.2/series"),
        ("--level instance", "/instances"),
        ("--level instance --study 1.2", "/studies/1.2/instances"),
        ("--level instance --study 1.2 --series 1.2.3", "/studies/1.2/series/1.2.3/instances"),
    ],
)
def test_each_of_the_six_resources(search: Search, server: FakeDicomWeb, options: str, path: str) -> None:
    assert search(*options.split()).exit_code == 0
    assert asked(server)[0] == "/dicomweb" + path


@pytest.mark.parametrize("options", ["--study 1.2", "--level series --study 1 --series 2", "--series 2", "PatientID"])
def test_what_cannot_be_asked_is_a_usage_error(search: Search, server: FakeDicomWeb, options: str) -> None:
    assert search(*options.split()).exit_code == 2
    assert server.paths == []


def test_a_table_for_people(search: Search) -> None:
    result = search()
    heading, row = result.stdout.splitlines()
    assert heading.split()[:6] == ["Patient", "Patient", "ID", "Date", "Modalities", "Description"]
    assert row.split() == [
        "王",
        "小东",
        "20260311",
        "CT,",
        "SR",
        "胸部CT平扫",
        "[bold]",
        "600",
        ROW["0020000D"]["Value"][0],
    ]


def test_dicom_json_for_machines(search: Search) -> None:
    assert json.loads(search("--json").stdout) == [ROW]


def test_nothing_found_is_status_1(search: Search, server: FakeDicomWeb) -> None:
    server.search = Told(204)
    assert (search().exit_code, json.loads(search("--json").stdout)) == (1, [])
    server.search, server.rows = Told(), []
    assert search().exit_code == 1


def test_warnings_are_not_swallowed(search: Search, server: FakeDicomWeb) -> None:
    server.search = Told(headers={"Warning": '299 host: "There are 7 additional results that can be requested"'})
    assert "7 additional results" in search().stderr


@pytest.mark.parametrize(
    "told",
    [
        Told(400, body=b'{"error": "query", "detail": "StudyDate: not a date"}'),
        Told(401, body=b"{}"),
        Told(500, body=b"oops"),
        Told(200, body=b"<html>"),
        Told(200, body=b"{}"),
    ],
)
def test_an_error_is_status_2_and_says_why(search: Search, server: FakeDicomWeb, told: Told) -> None:
    server.search = told
    result = search()
    assert result.exit_code == 2
    assert str(told.status) in result.stderr
    if b"detail" in (told.body or b""):
        assert "StudyDate: not a date" in result.stderr


def test_nobody_there_is_status_2() -> None:
    result = CliRunner().invoke(app, ["search", "--url", "http://127.0.0.1:9/dicomweb"])
    assert result.exit_code == 2
    assert "refused" in result.stderr


def test_a_token_comes_from_a_file(search: Search, server: FakeDicomWeb, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    assert search("--token-file", str(tmp_path / "token")).exit_code == 0
    assert server.headers[-1]["Authorization"] == "Bearer s3cret"
