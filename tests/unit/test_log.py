"""The log: one line an event, and no patient data in it whatever goes wrong."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway import log
from storage.errors import Unavailable


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    libraries = [logging.getLogger(name) for name in log._FLOORS]
    handlers, levels = root.handlers, [(logger, logger.level) for logger in (root, *libraries)]
    yield
    root.handlers = handlers
    for logger, level in levels:
        logger.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    log.get("gateway.dimse").info("association opened", calling="CT1\n", count=3)
    log.get("gateway.dimse").debug("not shown")
    [line] = lines(capsys)
    assert (line["event"], line["calling"], line["count"]) == ("association opened", "CT1\n", 3)
    assert (line["level"], line["logger"]) == ("info", "gateway.dimse")
    assert line["timestamp"].endswith("Z")


def test_a_logger_made_before_follows_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    early = log.get("early")
    log.configure("warning", "json")
    early.info("not shown")
    early.warning("shown")
    assert [line["event"] for line in lines(capsys)] == ["shown"]


def fail_with_patient_data() -> None:
    name = "Wang^XiaoDong"
    try:
        float(name)
    except ValueError as error:
        raise RuntimeError(f"bad value {name}") from error


@pytest.mark.parametrize("format", ["json", "console"])
def test_an_exception_is_told_by_type_and_place_but_not_by_its_words(
    capsys: pytest.CaptureFixture[str], format: log.Format
) -> None:
    log.configure("info", format)
    for logger in (log.get("ours"), logging.getLogger("theirs")):
        try:
            fail_with_patient_data()
        except RuntimeError:
            logger.exception("unexpected")
    shown = capsys.readouterr().err
    assert "Wang" not in shown
    assert shown.count("RuntimeError") == 2
    assert shown.count("ValueError") == 2
    assert shown.count("fail_with_patient_data") == 2


def test_our_own_errors_keep_their_words(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    try:
        raise Unavailable("the index is read-only")
    except Unavailable as error:
        log.get("x").error("store failed", exc_info=error)
    [line] = lines(capsys)
    assert line["error"] == "Unavailable: the index is read-only"


def test_libraries_that_would_quote_values_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("debug", "json")
    logging.getLogger("uvicorn.access").info('GET /dicomweb/studies?PatientName=Wang HTTP/1.1" 200')
    logging.getLogger("uvicorn.access").error("GET /dicomweb/studies?PatientName=Wang")
    logging.getLogger("pynetdicom.acse").debug("(0010,0010) PN [Wang]")
    logging.getLogger("pydicom").warning("Invalid value for VR PN: 'Wang'")
    logging.getLogger("httpx").info("GET http://peer/studies?PatientName=Wang")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert [line["event"] for line in lines(capsys)] == ["Invalid HTTP request received."]


def test_auto_is_json_when_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "auto")
    log.get("x").info("hello")
    assert lines(capsys)[0]["event"] == "hello"
