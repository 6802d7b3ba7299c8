"""What an operator does to a gateway that was started here: seal, and rebuild the index from the packs."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench import jobs
from bench.dicom import Instance
from bench.load import Done, Job, Running
from bench.scu import Refused
from bench.server import Server

SECONDS = 600


def sealed(server: Server, instances: Callable[[], Iterable[Instance]]) -> Job:
    """Store the instances over one association, and wait until all of their series are sealed."""

    def job() -> Running:
        yield from jobs.c_store(server, instances)()
        for study_uid in dict.fromkeys(instance.study_uid for instance in instances()):
            _run(server, "seal", study_uid)

    return job


def reindex(server: Server) -> Job:
    """Rebuild the index beside the one in use, as one operation; the time is that of the whole command."""

    def job() -> Running:
        with tempfile.TemporaryDirectory(dir=_config(server).parent) as folder:
            yield None
            done = _run(server, "reindex", "--into", str(Path(folder) / "index.sqlite"))
            yield Done(done["instances"])

    return job


def _run(server: Server, *command: str) -> dict[str, Any]:
    """The summary of a command of the gateway. Raises Refused."""
    full = [sys.executable, "-m", "gateway", *command, "--config", str(_config(server)), "--json"]
    done = subprocess.run(full, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise Refused(f"gateway {command[0]}: exit status {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["summary"]
    return summary


def _config(server: Server) -> Path:
    if server.config is None:
        raise Refused("it was not started here")
    return server.config
