"""What was sent to a gateway and what it acknowledged, held against what it has: exactly that, each once, as sent."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx
from pydicom.dataset import Dataset

from gateway.dimse import command
from tests import samples
from tests.dimse.peers import RawPeer, data_pdu, pdv
from tests.gateway_process import GatewayProcess

PATIENCE_SECONDS = 90
DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_SENDERS = 4
_PDV_BYTES = 65536
_PAUSE_SECONDS = 0.1
Key = tuple[str, str, str]  # study, series, instance


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until it comes true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class NotAcknowledged(Exception):
    """It is to be sent again: refused for now, or nobody answered."""


@dataclass
class Ledger:
    """`refused` counts what was answered when it was not success; `broken` whether connections may break meanwhile."""

    may_break: bool = False
    sent: dict[Key, bytes] = field(default_factory=dict)
    acknowledged: set[Key] = field(default_factory=set)
    refused: "Counter[object]" = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def store(self, gateway: GatewayProcess, ds: Dataset, *, by: str, client: httpx.Client) -> None:
        """Send it once. Raises NotAcknowledged; any other answer than success or "not now" is an error."""
        key = (str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID))
        file = samples.part10(ds)
        with self._lock:
            self.sent[key] = samples.dataset_bytes(file)
        try:
            if by == "web":
                self._stow(gateway, file, client)
            else:
                self._c_store(gateway, samples.dataset_bytes(file), key[2])
        except (ConnectionError, httpx.NetworkError, httpx.RemoteProtocolError) as error:
            assert self.may_break, f"the connection broke: {error!r}"
            raise NotAcknowledged from error
        with self._lock:
            self.acknowledged.add(key)

    def _stow(self, gateway: GatewayProcess, file: bytes, client: httpx.Client) -> None:
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n--b--"
        headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
        answer = client.post(f"{gateway.dicomweb}/studies", content=body, headers=headers)
        if answer.status_code != 200:
            self._refused(answer.status_code, 503, answer.text)
            assert int(answer.headers["Retry-After"]) > 0
            raise NotAcknowledged

    def _c_store(self, gateway: GatewayProcess, data: bytes, sop_uid: str) -> None:
        with RawPeer(gateway.dimse, timeout=PATIENCE_SECONDS) as peer:
            try:
                peer.associate()
                peer.send(data_pdu(pdv(3, 3, peer.store_command(sop_uid=sop_uid))))
                for start in range(0, len(data), _PDV_BYTES):
                    last = 2 if start + _PDV_BYTES >= len(data) else 0
                    peer.send(data_pdu(pdv(3, last, data[start : start + _PDV_BYTES])))
                status = peer.response().number(command.STATUS)
            except AssertionError as error:  # the connection ended before or inside the answer
                raise ConnectionError from error
            if status != 0x0000:
                self._refused(status, 0xA700, "")
                raise NotAcknowledged
            with suppress(OSError, AssertionError):
                peer.release()

    def _refused(self, status: int, allowed: int, said: str) -> None:
        with self._lock:
            self.refused[status] += 1
        assert status == allowed, (status, said)

    def check(self, gateway: GatewayProcess) -> None:
        """All that was acknowledged is found, once, and read back as it was sent; nothing else is found but what was
        sent and whose answer was lost. Every answer is success.
        """
        with httpx.Client(timeout=PATIENCE_SECONDS, base_url=gateway.dicomweb) as client:
            found = _found(client)
            assert self.acknowledged <= set(found) <= set(self.sent)
            assert len(found) == len(set(found)), "found twice"
            assert _counts(client, "studies", "0020000D", "00201208") == Counter(study for study, _, _ in found)
            assert _counts(client, "series", "0020000E", "00201209") == Counter(series for _, series, _ in found)
            for study in {study for study, _, _ in found}:
                expected = sorted(self.sent[key] for key in found if key[0] == study)
                assert (
                    sorted(samples.dataset_bytes(part) for part in instances(client, f"/studies/{study}")) == expected
                )
                rows = client.get(f"/studies/{study}/metadata").raise_for_status().json()
                assert {row["00080018"]["Value"][0] for row in rows} == {key[2] for key in found if key[0] == study}
                assert len(rows) == len(expected)

    def check_all(self, gateway: GatewayProcess) -> None:
        """The same when everything was acknowledged; nothing unforeseen is in the log."""
        assert self.acknowledged == set(self.sent)
        self.check(gateway)
        said = "".join(gateway.output)
        assert "Traceback" not in said and "unexpected error" not in said, said


def _found(client: httpx.Client) -> list[Key]:
    found: list[Key] = []
    while rows := _rows(client, f"/instances?limit=500&offset={len(found)}"):
        found += [
            (row["0020000D"]["Value"][0], row["0020000E"]["Value"][0], row["00080018"]["Value"][0]) for row in rows
        ]
    return found


def _counts(client: httpx.Client, level: str, uid: str, count: str) -> "Counter[str]":
    rows = _rows(client, f"/{level}?limit=1000&includefield={count}")
    counted = Counter({row[uid]["Value"][0]: row[count]["Value"][0] for row in rows})
    assert len(counted) == len(rows), "found twice"
    return counted


def _rows(client: httpx.Client, path: str) -> list[dict[str, dict[str, list[str]]]]:
    answer = client.get(path).raise_for_status()
    return answer.json() if answer.status_code == 200 else []


def instances(client: httpx.Client, path: str) -> list[bytes]:
    """The Part 10 files of a WADO-RS answer."""
    answer = client.get(path, headers={"Accept": DICOM})
    assert answer.status_code == 200, answer.text
    return parts(answer)


def parts(answer: httpx.Response) -> list[bytes]:
    """The bodies of a multipart answer."""
    boundary = answer.headers["content-type"].rpartition("boundary=")[2].strip('"').encode()
    pieces = (b"\r\n" + answer.content).split(b"\r\n--" + boundary)
    return [piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:-1]]


class Senders:
    """Threads that store what `todo` gives, by both doors in turn, each instance until it is acknowledged."""

    def __init__(self, gateway: GatewayProcess, ledger: Ledger, todo: Iterable[Dataset]) -> None:
        self._gateway = gateway
        self._ledger = ledger
        self._todo = iter(todo)
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(_SENDERS)]

    def _next(self) -> Dataset | None:
        with self._lock:
            return None if self._errors else next(self._todo, None)

    def _run(self) -> None:
        try:
            with httpx.Client(timeout=PATIENCE_SECONDS) as client:
                doors = itertools.cycle(("web", "dimse"))
                while (ds := self._next()) is not None:
                    self._until_acknowledged(ds, doors, client)
        except BaseException as error:
            self._errors.append(error)

    def _until_acknowledged(self, ds: Dataset, doors: Iterator[str], client: httpx.Client) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._ledger.store(self._gateway, ds, by=next(doors), client=client)
            except NotAcknowledged:
                assert time.monotonic() < deadline, f"refused for too long: {self._ledger.refused}"
                time.sleep(_PAUSE_SECONDS)

    def join(self) -> None:
        """Wait for the end of `todo`, and raise what went wrong."""
        for thread in self._threads:
            thread.join(2 * PATIENCE_SECONDS)
            assert not thread.is_alive()
        for error in self._errors:
            raise error

    def start(self) -> None:
        for thread in self._threads:
            thread.start()


@contextmanager
def sending(gateway: GatewayProcess, ledger: Ledger, todo: Iterable[Dataset]) -> Iterator[None]:
    """Store all of `todo` beside what the body does; it is acknowledged in the end."""
    senders = Senders(gateway, ledger, todo)
    senders.start()
    try:
        yield
    finally:
        senders.join()
