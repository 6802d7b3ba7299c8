"""The record of acts: what a line holds, how files are rotated, and what a failing disk does to it."""

import json
import multiprocessing
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway import metrics
from gateway.security import audit
from gateway.security.audit import Event, JsonLinesAudit, Outcome
from gateway.security.caller import Caller
from storage.dicom.identity import Scope

BY = Caller("radiology", "10.0.0.7", "web")
EVENT = Event.of("retrieve", Outcome.SUCCESS, BY, Scope("1.2", "1.2.3"), count=200)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_text().splitlines()]


def without_time(line: dict[str, Any]) -> dict[str, Any]:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("at"))
    return line


def test_a_line_says_who_did_what_to_what_and_what_came_of_it(tmp_path: Path) -> None:
    log = JsonLinesAudit(tmp_path / "audit", 1 << 20)
    log.record(EVENT)
    log.record(Event.of("search", Outcome.DENIED, BY, reason="Forbidden"))
    first, second = map(without_time, lines(tmp_path / "audit"))
    assert first == {
        "act": "retrieve",
        "outcome": "success",
        "identity": "radiology",
        "address": "10.0.0.7",
        "door": "web",
        "study_uid": "1.2",
        "series_uid": "1.2.3",
        "count": 200,
    }
    assert second["reason"] == "Forbidden"
    assert "study_uid" not in second


def test_what_is_no_uid_is_not_recorded_as_one(tmp_path: Path) -> None:
    event = Event.of("store", Outcome.MINOR, BY, Scope("王^小东", "1.2", "../x"))
    assert (event.study_uid, event.series_uid, event.sop_uid) == (None, "1.2", None)


def test_an_event_is_on_file_when_record_returns(tmp_path: Path) -> None:
    JsonLinesAudit(tmp_path, 1 << 20).record(EVENT)
    assert len(lines(tmp_path)) == 1


def test_files_are_bounded_and_nothing_is_lost_between_them(tmp_path: Path) -> None:
    log = JsonLinesAudit(tmp_path, 1000)
    for number in range(50):
        log.record(Event("store", Outcome.SUCCESS, "CT1", "10.0.0.7", "dimse", count=number))
    assert sorted(line["count"] for line in lines(tmp_path)) == list(range(50))
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) > 3
    assert max(sizes) < 1200


def test_a_new_day_is_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JsonLinesAudit(tmp_path, 1 << 20)
    for now in (1_773_273_599.9, 1_773_273_600.1):  # around midnight UTC
        monkeypatch.setattr(audit.time, "time", lambda now=now: now)
        log.record(EVENT)
    assert [path.name.split("-")[1] for path in sorted(tmp_path.iterdir())] == ["20260311", "20260312"]


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    log = JsonLinesAudit(tmp_path, 5000)
    threads = [threading.Thread(target=lambda: [log.record(EVENT) for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(tmp_path)) == 400


def test_a_forked_process_writes_a_file_of_its_own(tmp_path: Path) -> None:
    log = JsonLinesAudit(tmp_path, 1 << 20)
    log.record(EVENT)
    child = multiprocessing.get_context("fork").Process(target=log.record, args=(EVENT,))
    child.start()
    child.join()
    log.record(EVENT)
    assert len(lines(tmp_path)) == 3
    assert sorted(len(path.read_text().splitlines()) for path in tmp_path.iterdir()) == [1, 2]


def test_two_writers_with_one_process_number_keep_apart(tmp_path: Path) -> None:
    first, second = JsonLinesAudit(tmp_path, 1 << 20), JsonLinesAudit(tmp_path, 1 << 20)
    first.record(EVENT)
    second.record(EVENT)
    assert len(list(tmp_path.iterdir())) == 2


def test_it_goes_on_in_the_file_of_the_same_name_after_a_torn_line(tmp_path: Path) -> None:
    log = JsonLinesAudit(tmp_path, 1 << 20)
    log.record(EVENT)
    log.close()
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + b'{"at": "torn')
    log.record(EVENT)
    written = path.read_text().splitlines()
    assert [bool(line.endswith("}")) for line in written] == [True, False, True]


def failures() -> float:
    [line] = [
        line for line in metrics.render().decode().splitlines() if line.startswith("gateway_audit_failures_total")
    ]
    return float(line.split()[1])


def test_a_disk_that_fails_stops_no_act_but_is_counted_and_a_cut_line_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = JsonLinesAudit(tmp_path, 1 << 20)
    log.record(EVENT)
    before = failures()
    write = os.write
    monkeypatch.setattr(audit.os, "write", lambda file, data: write(file, data[:10]))
    log.record(EVENT)
    assert failures() == before + 1
    monkeypatch.undo()
    log.record(EVENT)
    [path] = tmp_path.iterdir()
    first, torn, last = path.read_text().splitlines()
    assert json.loads(first)["act"] == json.loads(last)["act"] == "retrieve"
    assert len(torn) == 10


def test_a_folder_that_cannot_be_made_stops_no_act(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = failures()
    JsonLinesAudit(tmp_path / "file" / "audit", 1 << 20).record(EVENT)
    assert failures() == before + 1
