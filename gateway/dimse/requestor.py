"""Asking another system for an association, and releasing it (PS3.8 7.1.1, 7.2; PS3.7 D.3)."""

import socket
from collections.abc import Sequence

from gateway.dimse import associate, pdu
from gateway.dimse.associate import ACCEPTANCE, Answer, ProposedContext, Request, UserInformation
from gateway.dimse.association import Association
from gateway.dimse.connection import Connection
from gateway.dimse.negotiation import Context
from gateway.dimse.pdu import AbortReason, ProtocolError, UpperLayerError
from gateway.dimse.syntaxes import Service
from storage.dicom.filemeta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

MAX_CONTEXTS = 128
MAX_PDU_BYTES = 16384  # responses only come this way
_MAX_PDUS_BEFORE_RELEASE = 16

Proposal = tuple[str, str]  # abstract syntax, transfer syntax


class AssociationRejected(Exception):
    """The peer wants no association with us; the three numbers are those of its A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(_EXPLANATIONS.get((source, reason), f"the association was rejected ({source}/{reason})"))
        self.result = result
        self.source = source
        self.reason = reason

    @property
    def is_transient(self) -> bool:
        """Whether the peer may accept later."""
        return self.result == 2


_EXPLANATIONS = {
    (1, 2): "the peer does not support the application context",
    (1, 3): "the peer does not know the calling AE title, or not from this address",
    (1, 7): "the peer does not have the called AE title",
    (2, 2): "the peer does not support the protocol version",
    (3, 1): "the peer is congested now",
    (3, 2): "the peer has too many associations now",
}


def request_association(
    address: tuple[str, int],
    proposals: Sequence[Proposal],
    *,
    called: str,
    calling: str,
    connect_timeout_seconds: float,
    timeout_seconds: float,
) -> Association:
    """An association in which each of up to 128 proposals is a presentation context of its own.

    Those not accepted are missing from its `contexts`. Raises OSError when there is no connection,
    AssociationRejected, UpperLayerError.
    """
    assert 0 < len(proposals) <= MAX_CONTEXTS
    sock = socket.create_connection(address, connect_timeout_seconds)
    connection = Connection(sock, send_timeout_seconds=timeout_seconds)
    try:
        proposed = tuple(
            ProposedContext(2 * number + 1, abstract_syntax, (transfer_syntax,))
            for number, (abstract_syntax, transfer_syntax) in enumerate(proposals)
        )
        user = UserInformation(MAX_PDU_BYTES, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)
        connection.send(associate.encode_request(Request(called, calling, proposed, user)))
        answer = _answer(connection, timeout_seconds)
        connection.limit_pdus(MAX_PDU_BYTES)
        return Association(
            connection,
            _accepted(proposed, answer),
            peer_max_pdu_bytes=answer.user.max_length,
            read_timeout=timeout_seconds,
        )
    except (AssociationRejected, UpperLayerError):
        connection.close()
        raise


def _answer(connection: Connection, timeout_seconds: float) -> Answer:
    kind, body = connection.read_pdu(timeout_seconds)
    if kind == pdu.ASSOCIATE_AC:
        return associate.decode_answer(body)
    if kind == pdu.ASSOCIATE_RJ and len(body) >= 4:
        raise AssociationRejected(body[1], body[2], body[3])
    if kind == pdu.ABORT:
        raise pdu.Aborted("the peer aborted instead of answering")
    raise ProtocolError("the peer did not answer the association request", AbortReason.UNEXPECTED_PDU)


def _accepted(proposed: Sequence[ProposedContext], answer: Answer) -> dict[int, Context]:
    """The contexts accepted with the transfer syntax that was proposed."""
    results = {context.context_id: context for context in answer.contexts if context.result == ACCEPTANCE}
    return {
        context.context_id: Context(
            context.context_id, context.abstract_syntax, context.transfer_syntaxes[0], Service.STORAGE
        )
        for context in proposed
        if context.context_id in results and results[context.context_id].transfer_syntax in context.transfer_syntaxes
    }


def release(connection: Connection, timeout_seconds: float) -> None:
    """Release and close. Raises UpperLayerError when the peer does not answer properly; it is closed all the same.

    When both sides ask at once, the requestor answers first and then waits for its own answer (PS3.8 9.2.3, AR-8).
    """
    try:
        connection.send(pdu.release_rq())
        for _ in range(_MAX_PDUS_BEFORE_RELEASE):
            kind, _ = connection.read_pdu(timeout_seconds)
            if kind in (pdu.RELEASE_RP, pdu.ABORT):
                return
            if kind == pdu.RELEASE_RQ:
                connection.send(pdu.release_rp())
        raise ProtocolError("the peer does not answer the release request", AbortReason.UNEXPECTED_PDU)
    finally:
        connection.close()
