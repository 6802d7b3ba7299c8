"""One connection from its first byte to its last: association request, messages, release or abort (PS3.8 9.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway import log, metrics
from gateway.archive import Archive
from gateway.config import Dimse
from gateway.dimse import associate, pdu
from gateway.dimse.associate import Request
from gateway.dimse.association import Association, ReleaseRequested
from gateway.dimse.connection import Connection
from gateway.dimse.limits import Limits
from gateway.dimse.negotiation import negotiate, refusal
from gateway.dimse.pdu import AbortReason, ConnectionLost, ProtocolError, TimedOut, UpperLayerError
from gateway.dimse.services import Session, perform
from gateway.dimse.waiting import WaitingRoom
from gateway.security.ae_rules import Rejected
from gateway.security.caller import Caller

_LOG = log.get(__name__)


class Rules(Protocol):
    """Who may associate: `gateway.security.ae_rules.AERules`."""

    def admit(self, called: str, calling: str, address: str) -> Caller:
        """Who `calling` is; raises Rejected."""

    def knows(self, address: str) -> bool:
        """Whether anybody may call from `address`."""


@dataclass(frozen=True, slots=True)
class Door:
    """What all connections share."""

    archive: Archive
    rules: Rules
    settings: Dimse
    limits: Limits
    waiting: WaitingRoom
    stopping: Callable[[], bool]


class Acceptor:
    """Serves one connection; `busy` while a message is being worked on, so that a stop can wait for it."""

    def __init__(self, connection: Connection, address: str, door: Door) -> None:
        self.connection = connection
        self.busy = False
        self._opened = False
        self._address = address
        self._door = door
        self._log = _LOG.bind(address=address)

    def run(self) -> None:
        """Serve until the association or the connection ends, or between two messages when the door closes."""
        try:
            self._associate()
        except ProtocolError as error:
            self._log.warning("association aborted", why=str(error))
            self._last(pdu.abort(error.reason))
        except TimedOut as error:
            self._log.warning("association aborted", why=str(error))
            self._last(pdu.abort())
        except UpperLayerError as error:
            # A load balancer that looks whether the port is open does no more than connect: not worth a line.
            say = self._log.info if self._opened else self._log.debug
            say("association lost", why=str(error))
        except Exception:
            self._log.exception("association failed")
            self._last(pdu.abort())
        self.connection.finish()

    def _last(self, encoded: bytes) -> None:
        try:
            self.connection.send(encoded)
        except UpperLayerError:
            self._log.debug("the peer was gone before the last PDU")

    def _associate(self) -> None:
        request = self._request()
        try:
            caller = self._admit(request)
            with self._door.limits.place(caller.identity), self._door.waiting.left_by(self.connection):
                self._converse(request, caller)
        except Rejected as error:
            metrics.association_rejected()
            self._log.warning(
                "association rejected",
                calling=request.calling,
                called=request.called,
                result=f"{error.result}/{error.source}/{error.reason}",
                why=str(error),
            )
            self._last(pdu.reject(error.result, error.source, error.reason))

    def _request(self) -> Request:
        kind, body = self.connection.read_pdu(self._door.settings.association_timeout_seconds)
        if kind == pdu.ABORT:
            raise pdu.Aborted("the peer aborted before it asked for an association")
        if kind != pdu.ASSOCIATE_RQ:
            raise ProtocolError("the first PDU is not an A-ASSOCIATE-RQ", AbortReason.UNEXPECTED_PDU)
        return associate.decode_request(body)

    def _admit(self, request: Request) -> Caller:
        """Who calls; raises Rejected (PS3.8 9.3.4)."""
        not_understood = refusal(request)
        if not_understood is not None:
            raise Rejected(*not_understood, "protocol version or application context not supported")
        return self._door.rules.admit(request.called, request.calling, self._address)

    def _converse(self, request: Request, caller: Caller) -> None:
        answer, contexts = negotiate(request, self._door.settings)
        self.connection.limit_pdus(self._door.settings.max_pdu_bytes)
        association = Association(
            self.connection,
            contexts,
            peer_max_pdu_bytes=request.user.max_length,
            read_timeout=self._door.settings.read_timeout_seconds,
        )
        self._log = self._log.bind(calling=request.calling, called=request.called)
        self._opened = True
        metrics.association_opened()
        self._log.info("association opened", contexts=len(request.contexts), accepted=len(contexts))
        try:
            self.connection.send(associate.encode_answer(answer))
            self._serve(Session(association, caller, self._door.archive))
        finally:
            metrics.association_closed()

    def _serve(self, session: Session) -> None:
        messages = 0
        while not self._door.stopping():
            try:
                message = session.association.receive_message(self._door.settings.idle_timeout_seconds)
            except ReleaseRequested:
                self.connection.send(pdu.release_rp())
                self._log.info("association released", messages=messages)
                return
            except ConnectionLost:
                if self._door.stopping():
                    break  # woken
                raise
            self.busy = True
            perform(session, message)
            self.busy = False
            messages += 1
        self._log.info("association aborted, the gateway stops", messages=messages)
        self._last(pdu.abort())
