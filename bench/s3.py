"""A bucket to measure with: SeaweedFS from its wheel, one process on loopback ports, flushing what it acknowledges."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.server import CannotStart

BUCKET, ACCESS_KEY, SECRET_KEY = "bench", "bench-access", "bench-secret"
START_SECONDS = 90
_IDENTITIES = {
    "identities": [
        {
            "name": "bench",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
    ]
}
_GROWTH = "[master.volume_growth]\ncopy_1 = 1\ncopy_2 = 1\ncopy_3 = 1\ncopy_other = 1\n"


@contextmanager
def bucket(folder: Path) -> Iterator[str]:
    """The URL of an empty bucket, its data in the new folder `folder`, which is removed at the end.

    Raises CannotStart.
    """
    folder.mkdir(parents=True)
    try:
        with _bucket(folder.absolute()) as url:
            yield url
    finally:
        shutil.rmtree(folder)


@contextmanager
def _bucket(folder: Path) -> Iterator[str]:
    (folder / "s3.json").write_text(json.dumps(_IDENTITIES))
    (folder / "master.toml").write_text(_GROWTH)
    for name, text in (("access-key", ACCESS_KEY), ("secret-key", SECRET_KEY)):
        (folder / name).write_text(text + "\n")
    ports = _free_ports(4)
    with _running(folder, ports) as process:
        _wait(process, f"http://127.0.0.1:{ports[3]}/healthz", folder)
        _wait(process, f"http://127.0.0.1:{ports[0]}/dir/assign", folder)
        _shell(
            folder, ports, f"s3.bucket.create -name {BUCKET}\nfs.configure -locationPrefix=/buckets/ -fsync -apply\n"
        )
        keys = f"access_key_file={folder}/access-key&secret_key_file={folder}/secret-key"
        yield f"s3://{BUCKET}?endpoint=http://127.0.0.1:{ports[3]}&{keys}"


@contextmanager
def _running(folder: Path, ports: list[int]) -> Iterator["subprocess.Popen[bytes]"]:
    command = [_weed(), "-logtostderr", "server", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-filer"]
    for name, port in zip(("master", "volume", "filer", "s3"), ports, strict=True):
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={port + 10_000}"]
    command += ["-s3.config=s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-volume.max=100", "-master.telemetry=false"]
    with (folder / "seaweedfs.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if b'"error"' not in answer.read():
                    return
        except (OSError, urllib.error.HTTPError):
            pass
        time.sleep(0.1)
    raise CannotStart(f"SeaweedFS did not start:\n{(folder / 'seaweedfs.log').read_text()[-2000:]}")


def _shell(folder: Path, ports: list[int], line: str) -> None:
    command = [_weed(), "shell", f"-master=127.0.0.1:{ports[0]}.{ports[0] + 10_000}"]
    command.append(f"-filer=127.0.0.1:{ports[2]}.{ports[2] + 10_000}")
    subprocess.run(
        command, input=f"{line}\n".encode(), cwd=folder, capture_output=True, timeout=START_SECONDS, check=True
    )


def _free_ports(count: int) -> list[int]:
    """Ports that are free together with the one 10,000 above, which SeaweedFS takes for itself."""
    found: list[int] = []
    for port in range(18_000 + os.getpid() % 1000, 30_000, 7):
        try:
            with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + 10_000)):
                found.append(port)
        except OSError:
            continue
        if len(found) == count:
            return found
    raise CannotStart("no free ports for SeaweedFS")


def _weed() -> str:
    return str(Path(sys.executable).with_name("weed"))
