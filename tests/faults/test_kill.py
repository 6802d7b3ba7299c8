"""SIGKILL at random moments: nothing acknowledged is lost, nothing half is visible."""

import itertools
import random
import threading
import time
from pathlib import Path

import httpx
import pytest

from gateway.dimse import command
from tests import samples
from tests.dimse.peers import RawPeer
from tests.gateway_process import GatewayProcess

ASSOCIATIONS = 4


class Senders:
    """Four associations that store new instances until the connection breaks; they remember what was acknowledged."""

    def __init__(self, gateway: GatewayProcess, round_number: int) -> None:
        self.gateway = gateway
        self.round = round_number
        self.sent: dict[str, bytes] = {}
        self.acknowledged: set[str] = set()
        self.threads = [threading.Thread(target=self._send, args=(n,)) for n in range(ASSOCIATIONS)]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()

    def _send(self, lane: int) -> None:
        with RawPeer(self.gateway.dimse) as peer:
            peer.associate(calling=f"SENDER{lane}")
            for number in itertools.count(1):
                # Small and larger ones in turn, so that the kill meets every step of both paths.
                ds = samples.ct(self.round * 10 + lane, 1, number, size=16 if number % 3 else 192)
                sop_uid, data = ds.SOPInstanceUID, samples.dataset_bytes(samples.part10(ds))
                self.sent[sop_uid] = data
                try:
                    answer = peer.store(data, sop_uid=sop_uid)
                except (OSError, AssertionError):  # the connection broke, before or inside the answer
                    return
                assert answer.number(command.STATUS) == 0x0000
                self.acknowledged.add(sop_uid)


def everything_found(gateway: GatewayProcess) -> dict[str, tuple[str, str]]:
    """SOP Instance UID -> (study, series) of all that a search shows, page by page."""
    found: dict[str, tuple[str, str]] = {}
    with httpx.Client(timeout=60) as client:
        while True:
            answer = client.get(f"{gateway.dicomweb}/instances", params={"limit": 500, "offset": len(found)})
            if answer.status_code == 204:
                return found
            for row in answer.raise_for_status().json():
                sop, study, series = (row[tag]["Value"][0] for tag in ("00080018", "0020000D", "0020000E"))
                assert sop not in found
                found[sop] = (study, series)


def kill_rounds(folder: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    gateway = GatewayProcess(folder, env={"GATEWAY_INGEST__MEMORY_BYTES_PER_INSTANCE": "32768"})
    sent: dict[str, bytes] = {}
    acknowledged: set[str] = set()
    gateway.start()
    try:
        for number in range(rounds):
            senders = Senders(gateway, number + 1)
            senders.start()
            time.sleep(rng.uniform(0.2, 1.5))
            gateway.kill()
            senders.join()
            sent |= senders.sent
            acknowledged |= senders.acknowledged
            assert senders.acknowledged, "nothing was stored before the kill: the test proves nothing"
            gateway.start()
            verify(gateway, sent, acknowledged, only_new=set(senders.sent))
        verify(gateway, sent, acknowledged, only_new=set(sent))
        assert not list((folder / "objects").rglob("*.part")), "remains of broken receptions are cleaned at start"
    finally:
        gateway.kill()


def verify(gateway: GatewayProcess, sent: dict[str, bytes], acknowledged: set[str], only_new: set[str]) -> None:
    found = everything_found(gateway)
    assert acknowledged <= found.keys(), "acknowledged, and lost"
    with httpx.Client(headers={"Accept": "application/dicom; transfer-syntax=*"}, timeout=60) as client:
        for sop in found.keys() & only_new:
            study, series = found[sop]
            answer = client.get(f"{gateway.dicomweb}/studies/{study}/series/{series}/instances/{sop}")
            assert answer.status_code == 200
            assert samples.dataset_bytes(answer.content) == sent[sop]


def test_three_kills_during_ingest_lose_nothing(tmp_path: Path) -> None:
    kill_rounds(tmp_path, rounds=3, seed=int.from_bytes(tmp_path.name.encode()[-4:]))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_thirty_kills_during_ingest_lose_nothing(tmp_path: Path) -> None:
    kill_rounds(tmp_path, rounds=30, seed=31)
