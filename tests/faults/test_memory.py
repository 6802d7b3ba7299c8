"""An object far larger than the memory meant for it: flat memory in and out, by both doors."""

import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from gateway.dimse import command
from tests import samples
from tests.dimse.peers import RawPeer, data_pdu, pdv
from tests.gateway_process import GatewayProcess

MIB = 1 << 20
FRAME = 1024 * 1024 * 2


class PeakMemory(threading.Thread):
    """The largest resident memory of a process, sampled while it works."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(pid)
        self.peak = self.process.memory_info().rss
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.process.memory_info().rss)

    def stop(self) -> int:
        self.done.set()
        self.join()
        return self.peak


def large(frames: int, number: int) -> Iterator[bytes]:
    """The data set of a multi-frame instance, a frame at a time; each frame's first bytes are its number."""
    ds = samples.ct(3, 1, number, PixelData=None, NumberOfFrames=frames, Rows=1024, Columns=1024)
    yield samples.dataset_bytes(samples.part10(ds))
    yield struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, frames * FRAME)
    for frame in range(1, frames + 1):
        yield struct.pack("<I", frame) + bytes(FRAME - 4)


def by_c_store(gateway: GatewayProcess, frames: int) -> str:
    uid: str = samples.ct(3, 1, 1).SOPInstanceUID
    with RawPeer(gateway.dimse, timeout=300) as peer:
        peer.associate()
        peer.send(data_pdu(pdv(3, 3, peer.store_command(sop_uid=uid))))
        for piece in large(frames, 1):
            for start in range(0, len(piece), 65536):
                peer.send(data_pdu(pdv(3, 0, piece[start : start + 65536])))
        peer.send(data_pdu(pdv(3, 2, b"")))
        assert peer.response().number(command.STATUS) == 0x0000
    return uid


def by_stow(gateway: GatewayProcess, frames: int) -> str:
    ds = samples.ct(3, 1, 2, PixelData=None)
    file = samples.part10(ds)
    meta = file[: len(file) - len(samples.dataset_bytes(file))]

    def body() -> Iterator[bytes]:
        yield b"--b\r\nContent-Type: application/dicom\r\n\r\n" + meta
        yield from large(frames, 2)
        yield b"\r\n--b--"

    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    answer = httpx.post(f"{gateway.dicomweb}/studies", content=body(), headers=headers, timeout=300)
    assert answer.status_code == 200, answer.text
    uid: str = ds.SOPInstanceUID
    return uid


def measured(folder: Path, frames: int, most_mib: int) -> None:
    with GatewayProcess(folder) as gateway:
        memory = PeakMemory(gateway.pid)
        memory.start()
        for uid in (by_c_store(gateway, frames), by_stow(gateway, frames)):
            url = f"{gateway.dicomweb}/studies/{samples.ROOT}.3/series/{samples.ROOT}.3.1/instances/{uid}"
            frame = httpx.get(f"{url}/frames/{frames}", headers={"Accept": "application/octet-stream"}, timeout=60)
            assert frame.content[:4] == struct.pack("<I", frames)
            assert len(frame.content) == FRAME
            with httpx.stream("GET", url, headers={"Accept": "application/dicom"}, timeout=300) as answer:
                assert sum(map(len, answer.iter_raw(MIB))) > frames * FRAME
        time.sleep(0.1)
        assert memory.stop() < most_mib * MIB


def test_an_object_of_300_mb_costs_little_memory(tmp_path: Path) -> None:
    measured(tmp_path, 150, most_mib=200)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_an_object_of_2_gb_costs_little_memory(tmp_path: Path) -> None:
    measured(tmp_path, 1000, most_mib=400)
