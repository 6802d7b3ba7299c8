"""A process that writes is killed: every instance that it saw added is there, and nothing is there by half."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.dicom.identity import Scope
from storage.dicom.query import Level, Query
from storage.index.sqlite import SqliteIndex
from tests.contract.index_samples import ask, first

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from storage.index.sqlite import SqliteIndex
from tests.contract.index_samples import instance, record
made = [record(instance(1 + n % 2, 1 + n % 3, n)) for n in range(1, 151)]
index = SqliteIndex(Path(sys.argv[1]))
def add(one):
    index.add(one)
    sys.stdout.write(one.instance.identity.sop_uid + "\\n")
    sys.stdout.flush()
with ThreadPoolExecutor(6) as pool:
    list(pool.map(add, made))
"""


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.1])
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "index.sqlite"
    process = subprocess.Popen([sys.executable, "-c", WRITER, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline()]
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.read().splitlines(keepends=True)
    process.wait()
    process.stdout.close()
    index = SqliteIndex(path)
    index.check()
    there = {row["00080018"]["Value"][0] for row in index.search(Query(Level.INSTANCE, limit=1000)).rows}
    assert {uid.strip() for uid in acknowledged if uid.endswith("\n")} <= there
    for row in index.search(ask(Level.STUDY)).rows:
        scope = Scope(first(row, "StudyInstanceUID"))
        located = [stored.identity for stored in index.locate(scope)]
        assert [identity for identity, _ in index.metadata(scope)] == located
        assert first(row, "NumberOfStudyRelatedInstances") == len(located)
        assert first(row, "NumberOfStudyRelatedSeries") == len({identity.series_uid for identity in located})
    assert len(index.changes(0, 1000)) == len(there)
    index.close()
