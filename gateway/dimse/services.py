"""What is done for each DIMSE request: one function a command field, in one table (PS3.7 9.1).

A service receives its message's data set whole, whatever is wrong with it, and answers exactly once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway import log
from gateway.archive import Archive, Expected
from gateway.dimse import statuses
from gateway.dimse.association import Association, Message
from gateway.dimse.command import (
    AFFECTED_SOP_CLASS,
    AFFECTED_SOP_INSTANCE,
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    RESPONSE,
    response,
)
from gateway.dimse.pdu import AbortReason, ProtocolError, UpperLayerError
from gateway.dimse.reception import Discard, Reception
from gateway.dimse.statuses import Status
from gateway.dimse.syntaxes import Service
from gateway.security.caller import Caller
from storage.dicom import filemeta
from storage.dicom.identity import is_uid
from storage.errors import StorageError

_LOG = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """An association, who is at its other end, and the archive behind this one."""

    association: Association
    caller: Caller
    archive: Archive

    def answer(self, message: Message, status: Status) -> None:
        encoded = response(message.command, status.code, status.comment, status.offending)
        self.association.send_message(message.context, encoded)

    def discard_data_set(self, message: Message) -> None:
        if message.command.has_data_set:
            self.association.receive_data_set(message.context, Discard().write)


def perform(session: Session, message: Message) -> None:
    """Do what `message` asks and answer it. Raises UpperLayerError only: every other failure is a status."""
    _SERVICES.get(message.command.field, _unrecognized)(session, message)


def _echo(session: Session, message: Message) -> None:
    """C-ECHO (PS3.7 9.1.5), on whatever context it comes: some systems keep an association alive so."""
    session.discard_data_set(message)
    session.answer(message, statuses.DONE)


def _store(session: Session, message: Message) -> None:
    """C-STORE (PS3.7 9.1.1, PS3.4 B.2)."""
    status = _objection(message)
    if status is not None:
        session.discard_data_set(message)
    else:
        status = _receive_and_store(session, message)
    if status.code != statuses.SUCCESS:
        _LOG.warning(
            "C-STORE refused", calling=session.caller.identity, status=f"{status.code:04X}H", why=status.comment
        )
    session.answer(message, status)


def _objection(message: Message) -> Status | None:
    """What is wrong with a C-STORE request before its data set is looked at."""
    command, context = message.command, message.context
    for element in (AFFECTED_SOP_CLASS, AFFECTED_SOP_INSTANCE):
        if not is_uid(command.text(element)):
            return Status(statuses.MISTYPED_ARGUMENT, "a UID of the command set is missing or not valid", element)
    if not command.has_data_set:
        return Status(statuses.CANNOT_UNDERSTAND, "the request has no data set")
    if context.service is not Service.STORAGE or not context.carries(command.text(AFFECTED_SOP_CLASS)):
        return Status(
            statuses.SOP_CLASS_NOT_SUPPORTED,
            "the SOP class is not that of the presentation context",
            AFFECTED_SOP_CLASS,
        )
    return None


def _receive_and_store(session: Session, message: Message) -> Status:
    command, context = message.command, message.context
    sop_class, sop_uid = command.text(AFFECTED_SOP_CLASS), command.text(AFFECTED_SOP_INSTANCE)
    try:
        incoming = session.archive.incoming()
    except StorageError as error:
        session.discard_data_set(message)
        return statuses.of(error)
    try:
        reception = Reception(incoming)
        reception.write(
            filemeta.build(sop_class, sop_uid, context.transfer_syntax, source_ae_title=session.caller.identity)
        )
        session.association.receive_data_set(context, reception.write)
        if reception.failure is not None:
            raise reception.failure
        session.archive.store(incoming, Expected(sop_class=sop_class, sop_uid=sop_uid), by=session.caller)
    except UpperLayerError:
        raise
    except Exception as error:  # each becomes a failure status; what is not foreseen is logged with its place
        status = statuses.of(error)
        if status.code == statuses.PROCESSING_FAILURE:
            _LOG.error("C-STORE failed", calling=session.caller.identity, exc_info=error)
        return status
    finally:
        incoming.close()
    return statuses.DONE


def _ignore(session: Session, message: Message) -> None:
    """C-CANCEL of something that has been answered already (PS3.7 9.3.2.3): there is no response to it."""
    session.discard_data_set(message)


def _unrecognized(session: Session, message: Message) -> None:
    if message.command.field & RESPONSE:
        raise ProtocolError("a response came to a request that was never sent", AbortReason.NOT_SPECIFIED)
    session.discard_data_set(message)
    session.answer(message, Status(statuses.UNRECOGNIZED_OPERATION, "this service is not offered here"))


_SERVICES: dict[int, Callable[[Session, Message], None]] = {
    C_ECHO_RQ: _echo,
    C_STORE_RQ: _store,
    C_CANCEL_RQ: _ignore,
}
