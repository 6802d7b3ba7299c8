"""What a sealed series costs in the index, and what is left of it where it lay loose."""

import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.dicom.frames import FrameTable, Span
from storage.dicom.identity import Scope
from storage.dicom.instance import BulkValue, Instance
from storage.dicom.query import Level
from storage.index import InstanceRecord
from storage.index.sqlite import SqliteIndex
from storage.objects import Location
from tests.contract.index_samples import ask, instance, json_instance
from tests.contract.pack_samples import KeptDocuments, seal
from tests.contract.test_index_matching import ui

MAX_BYTES = 200  # of index for each instance of a sealed series
SERIES, SLICES = 4, 500


def long_uid(random_digits: random.Random, *parts: int) -> str:
    """Of 60 characters, with what makes it unique in the middle, as scanners make them."""
    head = "1.3.12.2.1107.5.1.4.50585." + ".".join(map(str, parts))
    return head + "." + "3" + "".join(random_digits.choices("0123456789", k=58 - len(head)))


def ct_series(seed: int) -> list[InstanceRecord]:
    """Slices with compressed pixels, so that no two have the same length."""
    digits = random.Random(seed)
    sample = instance().dataset
    study, series = long_uid(digits, seed, 1), long_uid(digits, seed, 2)
    return [_slice(digits, sample, study, series, number) for number in range(1, SLICES + 1)]


def _slice(digits: random.Random, sample: dict[str, Any], study: str, series: str, number: int) -> InstanceRecord:
    own = {
        "00080018": ui(long_uid(digits, 3)),
        "0020000D": ui(study),
        "0020000E": ui(series),
        "00200013": {"vr": "IS", "Value": [number]},
    }
    header, length = 1800 + digits.randrange(8), digits.randrange(150_000, 300_000)
    pixels = Span(header + 200, length - header - 208)
    made: Instance = replace(
        json_instance(sample | own, digest=digits.randbytes(32)),
        header_length=header,
        frames=FrameTable.fragments([pixels]),
        bulk={"7FE00010": BulkValue("OB", (pixels,))},
    )
    assert len(made.identity.sop_uid) == 60
    place = Location("spool", f"spool/{study}/{series}/{made.identity.sop_uid}.{made.digest.hex()[:12]}.dcm", 0, length)
    received = 1_770_000_000_000_000 + number * 50_000 + digits.randrange(40_000)
    return InstanceRecord(made, place, received, "dimse:CT1")


def bytes_used(path: Path) -> int:
    """Pages that hold anything, of all tables and indexes."""
    connection = sqlite3.connect(path)
    try:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    finally:
        connection.close()
    return int((pages - free) * size)


def test_a_sealed_ct_series_costs_little(tmp_path: Path) -> None:
    path, documents = tmp_path / "index.sqlite", KeptDocuments()
    index = SqliteIndex(path, documents=documents)
    empty = bytes_used(path)
    for number in range(SERIES):
        records = ct_series(number)
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(index.add, records))
        identity = records[0].instance.identity
        loose = bytes_used(path)
        seal(index, documents, identity.study_uid, identity.series_uid)
        index.forget(index.doomed(1 << 62, 1000))
        assert bytes_used(path) < loose
    used = (bytes_used(path) - empty) / (SERIES * SLICES)
    assert used <= MAX_BYTES, f"{used:.0f} bytes"
    found = index.search(ask(Level.STUDY)).rows
    assert len(found) == SERIES
    scope = Scope(found[0]["0020000D"]["Value"][0])
    assert len(index.locate(scope)) == len(list(index.metadata(scope))) == SLICES
    index.close()
