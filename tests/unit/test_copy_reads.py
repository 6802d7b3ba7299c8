"""Reading from the copy is seen: counted each time, told once a minute for each object."""

from pathlib import Path

import pytest
import structlog.testing

from gateway import metrics
from gateway.archive import seldom
from gateway.archive.copy_reads import CopyReads
from gateway.compose_archive import open_places
from gateway.config import Config, Copies
from storage.errors import NotFound


def counted() -> float:
    lines = [line for line in metrics.render().decode().splitlines() if line.startswith("gateway_copy_reads_total")]
    return float(lines[0].split()[-1])


def test_each_read_is_counted_and_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seldom, "_MAX_TOLD", 3)
    times = [0.0]
    before = counted()
    note = CopyReads(clock=lambda: times[-1])
    with structlog.testing.capture_logs() as told:
        for now in (0.0, 59.0, 60.0):
            times.append(now)
            for key in ("packs/a", "packs/b"):
                note(key)
        for number in range(10):
            note(f"packs/{number}")
    assert [line["key"] for line in told[:4]] == ["packs/a", "packs/b"] * 2
    assert len(told) == 14
    assert counted() - before == 16
    assert len(note._seldom._told_at) <= 3


def test_what_is_read_from_the_copy_of_an_archive_is_noted(tmp_path: Path) -> None:
    places = open_places(Config(data=tmp_path / "data", copies=Copies(url=f"file://{tmp_path}/copies")))
    assert places.copy is not None
    places.archive.put("packs/both", [b"x"])
    places.copy.put("packs/both", [b"x"])
    places.copy.put("packs/lost", [b"y"])
    before = counted()
    with structlog.testing.capture_logs() as told:
        assert places.packs.get("packs/both").read() == b"x"
        with pytest.raises(NotFound):
            places.packs.get("packs/nowhere")
        assert places.packs.get("packs/lost").read() == b"y"
    assert [line["key"] for line in told] == ["packs/lost"]
    assert counted() - before == 1
    places.close()
