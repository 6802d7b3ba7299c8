"""What nothing names is judged by what the index says at that moment, also beside a gateway that seals and sweeps."""

from pathlib import Path
from typing import Any

import pytest

from gateway.archive.clock import SECOND
from gateway.upkeep.buried import Buried
from gateway.upkeep.findings import Passed
from gateway.upkeep.orphans import YOUNG_SECONDS, Orphans
from tests.sealing import SERIES, STUDY
from tests.unit.test_verification import House


def test_what_is_sealed_while_others_are_looked_at_is_no_orphan(tmp_path: Path) -> None:
    house = House(tmp_path / "staging")
    for series in (1, 2):
        house.archive.store(series=series, numbers=range(1, 4))
    house.spool.written_at = house.clock() - 2 * YOUNG_SECONDS * SECOND
    buried = Buried(house.places)
    orphans = Orphans(house.places, house.index, buried, repair=False, clock=house.clock, damaged=set())  # type: ignore[arg-type]
    for series_uid in (f"{STUDY}.1", f"{STUDY}.2"):
        seen = list(house.spool.scan(f"spool/{STUDY}/{series_uid}/"))
        house.archive.sealer().seal_series(STUDY, series_uid)
        assert [one.passed for one in orphans.loose(seen)] == [Passed.DOOMED] * 3


def test_of_all_that_is_doomed_what_is_of_the_series_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path / "staging")
    house.archive.store(numbers=range(1, 4))
    house.spool.written_at = house.clock() - 2 * YOUNG_SECONDS * SECOND
    doomed_of = house.index.doomed_of
    asked: list[object] = []

    def note(scope: Any, **how: Any) -> Any:
        asked.append((scope.study_uid, scope.series_uid))
        return doomed_of(scope, **how)

    monkeypatch.setattr(house.index, "doomed_of", note)
    assert house.findings() == []
    assert asked == [], "all is named"
    house.archive.sealer().seal_series(STUDY, SERIES)
    house.packs.written_at = house.clock() - 2 * YOUNG_SECONDS * SECOND
    assert house.findings() == []
    assert asked == [(STUDY, SERIES)]
