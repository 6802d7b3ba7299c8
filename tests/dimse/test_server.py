"""Listening, limits and stopping: what happens beyond one association."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.config import AECaller, Security
from gateway.dimse import associate, command, pdu
from gateway.dimse import server as server_module
from gateway.dimse.associate import ProposedContext, Request
from gateway.dimse.server import DimseServer
from tests.dimse.conftest import Serve
from tests.dimse.peers import IMPLICIT, VERIFICATION, RawPeer, RememberingArchive, data_pdu, eventually, pdv, user

REQUEST = associate.encode_request(Request("GATEWAY", "RAW", (ProposedContext(1, VERIFICATION, (IMPLICIT,)),), user()))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def serving_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dimse-")]


def test_a_port_in_use_is_a_clear_error(serve: Serve) -> None:
    host, port = serve().address
    with pytest.raises(OSError, match=f"DIMSE cannot listen on {host}:{port}"):
        serve(listen=f"{host}:{port}")


def test_processes_can_share_a_port(serve: Serve) -> None:
    host, port = serve(reuse_port=True).address
    assert serve(listen=f"{host}:{port}", reuse_port=True).address == (host, port)


@pytest.mark.parametrize(
    ("listen", "family", "peers"),
    [
        ("[::1]:0", socket.AF_INET6, ["::1"]),
        ("[::]:0", socket.AF_INET6, ["::1", "127.0.0.1"]),
        ("0.0.0.0:0", socket.AF_INET, ["127.0.0.1"]),
        ("localhost:0", socket.AF_INET, ["127.0.0.1"]),
    ],
)
def test_it_listens_on_ipv4_and_ipv6(
    serve: Serve, archive: RememberingArchive, listen: str, family: socket.AddressFamily, peers: list[str]
) -> None:
    with socket.socket(family) as probe:
        try:
            probe.bind((peers[0], 0))
        except OSError:
            pytest.skip(f"this machine has no {family.name}")
    _, port = serve(listen=listen).address
    for address in peers:
        with RawPeer((address, port)) as peer:
            peer.associate()
            assert peer.store(b"1234").number(command.STATUS) == 0
    assert [kept.by.address for kept in archive.kept] == peers


def test_associations_over_the_limits_are_rejected_for_now(serve: Serve, stack: ExitStack) -> None:
    address = serve(max_associations=3, max_associations_per_caller=2).address

    def open_for(calling: str) -> RawPeer | None:
        peer = stack.enter_context(RawPeer(address))
        peer.send(REQUEST.replace(b"RAW".ljust(16), calling.encode().ljust(16)))
        kind, body = peer.read()
        assert kind == pdu.ASSOCIATE_AC or (kind, body) == (pdu.ASSOCIATE_RJ, bytes((0, 2, 3, 2)))
        return peer if kind == pdu.ASSOCIATE_AC else None

    first = open_for("CT1")
    assert first and open_for("CT1")
    assert open_for("CT1") is None, "the limit of a caller"
    assert open_for("CT2")
    assert open_for("CT3") is None, "the limit of all"
    first.release()
    first.sock.close()
    eventually(lambda: open_for("CT3") is not None)
    assert open_for("CT1") is None


def test_connections_that_say_nothing_keep_nobody_out(serve: Serve, stack: ExitStack) -> None:
    address = serve(max_associations=2).address
    early = stack.enter_context(RawPeer(address))
    early.associate()
    silent = [stack.enter_context(RawPeer(address)) for _ in range(150)]
    began = time.monotonic()
    late = stack.enter_context(RawPeer(address))
    late.associate()
    assert late.echo() == 0
    assert time.monotonic() - began < 1
    assert early.echo() == 0, "an association is no connection that says nothing"
    third = stack.enter_context(RawPeer(address))
    third.send(REQUEST)
    assert third.read() == (pdu.ASSOCIATE_RJ, bytes((0, 2, 3, 2)))
    assert silent[0].read() == (0, b""), "the oldest is cut"
    eventually(lambda: len(serving_threads()) <= 1 + 2 + server_module.MAX_WAITING)


def test_who_lingers_after_a_rejection_keeps_nobody_out(
    serve: Serve, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_WAITING", 2)
    monkeypatch.setattr(server_module, "MAX_ENDING", 2)
    address = serve().address
    for _ in range(80):
        lingering = stack.enter_context(RawPeer(address))
        lingering.send(REQUEST.replace(b"GATEWAY".ljust(16), b"OTHER".ljust(16)))
        assert lingering.read() == (pdu.ASSOCIATE_RJ, bytes((0, 1, 1, 7)))
    stack.enter_context(RawPeer(address)).associate()


def test_strangers_from_many_addresses_do_not_cut_off_a_known_one(
    serve: Serve, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_WAITING", 2)
    known = Security(callers=(AECaller(ae_title="RAW", addresses=("127.0.0.2",)),))
    address = serve(security=known).address
    try:
        peer = stack.enter_context(RawPeer(address, source="127.0.0.2"))
    except OSError:
        pytest.skip("this machine has one loopback address")
    strangers = [stack.enter_context(RawPeer(address, source=f"127.0.0.{n}")) for n in range(3, 9)]
    assert strangers[0].read() == (0, b"")
    peer.associate()
    strangers[-1].send(REQUEST)
    assert strangers[-1].read() == (pdu.ASSOCIATE_RJ, bytes((0, 1, 1, 3)))


def test_more_connections_than_threads_are_turned_away(
    serve: Serve, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_ENDING", -server_module.MAX_WAITING)
    address = serve(max_associations=2).address
    for _ in range(2):
        stack.enter_context(RawPeer(address)).associate()
    late = stack.enter_context(RawPeer(address))
    late.send(REQUEST)
    assert late.read() == (pdu.ASSOCIATE_RJ, bytes((0, 2, 3, 1)))
    assert late.read() == (0, b"")


def test_a_system_out_of_threads_rejects_and_recovers(
    server: DimseServer, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        peer = stack.enter_context(RawPeer(server.address))
        peer.send(REQUEST)
        assert peer.read() == (pdu.ASSOCIATE_RJ, bytes((0, 2, 3, 1)))
    stack.enter_context(RawPeer(server.address)).associate()


def test_turning_away_does_not_hold_up_who_comes_next(
    server: DimseServer, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        began = time.monotonic()
        turned_away = [stack.enter_context(RawPeer(server.address)) for _ in range(60)]
        assert turned_away[-1].read() == (pdu.ASSOCIATE_RJ, bytes((0, 2, 3, 1)))
    assert time.monotonic() - began < 1


def test_many_associations_at_once(serve: Serve, archive: RememberingArchive) -> None:
    address = serve(max_associations=16, max_associations_per_caller=16).address

    def send(number: int) -> None:
        with RawPeer(address) as peer:
            peer.associate()
            for n in range(20):
                assert peer.store(bytes((number, n)) * 5000, sop_uid=f"1.{number}.{n}").number(command.STATUS) == 0
            peer.release()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"1.{number}.{n}": bytes((number, n)) * 5000 for number in range(16) for n in range(20)}
    assert {kept.expected.sop_uid: kept.data[-10_000:] for kept in archive.kept} == expected


def test_stop_answers_what_is_being_stored_and_aborts_what_idles(
    server: DimseServer, archive: RememberingArchive, stack: ExitStack
) -> None:
    idle, silent, busy, sending = (stack.enter_context(RawPeer(server.address)) for _ in range(4))
    for peer in (idle, busy, sending):
        peer.associate()
    sending.send(data_pdu(pdv(3, 3, sending.store_command())), data_pdu(pdv(3, 0, b"12")))
    archive.hold.clear()
    busy.send(data_pdu(pdv(3, 3, busy.store_command())), data_pdu(pdv(3, 2, b"1234")))
    assert archive.entered.wait(5)
    stopping = threading.Thread(target=server.stop, args=(8,))
    stopping.start()
    assert idle.read()[0] == pdu.ABORT
    assert silent.read() == (0, b"")
    with pytest.raises(OSError):
        RawPeer(server.address)
    archive.hold.set()
    sending.send(data_pdu(pdv(3, 2, b"34")))
    for peer in (busy, sending):
        assert peer.response().number(command.STATUS) == 0
        assert peer.read()[0] == pdu.ABORT
    stopping.join(5)
    assert not stopping.is_alive()
    assert len(archive.kept) == 2
    assert serving_threads() == []


def test_stop_keeps_to_its_time_when_a_sender_stalls(
    server: DimseServer, archive: RememberingArchive, stack: ExitStack
) -> None:
    peer = stack.enter_context(RawPeer(server.address))
    peer.associate()
    peer.send(data_pdu(pdv(3, 3, peer.store_command())), data_pdu(pdv(3, 0, b"1234")))
    time.sleep(0.1)
    began = time.monotonic()
    server.stop(1)
    assert time.monotonic() - began < 1.5
    assert archive.kept == []
    assert serving_threads() == []


def test_stop_twice_and_before_start(serve: Serve, server: DimseServer) -> None:
    server.stop(1)
    server.stop(1)


def test_a_flood_of_connections_leaves_nothing_behind(server: DimseServer) -> None:
    for _ in range(200):
        socket.create_connection(server.address).close()
    eventually(lambda: len(serving_threads()) == 1)
    with RawPeer(server.address) as peer:
        peer.associate()
        assert peer.echo() == 0
