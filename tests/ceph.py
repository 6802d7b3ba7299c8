"""A Ceph object gateway (RGW) from Debian's packages: the stricter second S3 server. One monitor, one OSD in memory."""

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.seaweed import free_port_pairs

PACKAGES = ["ceph-mon", "ceph-osd", "ceph-common", "radosgw"]
ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"
_START_SECONDS = 180.0
_CONF = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}/0]
public network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms bind port min = {low}
ms bind port max = {high}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$name.sock
log file =
log to stderr = true
mon cluster log to file = false
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 2000
mon data avail crit = 1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
osd class dir = {classes}
memstore device bytes = 2147483648
rgw rados pool pg num min = 4
rgw thread pool size = 32
mon data = {folder}/mon
osd data = {folder}/osd
"""


def why_not() -> str:
    """Why Ceph cannot run here; empty when it can. Installs its packages where it may."""
    if os.geteuid() == 0 and shutil.which("radosgw") is None and shutil.which("apt-get") is not None:
        for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *PACKAGES]):
            subprocess.run(
                ["apt-get", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                timeout=900,
                check=False,  # whether it helped is seen below
            )
    missing = [name for name in ("ceph-mon", "ceph-osd", "ceph", "radosgw") if shutil.which(name) is None]
    return f"{', '.join(missing)} not installed (apt-get install {' '.join(PACKAGES)})" if missing else ""


@dataclass
class Ceph:
    """Its processes and data in `folder`; nothing survives the end."""

    folder: Path
    mon: int
    port: int
    _processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def client(self) -> Any:
        """A boto3 client of our own."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def url(self, bucket: str, prefix: str = "") -> str:
        """`s3://bucket/prefix?endpoint=...` with files that hold the credentials."""
        (self.folder / "access").write_text(ACCESS_KEY)
        (self.folder / "secret").write_text(SECRET_KEY)
        files = f"access_key_file={self.folder}/access&secret_key_file={self.folder}/secret"
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}&{files}"

    def make_bucket(self, name: str) -> str:
        """Make the bucket; fine when it is there."""
        self.client.create_bucket(Bucket=name)
        return name

    def start(self) -> None:
        """Lay out a cluster, start it and make the user."""
        (self.folder / "mon").mkdir(parents=True)
        (self.folder / "osd").mkdir()
        fsid = str(uuid.uuid4())
        classes = next(iter(sorted(Path("/usr/lib").glob("*/rados-classes"))), Path("/usr/lib/rados-classes"))
        ports = {"mon": self.mon, "low": self.mon + 1, "high": self.mon + 100}
        (self.folder / "conf").write_text(_CONF.format(fsid=fsid, folder=self.folder, classes=classes, **ports))
        keyring, map_file = str(self.folder / "keyring"), str(self.folder / "monmap")
        self._do("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        everything = [part for daemon in ("mon", "osd", "mgr") for part in ("--cap", daemon, "allow *")]
        self._do("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
        self._do("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{self.mon}]", map_file)
        conf = ["-c", str(self.folder / "conf")]
        self._do("ceph-mon", *conf, "--mkfs", "-i", "a", "--monmap", map_file, "--keyring", keyring)
        self._run("ceph-mon", "-f", *conf, "-i", "a")
        self._do("ceph", *conf, "mon", "stat")
        self._do("ceph", *conf, "osd", "create")
        rights = ["mon", "allow profile osd", "osd", "allow *"]
        osd_keyring = str(self.folder / "osd" / "keyring")
        self._do("ceph", *conf, "auth", "get-or-create", "osd.0", *rights, "-o", osd_keyring)
        self._do("ceph-osd", *conf, "-i", "0", "--mkfs", "--keyring", osd_keyring)
        self._do("ceph", *conf, "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h0")
        self._run("ceph-osd", "-f", *conf, "-i", "0", "--keyring", osd_keyring)
        self._wait(lambda: b'"num_up_osds":1' in self._do("ceph", *conf, "osd", "stat", "-f", "json"), "OSD")
        as_admin = [*conf, "-n", "client.admin"]
        self._run("radosgw", "-f", *as_admin, "--rgw-frontends", f"beast endpoint=127.0.0.1:{self.port}")
        self._wait(self._answers, "RGW")
        keys = ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
        self._do("radosgw-admin", *as_admin, "user", "create", "--uid=test", "--display-name=test", *keys)

    def stop(self) -> None:
        """SIGKILL to all of it."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        self._processes.clear()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def _do(self, *command: str) -> bytes:
        done = subprocess.run(command, capture_output=True, timeout=_START_SECONDS, check=False)
        assert done.returncode == 0, (command, done.stderr[-2000:])
        return done.stdout

    def _run(self, *command: str) -> None:
        with open(self.folder / f"{command[0]}.log", "ab") as log:
            self._processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            )

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            if any(process.poll() is not None for process in self._processes) or time.monotonic() > deadline:
                logs = "\n".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("*.log")))
                raise AssertionError(f"Ceph: no {what}\n{logs}")
            time.sleep(0.2)


@contextmanager
def ceph(folder: Path) -> Iterator[Ceph]:
    """A running Ceph with its data in `folder` (made here), stopped at the end. Its sockets want a short path."""
    mon, port = free_port_pairs(2)
    server = Ceph(folder, mon, port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
