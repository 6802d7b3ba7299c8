"""Failures of the archive and of requests as DIMSE statuses (PS3.4 B.2.3, PS3.7 Annex C)."""

from typing import Any

import pytest

from gateway.dimse import command, statuses
from gateway.dimse.server import DimseServer
from gateway.security.policy import Forbidden
from storage.errors import Conflict, Exhausted, Fault, Invalid, NotFound, Unavailable
from tests.dimse.conftest import Serve
from tests.dimse.peers import CT, VERIFICATION, RawPeer, RememberingArchive, data_pdu, eventually, pdv

FAULTS = {
    Fault.NOT_DICOM: 0xC000,
    Fault.MALFORMED: 0xC001,
    Fault.MISSING_UID: 0xC002,
    Fault.BAD_UID: 0xC003,
    Fault.TRANSFER_SYNTAX: 0xC122,
    Fault.MISMATCH: 0xA900,
    Fault.SOP_CLASS: 0x0122,
    Fault.TOO_LARGE: 0xA701,
}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Exhausted("the disk is full"), 0xA700),
        (Unavailable("the index does not answer"), 0xA700),
        (Conflict("there already"), 0xA700),
        (Forbidden("RAW may not store"), 0x0124),
        *[(Invalid(fault, f"it is {fault}"), code) for fault, code in FAULTS.items()],
    ],
    ids=str,
)
def test_what_the_archive_refuses_is_answered_and_the_association_goes_on(
    peer: RawPeer, archive: RememberingArchive, error: Exception, code: int
) -> None:
    def fail(_: object) -> None:
        raise error

    archive.fail = fail
    peer.associate()
    response = peer.store(b"1234", sop_uid="1.2.7")
    assert response.number(command.STATUS) == code
    assert response.text(command.ERROR_COMMENT) == str(error)
    assert response.text(command.AFFECTED_SOP_INSTANCE) == "1.2.7"
    archive.fail = None
    assert peer.store(b"1234").number(command.STATUS) == 0


@pytest.mark.parametrize("error", [ValueError("Wang^XiaoDong"), NotFound("Wang^XiaoDong"), MemoryError()])
def test_the_unforeseen_is_a_processing_failure_that_tells_nothing(
    peer: RawPeer, archive: RememberingArchive, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise error

    archive.fail = fail
    peer.associate()
    response = peer.store(b"1234")
    assert response.number(command.STATUS) == 0x0110
    assert "Wang" not in response.text(command.ERROR_COMMENT)
    assert peer.echo() == 0


def test_every_fault_has_a_status_and_success_is_none_of_them() -> None:
    assert all(statuses.of(Invalid(fault, "x")).code for fault in Fault)


@pytest.fixture
def small(serve: Serve, archive: RememberingArchive) -> DimseServer:
    archive._limits.update(max_bytes=10_000, memory_bytes=2_000)
    return serve()


def test_an_instance_over_the_limit_is_heard_out_and_refused(small: DimseServer, archive: RememberingArchive) -> None:
    with RawPeer(small.address) as peer:
        peer.associate()
        peer.send(data_pdu(pdv(3, 3, peer.store_command())), data_pdu(pdv(3, 0, bytes(5_000))))
        eventually(lambda: any(archive.folder.iterdir()))
        for _ in range(20):
            peer.send(data_pdu(pdv(3, 0, bytes(16_000))))
        eventually(lambda: not any(archive.folder.iterdir()))  # at once, not when the sender has done
        peer.send(data_pdu(pdv(3, 2, b"")))
        assert peer.response().number(command.STATUS) == 0xA701
        assert peer.store(bytes(5_000)).number(command.STATUS) == 0
    assert len(archive.kept) == 1


def test_no_room_to_receive_into_is_out_of_resources(
    peer: RawPeer, archive: RememberingArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise Exhausted("no room")

    peer.associate()
    with monkeypatch.context() as patch:
        patch.setattr(archive, "incoming", refuse)
        assert peer.store(b"1234").number(command.STATUS) == 0xA700
    assert peer.store(b"1234").number(command.STATUS) == 0


def test_a_data_set_that_does_not_end_is_aborted(
    small: DimseServer, archive: RememberingArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.dimse.reception.MAX_DISCARDED_BYTES", 100_000)
    with RawPeer(small.address) as peer:
        peer.associate()
        peer.send(data_pdu(pdv(3, 3, peer.store_command())))
        peer.send(*[data_pdu(pdv(3, 0, bytes(16_000)))] * 8)
        peer.aborted_for()


@pytest.mark.parametrize(
    ("elements", "context_id", "code", "offending"),
    [
        ({command.AFFECTED_SOP_INSTANCE: None}, 3, 0x0212, 0x1000),
        ({command.AFFECTED_SOP_INSTANCE: "../etc/passwd"}, 3, 0x0212, 0x1000),
        ({command.AFFECTED_SOP_INSTANCE: b"1.2.\xff\xff"}, 3, 0x0212, 0x1000),
        ({command.AFFECTED_SOP_CLASS: None}, 3, 0x0212, 0x0002),
        ({command.AFFECTED_SOP_CLASS: "1.2.840.10008.5.1.4.1.1.4"}, 3, 0x0122, 0x0002),
        ({command.AFFECTED_SOP_CLASS: VERIFICATION}, 1, 0x0122, 0x0002),
        ({command.AFFECTED_SOP_CLASS: CT}, 1, 0x0122, 0x0002),
        ({command.COMMAND_FIELD: 0x0020}, 3, 0x0211, None),  # C-FIND
        ({command.COMMAND_FIELD: 0x0140}, 3, 0x0211, None),  # N-CREATE
    ],
)
def test_requests_that_do_not_fit_are_answered_after_their_data_set(
    peer: RawPeer,
    archive: RememberingArchive,
    elements: dict[int, Any],
    context_id: int,
    code: int,
    offending: int | None,
) -> None:
    peer.associate()
    peer.send(data_pdu(pdv(context_id, 3, peer.store_command(elements=elements))))
    peer.send(data_pdu(pdv(context_id, 2, b"1234")))
    response = peer.response()
    assert response.number(command.STATUS) == code
    assert response.number(command.MESSAGE_ID_RESPONDED_TO) == peer.message_id
    expected = None if offending is None else bytes((0, 0)) + offending.to_bytes(2, "little")
    assert response.elements.get(command.OFFENDING_ELEMENT) == expected
    assert peer.echo() == 0
    assert archive.kept == []


def test_a_store_without_data_set_is_refused_at_once(peer: RawPeer) -> None:
    peer.associate()
    request = peer.store_command(elements={command.DATA_SET_TYPE: command.NO_DATA_SET})
    peer.send(data_pdu(pdv(3, 3, request)))
    assert peer.response().number(command.STATUS) == 0xC000
    assert peer.echo() == 0


def test_a_cancel_is_not_answered(peer: RawPeer) -> None:
    peer.associate()
    cancel = {command.COMMAND_FIELD: command.C_CANCEL_RQ, command.DATA_SET_TYPE: command.NO_DATA_SET}
    peer.send(data_pdu(pdv(3, 3, command.encode({**cancel, command.MESSAGE_ID_RESPONDED_TO: 1}))))
    assert peer.echo() == 0


def test_a_response_to_nothing_is_an_abort(peer: RawPeer) -> None:
    peer.associate()
    peer.send(data_pdu(pdv(1, 3, peer.echo_command(elements={command.COMMAND_FIELD: 0x8030}))))
    peer.aborted_for()


def test_an_echo_is_answered_on_any_context(peer: RawPeer) -> None:
    peer.associate()
    assert peer.echo(context_id=3) == 0
