"""What is answered to association requests (PS3.8 9.3.3, 9.3.4; PS3.7 Annex D.3)."""

from dataclasses import replace

import pytest

from gateway.config import AECaller, Security
from gateway.dimse import associate, command, pdu
from gateway.dimse.associate import CommonExtension, ProposedContext, Request, Roles
from gateway.dimse.server import DimseServer
from storage.dicom.filemeta import IMPLEMENTATION_CLASS_UID
from storage.dicom.identity import is_uid
from tests.dimse.conftest import Serve
from tests.dimse.peers import CT, EXPLICIT, IMPLICIT, VERIFICATION, RawPeer, RememberingArchive, data_pdu, pdv, user

JPEG, JPIP = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.94"
FIND, PRIVATE = "1.2.840.10008.5.1.4.1.2.1.1", "1.3.46.670589.11.0.0.12.1"


def request(**changes: object) -> Request:
    return replace(Request("GATEWAY", "RAW", (ProposedContext(1, VERIFICATION, (IMPLICIT,)),), user()), **changes)


def rejection(address: tuple[str, int], **changes: object) -> tuple[int, ...]:
    with RawPeer(address) as peer:
        peer.send(associate.encode_request(request(**changes)))
        kind, body = peer.read()
        assert kind == pdu.ASSOCIATE_RJ
        assert peer.read() == (0, b"")
        return tuple(body[1:])


def test_rejections_carry_the_reason_of_the_standard(serve: Serve) -> None:
    callers = (AECaller(ae_title="CT1", addresses=("127.0.0.1",)), AECaller(ae_title="CT2", addresses=("10.0.0.0/8",)))
    address = serve(security=Security(callers=callers)).address
    assert rejection(address, application_context="1.2.840.10008.3.1.1.2", calling="CT1") == (1, 1, 2)
    assert rejection(address, version=2, calling="CT1") == (1, 2, 2)
    assert rejection(address, called="OTHER", calling="CT1") == (1, 1, 7)
    assert rejection(address, calling="ct1") == (1, 1, 3)
    assert rejection(address, calling="CT2") == (1, 1, 3), "known, but not from here"
    with RawPeer(address) as peer:
        peer.associate(calling=" CT1")
        assert peer.echo() == 0


def test_a_newer_version_beside_ours_is_fine(peer: RawPeer) -> None:
    peer.associate(version=3)


def test_any_called_title_is_taken_when_it_is_not_required(serve: Serve) -> None:
    with RawPeer(serve(require_called_ae_title=False).address) as peer:
        peer.associate(called="WHATEVER")
        assert peer.echo() == 0


def test_each_context_has_its_own_result(peer: RawPeer, archive: RememberingArchive) -> None:
    answer = peer.associate(
        (VERIFICATION, (IMPLICIT,)),
        (CT, (IMPLICIT, EXPLICIT)),
        (FIND, (IMPLICIT,)),
        (CT, (JPIP,)),
        (CT, (JPEG,)),
        (CT, ()),
        (PRIVATE, (EXPLICIT,)),
        ("not a UID", (EXPLICIT,)),
    )
    assert [(c.context_id, c.result) for c in answer.contexts] == [
        (1, 0), (3, 0), (5, 3), (7, 4), (9, 0), (11, 4), (13, 0), (15, 3),
    ]  # fmt: skip
    assert [answer.contexts[n].transfer_syntax for n in (1, 4, 6)] == [EXPLICIT, JPEG, EXPLICIT]
    for context_id, sop_class in ((3, CT), (9, CT), (13, PRIVATE)):
        status = peer.store(b"12", context_id=context_id, sop_class=sop_class).number(command.STATUS)
        assert status == 0
    syntaxes = [EXPLICIT, JPEG, EXPLICIT]
    assert all(uid.encode() in kept.data for uid, kept in zip(syntaxes, archive.kept, strict=True))


def test_no_accepted_context_is_still_an_association(peer: RawPeer) -> None:
    assert [c.result for c in peer.associate((FIND, (IMPLICIT,))).contexts] == [3]
    peer.release()


def test_no_proposed_context_is_still_an_association(peer: RawPeer) -> None:
    assert peer.associate(contexts=()).contexts == ()
    peer.release()


def test_128_contexts(peer: RawPeer) -> None:
    answer = peer.associate(*[(CT, (EXPLICIT,))] * 128)
    assert [c.context_id for c in answer.contexts] == list(range(1, 256, 2))
    assert peer.store(b"12", context_id=255).number(command.STATUS) == 0


def test_unknown_classes_can_be_turned_off_but_for_those_declared_to_be_storage(serve: Serve) -> None:
    address = serve(accept_unknown_sop_classes=False).address
    common = {PRIVATE: CommonExtension("1.2.840.10008.4.2", (CT,))}
    with RawPeer(address) as peer:
        assert [c.result for c in peer.associate((PRIVATE, (EXPLICIT,))).contexts] == [3]
    with RawPeer(address) as peer:
        assert [c.result for c in peer.associate((PRIVATE, (EXPLICIT,)), user=user(common=common)).contexts] == [0]
        assert peer.store(b"12", context_id=1, sop_class=CT).number(command.STATUS) == 0, "related general SOP class"


def test_roles_are_answered_and_never_exceed_the_proposal(peer: RawPeer) -> None:
    roles = {CT: Roles(True, True), FIND: Roles(True, False), VERIFICATION: Roles(True, False)}
    answer = peer.associate((CT, (EXPLICIT,)), (VERIFICATION, (IMPLICIT,)), (FIND, (IMPLICIT,)), user=user(roles=roles))
    assert answer.user.roles == {CT: Roles(True, False), VERIFICATION: Roles(True, False)}


def test_who_only_wants_to_receive_is_refused(peer: RawPeer) -> None:
    answer = peer.associate((CT, (EXPLICIT,)), user=user(roles={CT: Roles(False, True)}))
    assert [c.result for c in answer.contexts] == [1]
    assert answer.user.roles == {}


def test_user_information_answers_what_was_asked_and_nothing_else(server: DimseServer) -> None:
    with RawPeer(server.address) as peer:
        plain = peer.associate().user
    assert (plain.async_window, plain.roles, plain.extended) == (None, {}, {})
    assert plain.max_length == 131072
    assert plain.implementation_class == IMPLEMENTATION_CLASS_UID and is_uid(plain.implementation_class)
    assert 0 < len(plain.implementation_version) <= 16
    with RawPeer(server.address) as peer:
        extended = {CT: b"\2\0\1\0\1\0", VERIFICATION: b"\1", FIND: b"\1"}
        asked = peer.associate(user=user(async_window=(5, 5), extended=extended)).user
    assert asked.async_window == (1, 1)
    assert asked.extended == {CT: b"\2\0\3\0\0\0"}
    with RawPeer(server.address) as peer:
        assert peer.associate(user=user(extended={CT: b"\2"})).user.extended == {CT: b"\2"}, "not longer than asked"


def test_user_identity_is_ignored_without_an_answer(peer: RawPeer) -> None:
    encoded = associate.encode_request(request())
    identity = bytes((0x58, 0, 0, 9, 1, 1, 0, 3)) + b"bob" + bytes(2)
    start = encoded.index(b"\x50\0", 74)
    length = int.from_bytes(encoded[start + 2 : start + 4], "big") + len(identity)
    changed = encoded[: start + 2] + length.to_bytes(2, "big") + encoded[start + 4 :] + identity
    peer.send(pdu.HEADER.pack(pdu.ASSOCIATE_RQ, len(changed) - 6), changed[6:])
    kind, body = peer.read()
    assert kind == pdu.ASSOCIATE_AC
    assert b"\x59\0" not in body[74:]
    assert peer.echo() == 0


@pytest.mark.parametrize("max_length", [0, 128, 151, 4096])
def test_what_is_sent_respects_the_maximum_length_of_the_peer(peer: RawPeer, max_length: int) -> None:
    peer.associate(user=user(max_length=max_length))
    peer.send(data_pdu(pdv(3, 3, peer.store_command(sop_class="1.2.3"))), data_pdu(pdv(3, 2, b"")))
    received, last = b"", 0
    while not last:
        kind, body = peer.read()
        assert kind == pdu.DATA_TF and (len(body) <= max_length or not max_length)
        assert len(body) % 2 == 0
        received, last = received + body[6:], body[5] & 2
    assert command.decode(received).number(command.STATUS) == 0x0122


def test_a_maximum_length_in_which_nothing_fits_is_an_abort(peer: RawPeer) -> None:
    peer.send(associate.encode_request(request(user=user(max_length=7))))
    assert peer.aborted_for() == pdu.AbortReason.INVALID_PARAMETER
