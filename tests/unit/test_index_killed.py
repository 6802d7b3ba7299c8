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
from tests import samples
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


SEALER = """
import sys
from pathlib import Path
from storage.index.sqlite import SqliteIndex
from tests.contract.index_samples import instance, record
from tests.contract.pack_samples import KeptDocuments, seal
from tests.unit.test_index_killed import SERIES_SEALED
index = SqliteIndex(Path(sys.argv[1]))
made = [record(instance(1, series, n)) for series in range(1, SERIES_SEALED + 1) for n in range(1, 4)]
for one in made:
    index.add(one)
print("ready", flush=True)
for uid in dict.fromkeys(one.instance.identity.series_uid for one in made):
    seal(index, KeptDocuments(), made[0].instance.identity.study_uid, uid)
    sys.stdout.write(uid + "\\n")
    sys.stdout.flush()
"""
SERIES_SEALED = 25


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05])
def test_a_series_is_sealed_whole_or_not_at_all_after_a_kill(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "index.sqlite"
    process = subprocess.Popen([sys.executable, "-c", SEALER, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    acknowledged = {line.strip() for line in process.stdout if line.endswith("\n")}
    process.wait()
    process.stdout.close()
    index = SqliteIndex(path)
    sealed = {pack.series_uid: pack for pack in index.packs()}
    assert acknowledged <= sealed.keys()
    loose = {each.series_uid for each in index.unsealed(touched_before=1 << 62, bytes_from=0, limit=100)}
    assert len(loose) + len(sealed) == SERIES_SEALED and not loose & sealed.keys()
    located = index.locate(Scope(f"{samples.ROOT}.1"))
    assert len(located) == 3 * SERIES_SEALED
    for each in located:
        assert (each.blocks is not None) == (each.identity.series_uid in sealed)
    doomed = [each.key for each in index.doomed(1 << 62, 1000)]
    assert sum(key.startswith("spool/") for key in doomed) == 3 * len(sealed)
    assert not {pack.location.key for pack in sealed.values()} & set(doomed)
    assert len(index.changes(0, 1000)) == 3 * len(loose) + len(sealed)
    index.close()
