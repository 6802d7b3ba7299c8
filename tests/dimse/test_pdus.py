"""Odd and broken PDUs on a plain socket: understood where the standard allows them, else A-ABORT (PS3.8 9.2, 9.3)."""

import socket
import struct
import time
from collections.abc import Iterator

import pytest

from gateway.dimse import command, pdu
from gateway.dimse.pdu import AbortReason
from gateway.dimse.server import DimseServer
from tests.dimse.conftest import Serve
from tests.dimse.peers import RawPeer, RememberingArchive, data_pdu, pdv

DATA = bytes(range(250)) * 4


@pytest.fixture
def open_peer(peer: RawPeer) -> Iterator[RawPeer]:
    peer.associate()
    yield peer


def stored(peer: RawPeer, archive: RememberingArchive) -> bytes:
    """Assert a success response; the data set that was kept."""
    assert peer.response().number(command.STATUS) == 0
    (kept,) = archive.kept
    return kept.data[-len(DATA) :]


def test_a_pdv_for_each_byte(open_peer: RawPeer, archive: RememberingArchive) -> None:
    request = open_peer.store_command()
    parts = [data_pdu(pdv(3, 1 | 2 * (n == len(request) - 1), request[n : n + 1])) for n in range(len(request))]
    parts += [data_pdu(pdv(3, 2 * (n == len(DATA) - 1), DATA[n : n + 1])) for n in range(len(DATA))]
    open_peer.send(*parts)
    assert stored(open_peer, archive) == DATA


def test_each_byte_in_a_segment_of_its_own(open_peer: RawPeer) -> None:
    for octet in data_pdu(pdv(1, 3, open_peer.echo_command())):
        open_peer.send(bytes((octet,)))
    assert open_peer.response().number(command.STATUS) == 0


def test_command_and_data_in_one_pdu_of_several_pdvs(open_peer: RawPeer, archive: RememberingArchive) -> None:
    request = open_peer.store_command()
    pdvs = [pdv(3, 1, request[:20]), pdv(3, 3, request[20:]), pdv(3, 0, DATA[:100]), pdv(3, 2, DATA[100:])]
    open_peer.send(data_pdu(*pdvs))
    assert stored(open_peer, archive) == DATA


def test_empty_fragments_also_as_the_last_one(open_peer: RawPeer, archive: RememberingArchive) -> None:
    request = open_peer.store_command()
    open_peer.send(data_pdu(pdv(3, 1, b"")), data_pdu(pdv(3, 1, request)), data_pdu(pdv(3, 3, b"")))
    open_peer.send(data_pdu(pdv(3, 0, b"")), data_pdu(pdv(3, 0, DATA)), data_pdu(pdv(3, 2, b"")))
    assert stored(open_peer, archive) == DATA


def test_a_pdu_of_exactly_the_maximum_length_and_one_more(serve: Serve, archive: RememberingArchive) -> None:
    server = serve(max_pdu_bytes=4096)
    with RawPeer(server.address) as peer:
        assert peer.associate().user.max_length == 4096
        assert peer.store(bytes(4096 - 6)).number(command.STATUS) == 0
        peer.send(data_pdu(pdv(3, 3, peer.store_command())), data_pdu(pdv(3, 2, bytes(4096 - 5))))
        assert peer.aborted_for() == AbortReason.INVALID_PARAMETER
    assert len(archive.kept) == 1


def test_messages_sent_before_the_first_is_answered_are_answered_in_turn(open_peer: RawPeer) -> None:
    for _ in range(5):
        open_peer.send(data_pdu(pdv(1, 3, open_peer.echo_command())))
    answered = [open_peer.response().number(command.MESSAGE_ID_RESPONDED_TO) for _ in range(5)]
    assert answered == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (data_pdu(pdv(5, 3, b"")), AbortReason.INVALID_PARAMETER),  # context that was never proposed
        (data_pdu(pdv(3, 2, DATA)), AbortReason.UNEXPECTED_PARAMETER),  # data set without command set
        (data_pdu(), AbortReason.INVALID_PARAMETER),
        (data_pdu(b"\0\0\0"), AbortReason.INVALID_PARAMETER),
        (data_pdu(struct.pack(">IBB", 1, 3, 3)), AbortReason.INVALID_PARAMETER),
        (data_pdu(struct.pack(">IBB", 900, 3, 3)), AbortReason.INVALID_PARAMETER),
        (data_pdu(pdv(3, 3, b"garbage that is no command set")), AbortReason.INVALID_PARAMETER),
        (data_pdu(pdv(3, 3, b"")), AbortReason.INVALID_PARAMETER),
        (pdu.HEADER.pack(pdu.DATA_TF, 0xFFFFFFFF), AbortReason.INVALID_PARAMETER),
        (pdu.HEADER.pack(pdu.ASSOCIATE_RQ, 4) + bytes(4), AbortReason.UNEXPECTED_PDU),
        (pdu.HEADER.pack(pdu.ASSOCIATE_AC, 4) + bytes(4), AbortReason.UNEXPECTED_PDU),
        (pdu.HEADER.pack(pdu.RELEASE_RP, 4) + bytes(4), AbortReason.UNEXPECTED_PDU),
        (pdu.HEADER.pack(0x42, 4) + bytes(4), AbortReason.UNRECOGNIZED_PDU),
    ],
)
def test_what_breaks_the_protocol_is_aborted(open_peer: RawPeer, what: bytes, reason: AbortReason) -> None:
    open_peer.send(what)
    assert open_peer.aborted_for() == reason


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (data_pdu(pdv(1, 2, DATA)), AbortReason.UNEXPECTED_PARAMETER),
        (data_pdu(pdv(3, 3, DATA)), AbortReason.UNEXPECTED_PARAMETER),
        (pdu.release_rq(), AbortReason.UNEXPECTED_PDU),
        (b"".join([data_pdu(pdv(3, 0, b""))] * 1100), AbortReason.INVALID_PARAMETER),
    ],
)
def test_what_breaks_a_message_stores_nothing(
    open_peer: RawPeer, archive: RememberingArchive, what: bytes, reason: AbortReason
) -> None:
    open_peer.send(data_pdu(pdv(3, 3, open_peer.store_command())), data_pdu(pdv(3, 0, DATA)), what)
    assert open_peer.aborted_for() == reason
    assert archive.kept == []


def test_a_command_set_that_does_not_end_is_aborted(open_peer: RawPeer) -> None:
    open_peer.send(*[data_pdu(pdv(3, 1, bytes(4000)))] * 17)
    assert open_peer.aborted_for() == AbortReason.INVALID_PARAMETER


@pytest.mark.parametrize("ending", ["close", "reset", "abort"])
def test_a_connection_that_ends_inside_a_data_set_stores_nothing(
    server: DimseServer, archive: RememberingArchive, ending: str
) -> None:
    with RawPeer(server.address) as peer:
        peer.associate()
        peer.send(data_pdu(pdv(3, 3, peer.store_command())), data_pdu(pdv(3, 0, bytes(100_000))))
        if ending == "abort":
            peer.send(pdu.abort(by_provider=False))
            assert peer.read() == (0, b"")
        elif ending == "reset":
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with RawPeer(server.address) as other:
        other.associate()
        assert other.store(DATA).number(command.STATUS) == 0
    assert len(archive.kept) == 1


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", AbortReason.UNRECOGNIZED_PDU),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), AbortReason.UNRECOGNIZED_PDU),  # TLS
        (bytes(1000), AbortReason.UNRECOGNIZED_PDU),
        (pdu.HEADER.pack(pdu.ASSOCIATE_RQ, 0xFFFFFFF0) + bytes(1000), AbortReason.INVALID_PARAMETER),
        (pdu.HEADER.pack(pdu.ASSOCIATE_RQ, 5) + bytes(5), AbortReason.INVALID_PARAMETER),
        (
            pdu.HEADER.pack(pdu.ASSOCIATE_RQ, 80) + b"\0\1" + b" " * 66 + b"\x10\0\xff\xff" + bytes(8),
            AbortReason.INVALID_PARAMETER,
        ),
        (pdu.release_rq(), AbortReason.UNEXPECTED_PDU),
        (data_pdu(pdv(1, 3, b"")), AbortReason.UNEXPECTED_PDU),
    ],
)
def test_garbage_instead_of_a_request_is_aborted_and_the_service_goes_on(
    server: DimseServer, garbage: bytes, reason: AbortReason
) -> None:
    with RawPeer(server.address) as peer:
        peer.send(garbage)
        assert peer.aborted_for() == reason
    with RawPeer(server.address) as peer:
        peer.associate()
        assert peer.echo() == 0


def test_half_a_request_is_given_up_after_the_association_timeout(serve: Serve) -> None:
    with RawPeer(serve(association_timeout_seconds=1).address) as peer:
        peer.send(pdu.HEADER.pack(pdu.ASSOCIATE_RQ, 200))
        began = time.monotonic()
        for _ in range(4):  # a byte now and then buys no time
            time.sleep(0.3)
            peer.send(b"\0")
        peer.aborted_for()
        assert time.monotonic() - began < 3


def test_an_idle_association_is_aborted(serve: Serve) -> None:
    with RawPeer(serve(idle_timeout_seconds=1).address) as peer:
        peer.associate()
        assert peer.echo() == 0
        peer.aborted_for()


def test_a_message_that_stops_in_the_middle_is_aborted(serve: Serve, archive: RememberingArchive) -> None:
    with RawPeer(serve(read_timeout_seconds=1).address) as peer:
        peer.associate()
        peer.send(data_pdu(pdv(3, 3, peer.store_command())), data_pdu(pdv(3, 0, DATA)))
        peer.aborted_for()
    assert archive.kept == []


def test_the_connection_is_closed_after_release(open_peer: RawPeer) -> None:
    open_peer.release()
