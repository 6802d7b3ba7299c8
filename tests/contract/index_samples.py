"""Instances for the tests of the index: small data sets, through the real parser, and random ones beside it."""

from typing import Any

import orjson

from storage.dicom.attributes import path_of
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import Instance, JsonDataset
from storage.dicom.parse import parse
from storage.dicom.query import Level, Query, key
from storage.index import InstanceRecord, Location, MetadataIndex
from tests import samples

NO_FRAMES = parse(samples.part10(samples.ct(PixelData=None))).frames


def instance(study: int = 1, series: int = 1, number: int = 1, **changes: Any) -> Instance:
    return parse(samples.part10(samples.ct(study, series, number, **changes)))


def record(made: Instance, *, received_at: int = 1, source: str = "test", attempt: str = "") -> InstanceRecord:
    key = f"spool/{made.identity.sop_uid}.{made.digest.hex()[:12]}{attempt}.dcm"
    return InstanceRecord(made, Location("spool", key, 0, 1000), received_at, source)


def json_instance(dataset: JsonDataset, digest: bytes = b"") -> Instance:
    """An instance of which nothing counts but its DICOM JSON."""
    identity = Identity(*(dataset[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018", "00080016")))
    dataset = dict(sorted(dataset.items()))
    return Instance(
        identity,
        "1.2.840.10008.1.2.1",
        b"",
        0,
        digest or b"d" * 32,
        b"h" * 16,
        dataset,
        orjson.dumps(dataset),
        NO_FRAMES,
        {},
        None,
        (),
    )


def ask(level: Level, keys: dict[str, str] | None = None, **more: Any) -> Query:
    """A query from keys as a client writes them."""
    found = []
    for name, text in (keys or {}).items():
        path = path_of(name)
        assert path is not None, name
        found.append(key(path, text))
    return Query(level, tuple(found), **more)


def scope_of(made: Instance) -> Scope:
    return Scope(made.identity.study_uid, made.identity.series_uid, made.identity.sop_uid)


def first(row: JsonDataset, name: str) -> Any:
    """The first value of an attribute by keyword; None for one without a value. KeyError when it is not there."""
    path = path_of(name)
    assert path is not None
    return row[path[0]].get("Value", [None])[0]


def firsts(index: MetadataIndex, query: Query, name: str) -> list[Any]:
    return [first(row, name) for row in index.search(query).rows]
