"""A-ASSOCIATE-RQ and -AC as values (PS3.8 9.3.2, 9.3.3; PS3.7 Annex D.3).

Reads what real systems send: padded UIDs, unknown items (skipped, as PS3.8 9.3.1 wants), any order.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.dimse.pdu import ASSOCIATE_AC, ASSOCIATE_RQ, HEADER, ProtocolError
from storage.objects import Buffer

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
ACCEPTANCE, USER_REJECTION, NO_REASON, ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED = range(5)

_FIXED = struct.Struct(">HH16s16s32x")
_ITEM = struct.Struct(">BxH")
_APPLICATION_CONTEXT, _CONTEXT_RQ, _CONTEXT_AC, _USER_INFORMATION = 0x10, 0x20, 0x21, 0x50
_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX = 0x30, 0x40
_MAX_LENGTH, _CLASS_UID, _ASYNC_WINDOW, _ROLE, _VERSION_NAME = 0x51, 0x52, 0x53, 0x54, 0x55
_EXTENDED, _COMMON_EXTENDED = 0x56, 0x57


class Roles(NamedTuple):
    """Which roles the requestor would have for a SOP class (PS3.7 D.3.3.4)."""

    scu: bool
    scp: bool


class CommonExtension(NamedTuple):
    """What kind of SOP class this is, for an acceptor that does not know it (PS3.7 D.3.3.6)."""

    service_class: str
    related: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context of the request (PS3.8 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """A presentation context of the answer (PS3.8 9.3.3.2); the transfer syntax counts only when accepted."""

    context_id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class UserInformation:
    """The user information item (PS3.7 D.3.3); `max_length` 0 is no limit. User identity is not kept."""

    max_length: int = 0
    implementation_class: str = ""
    implementation_version: str = ""
    async_window: tuple[int, int] | None = None
    roles: Mapping[str, Roles] = field(default_factory=dict)
    extended: Mapping[str, bytes] = field(default_factory=dict)
    common: Mapping[str, CommonExtension] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """An A-ASSOCIATE-RQ."""

    called: str
    calling: str
    contexts: tuple[ProposedContext, ...]
    user: UserInformation
    application_context: str = APPLICATION_CONTEXT
    version: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """An A-ASSOCIATE-AC."""

    called: str
    calling: str
    contexts: tuple[AnsweredContext, ...]
    user: UserInformation


def decode_request(body: Buffer) -> Request:
    """The request in the body of an A-ASSOCIATE-RQ; ProtocolError when it cannot be read."""
    version, called, calling = _fixed(body)
    application_context, contexts, user = "", [], UserInformation()
    for kind, value in _items(memoryview(body)[_FIXED.size :]):
        if kind == _APPLICATION_CONTEXT:
            application_context = _text(value)
        elif kind == _CONTEXT_RQ:
            contexts.append(_proposed(value))
        elif kind == _USER_INFORMATION:
            user = _user_information(value)
    ids = {context.context_id for context in contexts}
    if len(ids) != len(contexts) or any(number % 2 == 0 for number in ids):
        raise ProtocolError("presentation context IDs must be odd and different (PS3.8 9.3.2.2)")
    return Request(called, calling, tuple(contexts), user, application_context, version)


def decode_answer(body: Buffer) -> Answer:
    """The answer in the body of an A-ASSOCIATE-AC; ProtocolError when it cannot be read."""
    _, called, calling = _fixed(body)
    contexts, user = [], UserInformation()
    for kind, value in _items(memoryview(body)[_FIXED.size :]):
        if kind == _CONTEXT_AC:
            contexts.append(_answered(value))
        elif kind == _USER_INFORMATION:
            user = _user_information(value)
    return Answer(called, calling, tuple(contexts), user)


def encode_request(request: Request) -> bytes:
    """The whole A-ASSOCIATE-RQ PDU."""
    body = [_FIXED.pack(request.version, 0, _ae_title(request.called), _ae_title(request.calling))]
    body.append(_uid_item(_APPLICATION_CONTEXT, request.application_context))
    for context in request.contexts:
        syntaxes = b"".join(_uid_item(_TRANSFER_SYNTAX, uid) for uid in context.transfer_syntaxes)
        value = bytes((context.context_id, 0, 0, 0)) + _uid_item(_ABSTRACT_SYNTAX, context.abstract_syntax) + syntaxes
        body.append(_item(_CONTEXT_RQ, value))
    body.append(_encode_user_information(request.user))
    return _pdu(ASSOCIATE_RQ, b"".join(body))


def encode_answer(answer: Answer) -> bytes:
    """The whole A-ASSOCIATE-AC PDU."""
    body = [_FIXED.pack(1, 0, _ae_title(answer.called), _ae_title(answer.calling))]
    body.append(_uid_item(_APPLICATION_CONTEXT, APPLICATION_CONTEXT))
    for context in answer.contexts:
        value = bytes((context.context_id, 0, context.result, 0)) + _uid_item(_TRANSFER_SYNTAX, context.transfer_syntax)
        body.append(_item(_CONTEXT_AC, value))
    body.append(_encode_user_information(answer.user))
    return _pdu(ASSOCIATE_AC, b"".join(body))


def _fixed(body: Buffer) -> tuple[int, str, str]:
    if len(body) < _FIXED.size:
        raise ProtocolError("an A-ASSOCIATE PDU is shorter than its fixed fields")
    version, _, called, calling = _FIXED.unpack_from(body)
    return version, _text(called), _text(calling)


def _items(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    position = 0
    while position < len(view):
        if len(view) - position < _ITEM.size:
            raise ProtocolError("an A-ASSOCIATE item is cut short")
        kind, length = _ITEM.unpack_from(view, position)
        start, position = position + _ITEM.size, position + _ITEM.size + length
        if position > len(view):
            raise ProtocolError("an A-ASSOCIATE item is longer than what holds it")
        yield kind, view[start:position]


def _text(value: Buffer) -> str:
    """Text without padding; what is not printable ASCII becomes `?`, so that it is harmless in a log."""
    text = bytes(value).decode("ascii", "replace").strip(" \0")
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def _proposed(value: memoryview) -> ProposedContext:
    abstract_syntax, transfer_syntaxes = "", []
    for kind, content in _items(value[4:]):
        if kind == _ABSTRACT_SYNTAX:
            abstract_syntax = _text(content)
        elif kind == _TRANSFER_SYNTAX:
            transfer_syntaxes.append(_text(content))
    return ProposedContext(_octet(value, 0), abstract_syntax, tuple(transfer_syntaxes))


def _answered(value: memoryview) -> AnsweredContext:
    syntaxes = [_text(content) for kind, content in _items(value[4:]) if kind == _TRANSFER_SYNTAX]
    return AnsweredContext(_octet(value, 0), _octet(value, 2), syntaxes[0] if syntaxes else "")


def _user_information(view: memoryview) -> UserInformation:
    max_length, class_uid, version_name, window = 0, "", "", None
    roles, extended, common = {}, {}, {}
    for kind, value in _items(view):
        if kind == _MAX_LENGTH:
            max_length = int.from_bytes(value[:4], "big")
        elif kind == _CLASS_UID:
            class_uid = _text(value)
        elif kind == _VERSION_NAME:
            version_name = _text(value)
        elif kind == _ASYNC_WINDOW:
            window = (int.from_bytes(value[:2], "big"), int.from_bytes(value[2:4], "big"))
        elif kind == _ROLE:
            sop_class, rest = _counted(value)
            roles[_text(sop_class)] = Roles(_octet(rest, 0) == 1, _octet(rest, 1) == 1)
        elif kind == _EXTENDED:
            sop_class, rest = _counted(value)
            extended[_text(sop_class)] = bytes(rest)
        elif kind == _COMMON_EXTENDED:
            sop_class, rest = _counted(value)
            common[_text(sop_class)] = _common_extension(rest)
    return UserInformation(max_length, class_uid, version_name, window, roles, extended, common)


def _common_extension(value: memoryview) -> CommonExtension:
    service_class, rest = _counted(value)
    uids, _ = _counted(rest)
    related = []
    while uids:
        uid, uids = _counted(uids)
        related.append(_text(uid))
    return CommonExtension(_text(service_class), tuple(related))


def _octet(value: memoryview, position: int) -> int:
    if position >= len(value):
        raise ProtocolError("an A-ASSOCIATE item is too short")
    return int(value[position])


def _counted(value: memoryview) -> tuple[memoryview, memoryview]:
    """A part that its own length of two bytes precedes, and what comes after it."""
    length = int.from_bytes(value[:2], "big")
    if len(value) < 2 + length:
        raise ProtocolError("an A-ASSOCIATE sub-item is cut short")
    return value[2 : 2 + length], value[2 + length :]


def _encode_user_information(user: UserInformation) -> bytes:
    items = [_item(_MAX_LENGTH, struct.pack(">I", user.max_length)), _uid_item(_CLASS_UID, user.implementation_class)]
    if user.async_window is not None:
        items.append(_item(_ASYNC_WINDOW, struct.pack(">HH", *user.async_window)))
    items.extend(_item(_ROLE, _with_length(uid) + bytes(roles)) for uid, roles in user.roles.items())
    if user.implementation_version:
        items.append(_uid_item(_VERSION_NAME, user.implementation_version))
    items.extend(_item(_EXTENDED, _with_length(uid) + information) for uid, information in user.extended.items())
    for uid, extension in user.common.items():
        related = b"".join(map(_with_length, extension.related))
        value = _with_length(uid) + _with_length(extension.service_class) + struct.pack(">H", len(related)) + related
        items.append(_item(_COMMON_EXTENDED, value))
    return _item(_USER_INFORMATION, b"".join(items))


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _uid_item(kind: int, uid: str) -> bytes:
    return _item(kind, uid.encode("ascii"))


def _with_length(uid: str) -> bytes:
    return struct.pack(">H", len(uid)) + uid.encode("ascii")


def _ae_title(title: str) -> bytes:
    return title.encode("ascii")[:16].ljust(16)


def _pdu(kind: int, body: bytes) -> bytes:
    return HEADER.pack(kind, len(body)) + body
