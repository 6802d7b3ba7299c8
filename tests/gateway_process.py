"""A real `gateway serve` in a process of its own, on free loopback ports."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class GatewayProcess:
    """Start on enter, SIGTERM on exit; `kill` and `start` as often as a test likes, on the same data folder.

    `program` is what Python runs: the gateway, or what runs it in its turn.
    """

    def __init__(
        self,
        data: Path,
        *arguments: str,
        env: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "gateway"),
    ) -> None:
        self.data = data
        self.arguments = arguments
        self.program = program
        self.env = {"GATEWAY_SPOOL__MIN_FREE_BYTES": "0", **(env or {})}
        self.process: subprocess.Popen[str] | None = None
        self.output: list[str] = []
        self.web = ""
        self.dimse = ("", 0)

    @property
    def dicomweb(self) -> str:
        return f"{self.web}/dicomweb"

    def start(self, timeout_seconds: float = 30) -> None:
        command = [sys.executable, *self.program, "serve", "--data", str(self.data)]
        command += ["--web", "127.0.0.1:0", "--dimse", "127.0.0.1:0", *self.arguments]
        self.output = []
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **self.env}
        )
        ready = threading.Event()
        threading.Thread(target=self._read, args=(self.process, ready), daemon=True).start()
        if not ready.wait(timeout_seconds) or self.process.poll() is not None:
            self.kill()
            raise AssertionError("the gateway did not start:\n" + "".join(self.output))
        said = "".join(self.output)
        if found := re.search(r"DICOMweb +(http://\S+)/dicomweb", said):
            self.web = found[1]
        if found := re.search(r"DIMSE +(\S+):(\d+)", said):
            self.dimse = (found[1], int(found[2]))

    def _read(self, process: "subprocess.Popen[str]", ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line)
            if line.startswith("Ready"):
                ready.set()
        process.stdout.close()
        ready.set()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout_seconds: float = 15) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
