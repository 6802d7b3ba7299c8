"""What the machine itself can do, measured in turn with the servers: no durable archive can be faster than its disk."""

import os
import tempfile
from pathlib import Path

from bench.load import Done, Job, Running

LOG_BYTES = 32 << 10  # what the index writes for one instance, about
LOOPS, ADDITIONS = 20, 1_000_000


def durable_files(folder: Path, length: int, count: int) -> Job:
    """Write files one after another as an archive must: flush the file, name it, flush the folder, log it, flush."""

    def job() -> Running:
        body, entry = os.urandom(length), os.urandom(LOG_BYTES)
        with tempfile.TemporaryDirectory(dir=folder, prefix="floor-") as name:
            place = os.open(name, os.O_RDONLY)
            log = os.open(f"{name}/log", os.O_CREAT | os.O_WRONLY)
            os.write(log, bytes(LOG_BYTES * count))  # a log that is written again does not grow
            os.fsync(log)
            yield None
            for number in range(count):
                _write(f"{name}/new", body)
                os.rename(f"{name}/new", f"{name}/{number}")
                os.fsync(place)
                os.pwrite(log, entry, number * LOG_BYTES)
                os.fdatasync(log)
                yield Done(1, length)
            os.close(log)
            os.close(place)

    return job


def _write(path: str, body: bytes) -> None:
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.write(file, body)
    os.fsync(file)
    os.close(file)


def additions() -> Running:
    """A job: a million additions in plain Python, some times; tells a fast processor from a slow or busy one."""
    yield None
    for _ in range(LOOPS):
        total = 0
        for number in range(ADDITIONS):
            total += number
        yield Done()
