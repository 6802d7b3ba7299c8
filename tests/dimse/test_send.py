"""Sending files: to our own server, to pynetdicom and to storescp."""

import errno
import io
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event

from gateway.dimse import associate, command, pdu
from gateway.dimse.associate import Answer, AnsweredContext
from gateway.dimse.connection import Connection
from gateway.dimse.part10 import read_file_meta
from gateway.dimse.requestor import AssociationRejected, release
from gateway.dimse.send import DimseSender, NotAccepted, Unreachable
from gateway.dimse.server import DimseServer
from storage.dicom.identity import is_uid
from storage.errors import Exhausted, Fault, Invalid
from tests.dimse.conftest import Serve, requires_dcmtk
from tests.dimse.peers import CT, EXPLICIT, IMPLICIT, RememberingArchive, data_pdu, pdv, user
from tests.samples import ct, dataset_bytes, part10, valid_files

Pairs = list[tuple[str, str]]


def sender(address: tuple[str, int], contexts: Pairs | None = None, *, timeout: float = 10) -> DimseSender:
    pairs = [(CT, EXPLICIT)] if contexts is None else contexts
    return DimseSender(*address, called="GATEWAY", calling="SENDER", contexts=pairs, timeout_seconds=timeout)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "1.dcm"
    path.write_bytes(part10(ct(size=600)))
    return path


def test_the_data_set_arrives_as_it_is(server: DimseServer, archive: RememberingArchive, file: Path) -> None:
    with sender(server.address) as sending:
        assert [sending.send(file), sending.send(file)] == [0, 0]
    assert dataset_bytes(archive.kept[0].data) == dataset_bytes(file.read_bytes())
    assert archive.kept[0].by.identity == "SENDER"


def test_it_arrives_in_pdus_as_small_as_the_peer_wants(serve: Serve, archive: RememberingArchive, file: Path) -> None:
    with sender(serve(max_pdu_bytes=4096).address) as sending:
        assert sending.send(file) == 0
    assert dataset_bytes(archive.kept[0].data) == dataset_bytes(file.read_bytes())


@pytest.mark.parametrize("extra", [0, -1, 1])
def test_pieces_read_from_the_file_need_not_fill_pdus(
    server: DimseServer, archive: RememberingArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: int
) -> None:
    chunk = 50_000
    monkeypatch.setattr("gateway.dimse.send.CHUNK_BYTES", chunk)
    whole = part10(ct())
    path = tmp_path / "x.dcm"
    path.write_bytes(whole[: -len(dataset_bytes(whole))] + os.urandom(3 * chunk + extra))
    with sender(server.address) as sending:
        assert sending.send(path) == 0
    assert archive.kept[0].data.endswith(dataset_bytes(path.read_bytes()))
    assert len(dataset_bytes(archive.kept[0].data)) == 3 * chunk + extra


def test_an_empty_data_set_is_a_message_all_the_same(
    server: DimseServer, archive: RememberingArchive, tmp_path: Path
) -> None:
    whole = part10(ct())
    path = tmp_path / "x.dcm"
    path.write_bytes(whole[: -len(dataset_bytes(whole))])
    with sender(server.address) as sending:
        assert sending.send(path) == 0
    assert dataset_bytes(archive.kept[0].data) == b""


def test_more_contexts_than_one_association_holds(
    server: DimseServer, archive: RememberingArchive, tmp_path: Path
) -> None:
    pairs = [(f"1.2.840.113619.{number}", EXPLICIT) for number in range(300)]
    with sender(server.address, pairs) as sending:
        for number in (299, 0, 150, 128, 127):
            path = tmp_path / f"{number}.dcm"
            path.write_bytes(part10(ct(number=number, SOPClassUID=pairs[number][0])))
            assert sending.send(path) == 0
    assert [kept.expected.sop_class.rpartition(".")[2] for kept in archive.kept if kept.expected.sop_class] == [
        "299", "0", "150", "128", "127",
    ]  # fmt: skip


def test_a_failure_status_is_given_and_the_next_file_still_goes(
    server: DimseServer, archive: RememberingArchive, file: Path
) -> None:
    def fail(_: object) -> None:
        raise Exhausted("full")

    archive.fail = fail
    with sender(server.address) as sending:
        assert sending.send(file) == 0xA700
        archive.fail = None
        assert sending.send(file) == 0


def test_what_the_peer_does_not_take_is_not_sent(server: DimseServer, file: Path) -> None:
    other = ("1.2.840.10008.5.1.4.1.2.1.1", IMPLICIT)
    with sender(server.address, [other]) as sending:
        with pytest.raises(NotAccepted, match="not among those to propose"):
            sending.send(file)
        file.write_bytes(part10(ct(SOPClassUID=other[0]), IMPLICIT))
        with pytest.raises(NotAccepted, match="does not take"):
            sending.send(file)


def test_what_is_no_dicom_file_is_invalid(server: DimseServer, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello " * 100)
    with sender(server.address) as sending, pytest.raises(Invalid) as raised:
        sending.send(path)
    assert raised.value.fault is Fault.NOT_DICOM


def test_rejection_says_why_and_whether_to_try_again(serve: Serve) -> None:
    with pytest.raises(AssociationRejected, match="called AE title") as raised, sender(serve(ae_title="X").address):
        pass
    assert not raised.value.is_transient
    address = serve(max_associations=1).address
    with sender(address):
        with pytest.raises(AssociationRejected, match="too many associations") as raised, sender(address):
            pass
        assert raised.value.is_transient


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="no connection"), sender(free.getsockname()):
            pass


def test_a_lost_association_is_opened_again_for_the_next_file(
    serve: Serve, archive: RememberingArchive, file: Path
) -> None:
    first = serve()
    host, port = first.address
    with sender((host, port)) as sending:
        assert sending.send(file) == 0
        first.stop(3)
        with pytest.raises(Unreachable):
            sending.send(file)
        serve(listen=f"{host}:{port}")
        assert sending.send(file) == 0
    assert len(archive.kept) == 2


def test_a_file_that_cannot_be_read_on_stores_nothing_and_spoils_nothing(
    server: DimseServer, archive: RememberingArchive, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 200_000:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    monkeypatch.setattr("gateway.dimse.send.CHUNK_BYTES", 50_000)
    broken = Broken(file.read_bytes())
    with sender(server.address) as sending:
        with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
            patch.setattr(Path, "open", lambda path, mode: broken)
            sending.send(file)
        assert sending.send(file) == 0
    assert len(archive.kept) == 1


class FakeAcceptor:
    """Answers one association request, then does what the test says with the connection."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()

    def accept(self) -> Connection:
        sock, _ = self.listener.accept()
        connection = Connection(sock, send_timeout_seconds=5)
        _, body = connection.read_pdu(5)
        request = associate.decode_request(body)
        contexts = tuple(AnsweredContext(c.context_id, 0, c.transfer_syntaxes[0]) for c in request.contexts)
        connection.send(associate.encode_answer(Answer(request.called, request.calling, contexts, user())))
        return connection


@pytest.fixture
def acceptor() -> Iterator[FakeAcceptor]:
    fake = FakeAcceptor()
    yield fake
    fake.listener.close()


def test_a_release_collision_is_resolved(acceptor: FakeAcceptor) -> None:
    seen: list[int] = []

    def collide() -> None:
        connection = acceptor.accept()
        connection.send(pdu.release_rq())
        seen.append(connection.read_pdu(5)[0])
        seen.append(connection.read_pdu(5)[0])
        connection.send(pdu.release_rp())
        connection.finish()

    thread = threading.Thread(target=collide)
    thread.start()
    sending = sender(acceptor.address)
    association = sending.__enter__()._association(0)
    time.sleep(0.1)
    release(association.connection, 5)
    thread.join()
    assert seen == [pdu.RELEASE_RQ, pdu.RELEASE_RP]


@pytest.mark.parametrize("answer", ["nothing", "other message", "release", "abort"])
def test_a_peer_that_does_not_answer_properly_is_unreachable(acceptor: FakeAcceptor, file: Path, answer: str) -> None:
    def misbehave() -> None:
        connection = acceptor.accept()
        if answer == "other message":
            encoded = associate_response(message_id=77)
            connection.send(data_pdu(pdv(1, 3, encoded)))
        elif answer == "release":
            connection.send(pdu.release_rq())
        elif answer == "abort":
            connection.send(pdu.abort(by_provider=False))
        stop.wait(5)
        connection.close()

    stop = threading.Event()
    thread = threading.Thread(target=misbehave)
    thread.start()
    with pytest.raises(Unreachable), sender(acceptor.address, timeout=0.5) as sending:
        sending.send(file)
    stop.set()
    thread.join()


def associate_response(*, message_id: int) -> bytes:
    return command.encode(
        {
            command.COMMAND_FIELD: 0x8001,
            command.MESSAGE_ID_RESPONDED_TO: message_id,
            command.DATA_SET_TYPE: command.NO_DATA_SET,
            command.STATUS: 0,
        }
    )


def test_pynetdicom_receives(file: Path) -> None:
    received: list[bytes] = []

    def store(event: Event) -> int:
        received.append(event.encoded_dataset(include_meta=False))
        return 0xB000

    ae = AE("GATEWAY")
    ae.supported_contexts = AllStoragePresentationContexts
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        with sender(server.socket.getsockname()) as sending:
            assert sending.send(file) == 0xB000
    finally:
        server.shutdown()
    assert received == [dataset_bytes(file.read_bytes())]


@requires_dcmtk
def test_storescp_receives(file: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "received"
    folder.mkdir()
    process = subprocess.Popen(["storescp", "-aet", "GATEWAY", "-od", folder, "+B", "+uf", str(port)])
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                with sender(("127.0.0.1", port)) as sending:
                    assert sending.send(file) == 0
                break
            except Unreachable:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    (arrived,) = folder.iterdir()
    assert arrived.read_bytes().endswith(dataset_bytes(file.read_bytes()))


def test_what_is_announced_is_what_the_data_set_says(tmp_path: Path) -> None:
    """Files whose file meta information was left behind when somebody edited them are common."""
    compared = 0
    for path, data in valid_files():
        ds = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        if not is_uid(ds.SOPInstanceUID) or ds.file_meta.TransferSyntaxUID.is_deflated:
            continue
        with path.open("rb") as stream:
            meta = read_file_meta(stream)
            assert stream.read() == dataset_bytes(data)
        expected = (ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID)
        assert (meta.sop_class, meta.sop_uid, meta.transfer_syntax) == expected, path
        compared += 1
    assert compared > 150
