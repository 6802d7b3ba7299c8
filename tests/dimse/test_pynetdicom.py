"""pynetdicom as the peer: C-ECHO, C-STORE, role selection, extended negotiation, rejection."""

from collections.abc import Callable
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom import AE, Association, StoragePresentationContexts, build_context, build_role
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from gateway.dimse.server import DimseServer
from storage.errors import Exhausted
from tests.dimse.conftest import Serve
from tests.dimse.peers import CT, VERIFICATION, RememberingArchive
from tests.samples import ct, dataset_bytes, part10

Associate = Callable[..., Association]


@pytest.fixture
def associate(server: DimseServer) -> Associate:
    def open_association(*contexts: Any, title: str = "GATEWAY", **arguments: Any) -> Association:
        ae = AE("PYNETDICOM")
        return ae.associate(*server.address, contexts=list(contexts), ae_title=title, **arguments)

    return open_association


def test_echo(associate: Associate) -> None:
    association = associate(build_context(VERIFICATION))
    assert association.send_c_echo().Status == 0
    association.release()
    assert association.is_released


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_store_in_either_vr(associate: Associate, archive: RememberingArchive, syntax: str) -> None:
    ds = ct(size=300)
    file = part10(ds, syntax)
    association = associate(build_context(CT, syntax))
    assert association.send_c_store(ds).Status == 0
    association.release()
    (kept,) = archive.kept
    assert dataset_bytes(kept.data) == dataset_bytes(file)
    assert (kept.expected.sop_class, kept.expected.sop_uid) == (CT, ds.SOPInstanceUID)
    assert kept.by.identity == "PYNETDICOM"


def test_it_prefers_explicit_vr_and_takes_every_context(associate: Associate) -> None:
    association = associate(*StoragePresentationContexts)
    assert len(association.accepted_contexts) == len(StoragePresentationContexts)
    assert {context.transfer_syntax[0] for context in association.accepted_contexts} == {ExplicitVRLittleEndian}
    association.release()


def test_a_failure_has_status_and_comment(associate: Associate, archive: RememberingArchive) -> None:
    def fail(_: object) -> None:
        raise Exhausted("the disk is full")

    archive.fail = fail
    ds = ct()
    part10(ds)
    association = associate(build_context(CT, ExplicitVRLittleEndian))
    status = association.send_c_store(ds)
    assert (status.Status, status.ErrorComment) == (0xA700, "the disk is full")
    association.release()


def test_negotiation_items_are_answered(associate: Associate) -> None:
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = CT, b"\2\0\0\0\0\0"
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 4
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field, identity.positive_response_requested = 1, b"bob", True
    association = associate(
        build_context(CT, [ExplicitVRLittleEndian]),
        build_context(CT, [JPEGBaseline8Bit]),
        ext_neg=[extended, window, identity, build_role(CT, scu_role=True, scp_role=True)],
    )
    assert len(association.accepted_contexts) == 2
    assert all(context.as_scu and not context.as_scp for context in association.accepted_contexts)
    assert association.acceptor.asynchronous_operations == (1, 1)
    assert association.acceptor.sop_class_extended == {CT: b"\2\0\3\0\0\0"}
    assert association.acceptor.role_selection[CT].scp_role is False
    association.release()


def test_an_unknown_called_title_is_rejected(associate: Associate) -> None:
    association = associate(build_context(VERIFICATION), title="NOBODY")
    assert association.is_rejected
    assert association.acceptor.primitive.result == 1
    assert (association.acceptor.primitive.result_source, association.acceptor.primitive.diagnostic) == (1, 7)


def test_a_small_maximum_length_of_the_peer(serve: Serve, archive: RememberingArchive) -> None:
    ds = ct(size=200)
    file = part10(ds)
    server = serve(max_pdu_bytes=4096)
    association = AE("SMALL").associate(
        *server.address, contexts=[build_context(CT, ExplicitVRLittleEndian)], ae_title="GATEWAY", max_pdu=4096
    )
    assert association.send_c_store(ds).Status == 0
    association.abort()
    assert dataset_bytes(archive.kept[0].data) == dataset_bytes(file)
