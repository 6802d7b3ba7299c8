"""Commands of the gateway, each in a process of its own, forked from one that has imported what they need: to import
takes longer than most of them run.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.cli import app
from tests.faults.ledger import PATIENCE_SECONDS
from tests.gateway_process import GatewayProcess


class Command:
    """A command that runs; `said` is all of its output so far."""

    def __init__(self, act: Callable[[], object], env: Mapping[str, str]) -> None:
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(["tests.faults.held", "gateway.cli.serve"])
        handle, name = tempfile.mkstemp()
        os.close(handle)
        self._output = Path(name)
        self._process = processes.Process(
            target=_run, args=(act, {**os.environ, "GATEWAY_SPOOL__MIN_FREE_BYTES": "0", **env}, name)
        )
        self._process.start()

    @property
    def said(self) -> str:
        return self._output.read_text()

    def runs(self) -> bool:
        return self._process.is_alive()

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        self._process.join(PATIENCE_SECONDS)
        status = self._process.exitcode
        assert status is not None, self.said
        return status

    def kill(self) -> None:
        """SIGKILL; its output is gone then."""
        self._process.kill()
        self._process.join()
        self._output.unlink(missing_ok=True)


def _run(act: Callable[[], object], environment: dict[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    handle = os.open(output, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(handle, standard)
    act()


class Gateway:
    """The `gateway` command with these arguments, as something to do."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments

    def __call__(self) -> None:
        app(self.arguments)


def run(gateway: GatewayProcess, *arguments: str) -> None:
    """A command on the gateway's data, beside it; it succeeds."""
    command = Command(Gateway(*arguments, "--data", str(gateway.data)), gateway.env)
    try:
        status = command.ended()
        assert status == 0, command.said
    finally:
        command.kill()
