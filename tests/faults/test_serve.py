"""`gateway serve` on a machine that is not as it should be: each trouble has a clear message and loses nothing."""

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset

from gateway.dimse import command
from tests import samples
from tests.dimse.peers import RawPeer, data_pdu, pdv
from tests.gateway_process import GatewayProcess


def serve(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a `gateway serve` that is expected to refuse."""
    command = [sys.executable, "-m", "gateway", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env={**os.environ, **(env or {})})


def stow(web: str, *files: bytes) -> httpx.Response:
    body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files) + b"--b--"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    return httpx.post(f"{web}/dicomweb/studies", content=body, headers=headers, timeout=60)


def c_store(gateway: GatewayProcess, *instances: Dataset) -> list[int]:
    """The statuses of these instances sent over one association, in PDUs of 64 KiB."""
    statuses = []
    with RawPeer(gateway.dimse, timeout=60) as peer:
        peer.associate()
        for ds in instances:
            data = samples.dataset_bytes(samples.part10(ds))
            peer.send(data_pdu(pdv(3, 3, peer.store_command(sop_uid=ds.SOPInstanceUID))))
            for start in range(0, len(data), 65536):
                last = 2 if start + 65536 >= len(data) else 0
                peer.send(data_pdu(pdv(3, last, data[start : start + 65536])))
            statuses.append(peer.response().number(command.STATUS))
        peer.release()
    return statuses


@pytest.mark.parametrize("door", ["web", "dimse"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_named(tmp_path: Path, door: str, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listen = {"web": "127.0.0.1:0", "dimse": "127.0.0.1:0", door: address}
        result = serve(
            "--data", str(tmp_path), "--web", listen["web"], "--dimse", listen["dimse"], "--workers", workers
        )
    assert result.returncode == 2
    assert "in use" in result.stderr
    assert address in result.stderr
    assert "Traceback" not in result.stderr


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, where a folder should be")
    result = serve("--data", str(tmp_path / "data"), "--web", "127.0.0.1:0", "--dimse", "127.0.0.1:0")
    assert result.returncode == 2
    assert str(tmp_path / "data") in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_key_and_an_open_door_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[dimse]\nae_titel = "PACS"\n')
    result = serve("--config", str(config))
    assert (result.returncode, "did you mean `ae_title`" in result.stderr) == (2, True)
    result = serve("--data", str(tmp_path / "data"), "--web", "0.0.0.0:0")
    assert (result.returncode, "names no tokens" in result.stderr) == (2, True)
    assert not (tmp_path / "data").exists()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path / "data") as process:
        yield process


def test_it_stops_in_order_within_ten_seconds_even_with_idle_peers(gateway: GatewayProcess) -> None:
    host, _, port = gateway.web.removeprefix("http://").partition(":")
    with RawPeer(gateway.dimse) as peer, socket.create_connection((host, int(port))):
        peer.associate()
        began = time.monotonic()
        assert gateway.stop() == 0
    assert time.monotonic() - began < 10


def test_no_room_left_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "data") as gateway:
        assert stow(gateway.web, samples.part10(samples.ct(1))).status_code == 200
    full = GatewayProcess(tmp_path / "data", env={"GATEWAY_SPOOL__MIN_FREE_BYTES": str(1 << 60)})
    with full:
        assert c_store(full, samples.ct(2)) == [0xA700]
        answer = stow(full.web, samples.part10(samples.ct(2)))
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert httpx.get(f"{full.web}/readyz", timeout=60).status_code == 503
        assert len(httpx.get(f"{full.dicomweb}/instances", timeout=60).json()) == 1


def test_a_write_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on the size of files makes the kernel refuse writes in the middle, as a full disk does."""
    gateway = GatewayProcess(tmp_path / "data")
    gateway.start()
    try:
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (6 << 20, resource.RLIM_INFINITY))
        large, small = samples.ct(1, size=2048), samples.ct(2)
        assert c_store(gateway, large, small) == [0xA700, 0x0000]
        answer = stow(gateway.web, samples.part10(large), samples.part10(small))
        assert answer.status_code == 202
        assert len(answer.json()["0008119A"]["Value"]) == 1  # it broke off before its UIDs were known
        rows = httpx.get(f"{gateway.dicomweb}/instances", timeout=60).json()
        assert [row["00080018"]["Value"][0] for row in rows] == [samples.ct(2).SOPInstanceUID]
        assert len(list((gateway.data / "objects").rglob("*.dcm"))) == 1
        assert not list((gateway.data / "objects").rglob("*.part"))
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert stow(gateway.web, samples.part10(large)).status_code == 200
    finally:
        gateway.stop()


def test_an_association_that_stops_in_the_middle_leaves_nothing_behind(gateway: GatewayProcess) -> None:
    data = samples.dataset_bytes(samples.part10(samples.ct(2, size=256)))
    for cut in (0, 100, 40_000, len(data) - 1):
        with RawPeer(gateway.dimse) as peer:
            peer.associate()
            peer.send(data_pdu(pdv(3, 3, peer.store_command(sop_uid=samples.ct(2).SOPInstanceUID))))
            peer.send(data_pdu(pdv(3, 0, data[:cut])))
    assert stow(gateway.web, samples.part10(samples.ct(1))).status_code == 200
    assert len(httpx.get(f"{gateway.dicomweb}/instances", timeout=60).json()) == 1
    assert not list((gateway.data / "objects").rglob("*.part"))


def test_workers_share_the_ports_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "data", "--workers", "2") as gateway:
        for number in range(1, 21):
            assert c_store(gateway, samples.ct(1, 1, number)) == [0x0000]
        children = _children(gateway.pid)
        os.kill(children[0], 9)
        deadline = time.monotonic() + 20
        while len(_children(gateway.pid)) < len(children) or children[0] in _children(gateway.pid):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (study,) = httpx.get(f"{gateway.dicomweb}/studies", timeout=60).json()
        assert study["00201208"]["Value"] == [20]
        assert b"gateway_" in httpx.get(f"{gateway.web}/metrics", timeout=60).content


def _children(pid: int) -> list[int]:
    """The worker processes (not the resource tracker that Python keeps beside them)."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    workers = [int(child) for child in found]
    return [child for child in workers if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_the_audit_trail_names_acts_but_no_patient(gateway: GatewayProcess) -> None:
    assert stow(gateway.web, samples.part10(samples.ct(5))).status_code == 200
    httpx.get(f"{gateway.dicomweb}/studies", params={"PatientName": "Wang*", "PatientID": "P5"}, timeout=60)
    httpx.get(f"{gateway.dicomweb}/studies/1.2.3/metadata", timeout=60)
    lines = [json.loads(x) for file in (gateway.data / "audit").iterdir() for x in file.read_text().splitlines()]
    assert {(line["act"], line["outcome"]) for line in lines} >= {("store", "success"), ("search", "success")}
    everything = "".join(file.read_text() for file in (gateway.data / "audit").iterdir()) + "".join(gateway.output)
    for personal in ("Wang", "王", "XiaoDong", "P5", "19760412"):
        assert personal not in everything


def test_a_lost_index_is_noticed(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "data") as gateway:
        assert stow(gateway.web, samples.part10(samples.ct(1))).status_code == 200
        assert not any("the index is empty" in line for line in gateway.output)
    for file in (tmp_path / "data").glob("index.sqlite*"):
        file.unlink()
    with GatewayProcess(tmp_path / "data") as gateway:
        assert any("the index is empty" in line for line in gateway.output)


def test_a_lost_index_is_noticed_when_all_is_sealed(tmp_path: Path) -> None:
    pack = tmp_path / "data" / "archive" / "packs" / "local" / "1.2" / "1.2.3" / "0f.zip"
    pack.parent.mkdir(parents=True)
    pack.write_bytes(b"whatever it is")
    with GatewayProcess(tmp_path / "data") as gateway:
        assert any("the index is empty" in line for line in gateway.output)


def test_a_refused_instance_leaves_its_reason_in_the_log(gateway: GatewayProcess) -> None:
    answer = stow(gateway.web, samples.part10(samples.ct(1)), samples.part10(samples.ct(1, 1, 2, StudyInstanceUID="")))
    assert answer.status_code == 202
    assert c_store(gateway, samples.ct(1, 1, 3, SeriesInstanceUID="")) == [0xC002]
    expected = {
        "STOW-RS part refused": "Study Instance UID is missing",
        "C-STORE refused": "Series Instance UID is missing",
    }
    deadline = time.monotonic() + 5
    while not all(any(event in line and why in line for line in gateway.output) for event, why in expected.items()):
        assert time.monotonic() < deadline, gateway.output
        time.sleep(0.05)


def test_an_index_that_is_removed_in_use_is_not_written_to(gateway: GatewayProcess) -> None:
    assert stow(gateway.web, samples.part10(samples.ct(1))).status_code == 200
    index = gateway.data / "index.sqlite"
    index.rename(gateway.data / "moved.sqlite")
    assert c_store(gateway, samples.ct(2)) == [0xA700]
    assert httpx.get(f"{gateway.web}/readyz", timeout=60).status_code == 503
    (gateway.data / "moved.sqlite").rename(index)
    assert c_store(gateway, samples.ct(2)) == [0x0000]
