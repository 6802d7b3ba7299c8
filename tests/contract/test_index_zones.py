"""Searches in a time zone that the caller names, over studies from elsewhere (Q-TZ)."""

import pytest

from storage.dicom.instance import JsonDataset
from storage.dicom.query import Level, Query, key
from storage.errors import Invalid
from storage.index import PackingIndex, zoned
from tests.contract.index_samples import ask, firsts, json_instance, record

STUDIES = [
    ("1.1", "20260310", "0130", "+0800"),  # 17:30 UTC on the 9th
    ("1.2", "20260309", "1800", "+0000"),
    ("1.3", "20260310", "0000", ""),  # wherever it was asked for
    ("1.4", "20260310", "", "+0800"),  # a day that stays that day
    ("1.5", "20260309", "23", "-0330"),  # 02:30 UTC on the 10th
]


def study(uid: str, date: str, time: str, zone: str) -> JsonDataset:
    values = {"00080020": ("DA", date), "00080030": ("TM", time), "00080201": ("SH", zone)}
    uids = {"0020000D": uid, "0020000E": f"{uid}.1", "00080018": f"{uid}.1.1", "00080016": "1.2.840.10008.1.1"}
    found: JsonDataset = {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in values.items() if value}
    return found | {tag: {"vr": "UI", "Value": [value]} for tag, value in uids.items()}


@pytest.fixture(scope="module")
def index(lasting_index: PackingIndex) -> PackingIndex:
    for each in STUDIES:
        lasting_index.add(record(json_instance(study(*each))))
    return lasting_index


def found(index: PackingIndex, level: Level, keys: dict[str, str], zone: str | None, **more: int) -> list[str]:
    return sorted(firsts(index, ask(level, keys, timezone=zone, **more), "StudyInstanceUID"))


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize(
    ("keys", "zone", "uids"),
    [
        ({"StudyDate": "20260310"}, None, ["1.1", "1.3", "1.4"]),
        ({"StudyDate": "20260310"}, "+0000", ["1.3", "1.4", "1.5"]),
        ({"StudyDate": "20260310"}, "+0800", ["1.1", "1.2", "1.3", "1.4", "1.5"]),
        ({"StudyDate": "20260309"}, "+0000", ["1.1", "1.2"]),
        ({"StudyTime": "1730"}, "+0000", ["1.1"]),
        ({"StudyTime": "0200-0300"}, "+0000", ["1.5"]),
        ({"StudyDate": "20260309-20260310", "StudyTime": "1730-0100"}, "+0000", ["1.1", "1.2", "1.3"]),
        ({"StudyDate": "-20260309"}, "+0000", ["1.1", "1.2"]),
        ({"StudyDate": "20260310-", "StudyInstanceUID": "1.1"}, "+0000", []),
        ({"StudyDate": ""}, "+0000", ["1.1", "1.2", "1.3", "1.4", "1.5"]),
    ],
)
def test_q_tz_keys_are_in_the_zone_that_is_asked_for(
    index: PackingIndex, level: Level, keys: dict[str, str], zone: str | None, uids: list[str]
) -> None:
    assert found(index, level, keys, zone) == uids


def test_q_tz_results_are_in_that_zone_and_may_be_of_another_day(index: PackingIndex) -> None:
    rows = index.search(ask(Level.STUDY, {"StudyInstanceUID": "1.1,1.5"}, timezone="+0000")).rows
    moments = {
        row["0020000D"]["Value"][0]: [row[tag]["Value"] for tag in ("00080020", "00080030", "00080201")] for row in rows
    }
    assert moments == {
        "1.1": [["20260309"], ["1730"], ["+0000"]],
        "1.5": [["20260310"], ["0230"], ["+0000"]],
    }


def test_q_tz_pages_and_counts(index: PackingIndex) -> None:
    asked = (key(("00080020",), "20260310"),)
    uids: list[str] = []
    for offset in range(5):
        page = index.search(Query(Level.STUDY, asked, limit=1, offset=offset, timezone="+0800"))
        assert (page.remaining, page.remaining_is_exact) == (4 - offset, True)
        uids += [row["0020000D"]["Value"][0] for row in page.rows]
    assert sorted(uids) == ["1.1", "1.2", "1.3", "1.4", "1.5"]
    assert not index.search(Query(Level.STUDY, asked, offset=5, timezone="+0800")).rows


def test_a_search_of_too_much_says_so(index: PackingIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoned, "MAX_CANDIDATES", 2)
    monkeypatch.setattr(zoned, "_BATCH", 1)
    with pytest.raises(Invalid, match="narrow"):
        found(index, Level.STUDY, {"StudyDate": "20260310"}, "+0000")
    page = index.search(ask(Level.STUDY, {"StudyDate": "20260310"}, timezone="+0800", limit=1))
    assert (len(page.rows), page.remaining_is_exact) == (1, False)
