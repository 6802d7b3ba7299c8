"""Rows of many studies, written at once: what an index of years holds, without the time to store it.

Study `n` is of patient `P{n}`, named 王^{a}{b} of thousands of given names, has one series with one loose instance, and
dates spread over `DAYS` days.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

from sqlalchemy import Table

from storage.dicom.attributes import TABLE, Attribute, Home
from storage.dicom.name_tokens import tokens
from storage.dicom.query import Level
from storage.index import schema
from storage.index.packed import uid_hash

DAYS = 3000
_FIRST_DAY = date(2018, 1, 1)
_MODALITIES = ("CT", "MR", "DX", "US")
_BATCH = 2000
Row = Mapping[str, object]


def study_uid(n: int) -> str:
    return f"1.2.{n}"


def series_uid(n: int) -> str:
    return f"1.2.{n}.1"


def sop_uid(n: int) -> str:
    return f"1.2.{n}.1.1"


def day(n: int) -> str:
    return (_FIRST_DAY + timedelta(n % DAYS)).strftime("%Y%m%d")


def name(n: int) -> str:
    """Some thousands of names in two component groups, the given name of two characters."""
    a, b = chr(0x4E00 + n % 97 * 11), chr(0x5000 + n // 97 % 89 * 13)
    return f"Wang^N{n}=王^{a}{b}"


def study_values(n: int) -> Iterator[tuple[str, int, str]]:
    """Path, component group and value of everything that a study is matched by."""
    alphabetic, _, ideographic = name(n).partition("=")
    yield "00080050", 0, f"A{n}"
    yield "00080061", 0, _MODALITIES[n % 4]
    yield "00080062", 0, f"1.2.840.{n % 4}"
    yield "00080090", 0, f"li^{n % 500}"
    yield "00081030", 0, f"Study description {n % 200}"
    yield "00100010", 0, alphabetic.lower()
    yield "00100010", 1, ideographic
    yield "00100020", 0, f"P{n}"
    yield "00100021", 0, "Hospital"
    yield "00100030", 0, f"19{n % 80 + 10}0{n % 9 + 1}{n % 28 + 1:02}"
    yield "00100040", 0, "MF"[n % 2]
    yield "00101002.00100020", 0, f"O{n}"
    yield "00101002.00100021", 0, f"I{n}"
    yield "00200010", 0, f"S{n}"


def series_values(n: int) -> Iterator[tuple[str, str]]:
    yield "00080060", _MODALITIES[n % 4]
    yield "00080080", "Hospital"
    yield "00081010", f"Station {n % 40}"
    yield "0008103E", f"Series description {n % 300}"
    yield "00180015", "CHEST"
    yield "00400275.00400009", f"Q{n}"
    yield "00400275.00401001", f"R{n}"


def batches(count: int) -> Iterator[tuple[Table, Sequence[Row]]]:
    """All rows of so many studies, table by table, some thousand at a time."""
    for start in range(1, count + 1, _BATCH):
        numbers = range(start, min(start + _BATCH, count + 1))
        yield schema.studies, [_study(n) for n in numbers]
        yield schema.series, [_series(n) for n in numbers]
        yield schema.instances, [_instance(n) for n in numbers if n % 2]
        yield schema.sealed_uids, [_sealed(n) for n in numbers if not n % 2]
        yield (
            schema.study_values,
            [_value(n, path, part, value) for n in numbers for path, part, value in study_values(n)],
        )
        yield (
            schema.series_values,
            [_value(n, path, 0, value) | {"series_id": n} for n in numbers for path, value in series_values(n)],
        )
        yield schema.study_names, [{"study_id": n, "token": token} for n in numbers for token in tokens([name(n)])]


def _study(n: int) -> Row:
    return {
        "id": n,
        "study_uid": study_uid(n),
        "study_date": day(n),
        "study_time": f"{n % 24:02}0000.000000",
        "speaker_sop_uid": sop_uid(n),
        "speaker_series_uid": series_uid(n),
        "series_count": 1,
        "instance_count": 1,
        "modalities": _MODALITIES[n % 4],
        "sop_classes": f"1.2.840.{n % 4}",
        "attributes": b"{}",
    }


def _series(n: int) -> Row:
    return {
        "id": n,
        "study_id": n,
        "series_uid": series_uid(n),
        "series_number": n % 7,
        "step_date": day(n),
        "step_time": f"{n % 24:02}0000.000000",
        "speaker_sop_uid": sop_uid(n),
        "instance_count": 1,
        "loose_count": n % 2,
        "loose_bytes": 1000 * (n % 2),
        "touched_at": n,
        "pack_count": 0,
        "attributes": b"{}",
    }


def _instance(n: int) -> Row:
    return {
        "id": n,
        "study_id": n,
        "series_id": n,
        "sop_uid": sop_uid(n),
        "sop_class": f"1.2.840.{n % 4}",
        "instance_number": 1,
        "digest": b"d" * 32,
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "store": "spool",
        "key": f"spool/{sop_uid(n)}.dcm",
        "offset": 0,
        "length": 1000,
        "header_length": 100,
        "header_digest": b"h" * 16,
        "revision": 1,
        "received_at": n,
        "source": "test",
        "repair": None,
        "attributes": b"{}",
    }


def _sealed(n: int) -> Row:
    return {"uid_hash": uid_hash(sop_uid(n)), "study_id": n, "series_id": n}


def _value(n: int, path: str, part: int, value: str) -> dict[str, object]:
    return {"study_id": n, "path": path, "item": 0, "part": part, "value": value}


ONE = 1234  # the study whose values are looked for
_VALUES = {path: value for path, _, value in study_values(ONE)} | dict(series_values(ONE))
_COLUMNS = {
    "study_date": day(ONE),
    "study_time": "10",
    "study_uid": study_uid(ONE),
    "series_uid": series_uid(ONE),
    "series_number": "3",
    "step_date": day(ONE),
    "step_time": "10",
    "sop_class": "1.2.840.2",
    "sop_uid": sop_uid(ONE),
    "instance_number": "1",
}
# Of the other columns many studies have the same value: these are met in the order of results, until a page is full.
_NARROW_COLUMNS = ("study_date", "study_uid", "series_uid", "sop_uid")
# Every attribute that can be searched, at each level.
MATCHED = [(row, level) for row in TABLE if row.home is not Home.NOWHERE for level in Level if row.level <= level]


def text_of(attribute: Attribute) -> str:
    """Its value in the study `ONE`."""
    return _COLUMNS[attribute.column] if attribute.column else _VALUES[".".join(attribute.path)]


def is_narrow(attribute: Attribute) -> bool:
    """Whether few studies share a value of it."""
    return attribute.selective or attribute.column in _NARROW_COLUMNS
