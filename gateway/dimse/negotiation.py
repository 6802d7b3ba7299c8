"""What is answered to an A-ASSOCIATE-RQ: presentation contexts, roles, extended negotiation (PS3.7 Annex D.3)."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.config import Dimse
from gateway.dimse.associate import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ACCEPTANCE,
    APPLICATION_CONTEXT,
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    USER_REJECTION,
    Answer,
    AnsweredContext,
    ProposedContext,
    Request,
    Roles,
    UserInformation,
)
from gateway.dimse.syntaxes import IMPLICIT_LITTLE_ENDIAN, Service, choose_transfer_syntax, service_of
from storage.dicom.filemeta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.dicom.identity import is_uid

# Storage SCP of level 2 (keeps every attribute), digital signatures kept bit for bit (level 3), no coercion: PS3.4
# Table B.3-2.
_STORAGE_EXTENSION = bytes((2, 0, 3, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    service: Service
    related: tuple[str, ...] = ()  # general SOP classes that its SOP class specialises

    def carries(self, sop_class: str) -> bool:
        """Whether a message about `sop_class` may come here: its own, or one it was declared related to."""
        return sop_class == self.abstract_syntax or sop_class in self.related


def refusal(request: Request) -> tuple[int, int, int] | None:
    """Result, source and reason to reject with when the request is not ours to understand (PS3.8 9.3.4)."""
    if not request.version & 1:
        return 1, 2, 2  # rejected-permanent, service-provider (ACSE), protocol-version-not-supported
    if request.application_context != APPLICATION_CONTEXT:
        return 1, 1, 2  # rejected-permanent, service-user, application-context-name-not-supported
    return None


def negotiate(request: Request, settings: Dimse) -> tuple[Answer, Mapping[int, Context]]:
    """The answer to `request` and the contexts it accepts, possibly none."""
    answered: list[AnsweredContext] = []
    accepted: dict[int, Context] = {}
    for proposed in request.contexts:
        outcome = _decide(proposed, request, settings)
        if isinstance(outcome, Context):
            accepted[proposed.context_id] = outcome
            answered.append(AnsweredContext(proposed.context_id, ACCEPTANCE, outcome.transfer_syntax))
        else:
            answered.append(AnsweredContext(proposed.context_id, outcome, _placeholder(proposed)))
    user = _user_information(request, accepted, settings)
    return Answer(request.called, request.calling, tuple(answered), user), accepted


def _decide(proposed: ProposedContext, request: Request, settings: Dimse) -> Context | int:
    """The accepted context, or the result that refuses it."""
    uid = proposed.abstract_syntax
    common = request.user.common.get(uid)
    declared = common.service_class if common is not None else ""
    service = service_of(uid, declared, accept_unknown=settings.accept_unknown_sop_classes) if is_uid(uid) else None
    if service is None:
        return ABSTRACT_SYNTAX_NOT_SUPPORTED
    if request.user.roles.get(uid) == Roles(scu=False, scp=True):
        return USER_REJECTION  # the requestor wants to receive only, which is C-GET
    transfer_syntax = choose_transfer_syntax(proposed.transfer_syntaxes)
    if transfer_syntax is None:
        return TRANSFER_SYNTAXES_NOT_SUPPORTED
    return Context(proposed.context_id, uid, transfer_syntax, service, common.related if common is not None else ())


def _placeholder(proposed: ProposedContext) -> str:
    """The transfer syntax item of a refused context must be there and means nothing (PS3.8 9.3.3.2)."""
    return next((uid for uid in proposed.transfer_syntaxes if is_uid(uid)), IMPLICIT_LITTLE_ENDIAN)


def _user_information(request: Request, accepted: Mapping[int, Context], settings: Dimse) -> UserInformation:
    """Nothing is answered that was not asked; user identity is not supported and so not answered (D.3.3.7)."""
    services = {context.abstract_syntax: context.service for context in accepted.values()}
    return UserInformation(
        max_length=settings.max_pdu_bytes,
        implementation_class=IMPLEMENTATION_CLASS_UID,
        implementation_version=IMPLEMENTATION_VERSION_NAME,
        async_window=(1, 1) if request.user.async_window is not None else None,
        roles={uid: Roles(role.scu, False) for uid, role in request.user.roles.items() if uid in services},
        extended={
            uid: _STORAGE_EXTENSION[: len(offered)]
            for uid, offered in request.user.extended.items()
            if services.get(uid) is Service.STORAGE
        },
    )
