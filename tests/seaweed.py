"""A real S3 server for tests: SeaweedFS on free loopback ports, acknowledging what it has flushed, nothing else."""

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"
READER_ACCESS_KEY, READER_SECRET_KEY = "reader-access", "reader-secret"  # may read and list, nothing else
_START_SECONDS = 60.0
_POLL_SECONDS = 0.05
_IDENTITIES = {
    "identities": [
        {
            "name": "gateway",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": READER_ACCESS_KEY, "secretKey": READER_SECRET_KEY}],
            "actions": ["Read", "List"],
        },
    ]
}
# Every bucket is a collection of its own; by default each grows seven volumes at once and the slots run out.
_GROWTH = "[master.volume_growth]\ncopy_1 = 1\ncopy_2 = 1\ncopy_3 = 1\ncopy_other = 1\n"


@dataclass
class Seaweed:
    """The four processes of one SeaweedFS in `folder`. What was acknowledged is there again after `kill`, `restart`."""

    folder: Path
    master: int
    volume: int
    filer: int
    s3: int
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    _processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.s3}"

    @property
    def environment(self) -> dict[str, str]:
        """The credentials, as a process under test finds them in its environment."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def url(self, bucket: str, prefix: str = "", *, endpoint: str = "") -> str:
        """`s3://bucket/prefix?endpoint=...` with files that hold the credentials; `endpoint` may be a proxy's."""
        files = {"access_key_file": self.access_key, "secret_key_file": self.secret_key}
        query = f"endpoint={endpoint or self.endpoint}"
        for name, text in files.items():
            path = self.folder / name
            path.write_text(text + "\n")
            query += f"&{name}={path}"
        return f"s3://{bucket}/{prefix}?{query}"

    def make_bucket(self, name: str) -> str:
        """Make the bucket unless it is there, and return its name when it takes objects."""
        client = self.client

        def ready() -> bool:
            try:
                with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                    client.create_bucket(Bucket=name)
                client.put_object(Bucket=name, Key="ready", Body=b"")
                client.delete_object(Bucket=name, Key="ready")
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                    raise
                return False
            return True

        self._wait(ready, f"the bucket {name}")
        return name

    @cached_property
    def client(self) -> Any:
        """A boto3 client of our own, to look at what the code under test has done."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def kill(self) -> None:
        """SIGKILL to all of it, the door first; a polite end takes SeaweedFS ten seconds."""
        for process in reversed(self._processes):
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def restart(self) -> None:
        """Start again on the same ports and data; returns when requests are answered."""
        self.kill()
        self.start()

    def start(self) -> None:
        """Start the processes one after another: each sleeps for seconds when it does not find the one before."""
        here = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        master = f"127.0.0.1:{self.master}.{self.master + 1}"
        self._run("master", *here, *_ports(self.master), "-mdir=master", "-peers=none", "-telemetry=false")
        self._until_answered(self.master, "/cluster/status", b'"IsLeader":true')
        volume = [f"-master={master}", "-dir=volume", "-max=100", "-minFreeSpace=50MiB", "-preStopSeconds=0"]
        self._run("volume", *here, *_ports(self.volume), *volume)
        self._until_answered(self.master, "/dir/status", f"127.0.0.1:{self.volume}".encode())
        self._run("filer", *here, *_ports(self.filer), f"-master={master}", "-localSocket=filer.sock")
        self._until_answered(self.filer, "/healthz", b"")
        door = [f"-filer=127.0.0.1:{self.filer}.{self.filer + 1}", "-config=s3.json", "-localSocket=s3.sock"]
        door += ["-port.iceberg=0", "-port.lance=0", "-cacheCapacityMB=0", "-autoCreateBucket=false"]
        self._run("s3", "-ip.bind=127.0.0.1", *_ports(self.s3), *door)
        self._until_answered(self.s3, "/healthz", b"")
        self._until_answered(self.master, "/dir/assign", b'"fid"')

    @contextmanager
    def secure_door(self, certificate: Path, key: Path) -> Iterator[int]:
        """The port of one more door, which speaks TLS and knows `{bucket}.localhost` as a bucket's host."""
        (port,) = free_port_pairs(1)
        self._run(
            *("s3", "-ip.bind=127.0.0.1", *_ports(port), f"-filer=127.0.0.1:{self.filer}.{self.filer + 1}"),
            *("-config=s3.json", f"-localSocket=s3-{port}.sock", "-port.iceberg=0", "-port.lance=0"),
            *("-cacheCapacityMB=0", "-autoCreateBucket=false", "-domainName=localhost"),
            *(f"-cert.file={certificate}", f"-key.file={key}"),
        )
        door = self._processes[-1]

        def answered() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                return True
            return False

        try:
            self._wait(answered, "door with TLS")
            yield port
        finally:
            door.kill()
            door.wait()
            self._processes.remove(door)

    def prepare(self) -> None:
        """Lay out the folder, once, before the first start."""
        for name in ("master", "volume", "filer"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "s3.json").write_text(json.dumps(_IDENTITIES))
        (self.folder / "master.toml").write_text(_GROWTH)
        (self.folder / "filer.toml").write_text('[leveldb2]\nenabled = true\ndir = "filer"\n')

    def flush_before_answering(self) -> None:
        """Have every write flushed to the disk before it is acknowledged: by default it is in memory only."""
        command = [_weed(), "shell", f"-master=127.0.0.1:{self.master}.{self.master + 1}"]
        command.append(f"-filer=127.0.0.1:{self.filer}.{self.filer + 1}")
        done = subprocess.run(
            command,
            input=b"fs.configure -locationPrefix=/buckets/ -fsync -apply\n",
            capture_output=True,
            cwd=self.folder,
            timeout=_START_SECONDS,
            check=True,
        )
        assert b"fsync" in done.stdout, (done.stdout + done.stderr).decode()

    def _run(self, *command: str) -> None:
        with open(self.folder / f"{command[0]}.log", "ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [_weed(), "-logtostderr", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    start_new_session=True,  # Ctrl-C at a terminal is for the tests, which then stop it in order
                )
            )

    def _until_answered(self, port: int, path: str, expected: bytes) -> None:
        def answered() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                    return expected in answer.read()
            except (OSError, urllib.error.HTTPError):
                return False

        self._wait(answered, path)

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            ended = any(process.poll() is not None for process in self._processes)
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"SeaweedFS: no {what}\n{self._logs()}")
            time.sleep(_POLL_SECONDS)

    def _logs(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log")))


@contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """A running SeaweedFS with its data in `folder` (made here), stopped at the end."""
    master, volume, filer, s3 = free_port_pairs(4)
    server = Seaweed(folder, master, volume, filer, s3)
    server.prepare()
    try:
        server.start()
        server.flush_before_answering()
        yield server
    finally:
        server.kill()


def free_port_pairs(count: int) -> list[int]:
    """`count` ports that are free, each with the next one.

    Below the range from which the system takes ports for outgoing connections, so that they are still free when a
    server that was killed is started again.
    """
    held: list[socket.socket] = []
    found: list[int] = []
    try:
        for port in random.sample(range(11_000, 31_000, 2), 2000):
            with suppress(OSError):
                for number in (port, port + 1):
                    held.append(socket.socket())
                    held[-1].bind(("127.0.0.1", number))
                found.append(port)
            if len(found) == count:
                return found
    finally:
        for sock in held:
            sock.close()
    raise AssertionError("no free ports")


def _ports(port: int) -> tuple[str, str]:
    return f"-port={port}", f"-port.grpc={port + 1}"


def _weed() -> str:
    return os.path.join(os.path.dirname(sys.executable), "weed")
