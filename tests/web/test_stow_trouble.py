"""STOW-RS when things go wrong that nobody foresaw, or come in numbers that nobody sends: all is accounted for."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.archive import Expected
from gateway.archive.incoming import Incoming
from gateway.web import reception
from gateway.web.store_response import Failed
from storage.dicom.parse import parse
from tests.web.conftest import Door, everybody, opened
from tests.web.fake_archive import FakeArchive
from tests.web.test_stow import HEAD, PART, body_of, file, post, raw, reasons, uids, wait_for


def test_no_part_is_left_out_when_it_goes_wrong_in_a_way_that_nobody_foresaw(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = door.archive._store

    def storing(data: bytes, expected: Any) -> Any:
        if data == file(2):
            raise ValueError("nobody foresaw this")
        return store(data, expected)

    def parsing(data: Any) -> Any:
        if bytes(data) == file(2):
            raise ValueError("nor this")
        return parse(data)

    monkeypatch.setattr(door.archive, "_store", storing)
    answers = [post(door, body_of(file(1), file(2)))]
    monkeypatch.setattr(reception, "parse", parsing)
    answers += [post(door, body_of(file(1), file(2))), post(door, body_of(file(2)))]
    assert [answer.status_code for answer in answers] == [202, 202, 500]
    assert [uids(answer.json(), "00081199") for answer in answers] == [["2.25.90817.1.1.1"]] * 2 + [[]]
    assert uids(answers[0].json(), "00081198") == ["2.25.90817.1.1.2"]
    assert [reasons(answer.json(), "0008119A") for answer in answers] == [[], [0x0110], [0x0110]]
    assert "nobody foresaw" not in answers[0].headers["warning"]
    assert not list(door.archive.folder.glob("*.part"))


def test_a_part_that_cannot_be_put_away_is_not_left_out(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def closing(incoming: Incoming) -> None:
        raise OSError("the folder went away")

    monkeypatch.setattr(Incoming, "close", closing)
    response = post(door, body_of(file(1)))
    assert (response.status_code, reasons(response.json(), "0008119A")) == (500, [0x0110])


def test_a_part_whose_store_was_given_up_counts_as_failed(tmp_path: Path) -> None:
    async def given_up() -> Any:
        archive = FakeArchive(tmp_path, gate=threading.Event())
        arriving = reception.Reception(archive, Expected(), everybody(None, "127.0.0.1"), 1)
        arriving.begin("application/dicom")
        await arriving.data(file(1))
        await arriving.end()
        for task in arriving._running:
            task.cancel()
        archive.gate.set()  # type: ignore[union-attr]
        return await arriving.finished()

    (result,) = asyncio.run(given_up())
    assert isinstance(result, Failed)


@pytest.mark.parametrize("content_type", ["application/dicom", "a/b"])
def test_h_413_too_many_parts_of_whatever_type_end_the_request(
    door: Door, monkeypatch: pytest.MonkeyPatch, content_type: str
) -> None:
    monkeypatch.setattr(reception, "MAX_PARTS", 2)
    further = f"--b\r\nContent-Type: {content_type}\r\n\r\n".encode() + file(3) + b"\r\n"
    assert post(door, body_of(file(1), file(2))).status_code == 200
    door.archive.instances.clear()
    response = post(door, body_of(file(1), file(2), end=further * 1000 + b"--b--"))
    assert (response.status_code, response.json()["error"]) == (413, "too-large")
    assert set(door.archive.instances) == {"2.25.90817.1.1.1", "2.25.90817.1.1.2"}
    assert door.get("/studies").status_code == 200


def test_h_413_parts_that_are_passed_over_count(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "MAX_PARTS", 10)
    part = b"--b\r\nContent-Type:a/b\r\n\r\n\r\n"
    assert post(door, part * 10 + b"--b--").status_code == 415
    assert post(door, part * 11 + b"--b--").status_code == 413


def test_s_503_more_store_requests_than_allowed_are_told_to_come_back(tmp_path: Path) -> None:
    with opened(tmp_path, max_concurrent_store_requests=2) as door:
        halves = [raw(door, f"{HEAD}Content-Length: 1000000\n", PART + b"half") for _ in range(2)]
        for _ in halves:
            assert door.archive.entered.acquire(timeout=10)
        for path in ("/studies", "/studies/2.25.90817.1"):
            response = post(door, body_of(file(1)), path=path)
            assert (response.status_code, response.json()["error"]) == (503, "exhausted")
            assert "retry-after" in response.headers
        assert door.get("/studies").status_code == 204, "readers are still let in"
        halves[0].close()
        wait_for(lambda: post(door, body_of(file(1))).status_code == 200)
        halves[1].close()
