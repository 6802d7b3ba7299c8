"""The servers that are measured: a gateway started for the purpose, and peers that run already."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.http import Connection
from bench.scu import Association

START_SECONDS, STOP_SECONDS = 60, 20
SEAL_AFTER_SECONDS = 2  # so that storing is measured with sealing beside it


class CannotStart(Exception):
    """The gateway did not become ready; the message ends with what it printed last."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server's two doors are, and its process, if that can be watched."""

    name: str
    web: str
    dimse: tuple[str, int]
    ae_title: str
    process: int | None = None
    config: Path | None = None  # of a gateway that was started here

    def connect(self) -> Connection:
        return Connection(self.web)

    def associate(self, offers: set[tuple[str, str]]) -> Association:
        return Association(self.dimse, self.ae_title, offers)


def running(description: str) -> Server:
    """A peer from `NAME,URL,HOST:PORT/AET[,PID]`. Raises ValueError."""
    name, web, dimse, *process = description.split(",")
    address, _, ae_title = dimse.partition("/")
    host, _, port = address.rpartition(":")
    return Server(name, web.rstrip("/"), (host, int(port)), ae_title or "ANY-SCP", int(process[0]) if process else None)


@contextmanager
def gateway(folder: Path, workers: int, *, name: str = "gateway", archive: str = "") -> Iterator[Server]:
    """`gateway serve` on free ports of the loopback interface, its data in a new folder that is removed at the end.

    `archive` is the URL of the object store for packs, by default a folder too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    config = data / "gateway.toml"
    tables = {"archive": {"url": archive, "seal_after_seconds": SEAL_AFTER_SECONDS}}
    config.write_text(f"data = {json.dumps(str(data / 'archive'))}\n{_toml(tables)}")
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--workers", str(workers)]
    command += ["--web", "127.0.0.1:0", "--dimse", "127.0.0.1:0"]
    log = data / "gateway.log"
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield replace(_when_ready(process, log), name=name, config=config)
        finally:
            _stop(process)
    finally:
        shutil.rmtree(data)


def _toml(tables: dict[str, dict[str, str | int]]) -> str:
    lines = []
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _when_ready(process: "subprocess.Popen[bytes]", log: Path) -> Server:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        said = log.read_text("utf-8", "replace")
        if re.search(r"^Ready", said, re.MULTILINE):
            return _announced(said, process.pid)
        time.sleep(0.05)
    tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-20:])
    raise CannotStart(f"the gateway did not become ready in {START_SECONDS} s (exit status {process.poll()}):\n{tail}")


def _announced(said: str, process: int) -> Server:
    web = re.search(r"^DICOMweb\s+(\S+)", said, re.MULTILINE)
    dimse = re.search(r"^DIMSE\s+(\S+):(\d+)\s+AE title (.+)$", said, re.MULTILINE)
    if web is None or dimse is None:
        raise CannotStart(f"the gateway did not say where it listens:\n{said}")
    return Server("gateway", web[1], (dimse[1], int(dimse[2])), dimse[3].strip(), process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        print(f"the gateway did not stop within {STOP_SECONDS} s of SIGTERM and was killed", file=sys.stderr)
