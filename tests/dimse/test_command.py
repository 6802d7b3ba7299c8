"""Command sets against pynetdicom's coding, and against whatever bytes may come (PS3.7 6.3.1, Annex E)."""

import contextlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode, encode

from gateway.dimse import command
from gateway.dimse.command import Command
from gateway.dimse.pdu import ProtocolError


def pynetdicom_request() -> bytes:
    primitive = C_STORE()
    primitive.MessageID = 4711
    primitive.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    primitive.AffectedSOPInstanceUID = "1.2.3.4.5"
    primitive.Priority = 2
    primitive.DataSet = BytesIO(b"\0\0")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    encoded = encode(message.command_set, True, True)
    assert encoded is not None
    return encoded


def test_a_request_of_pynetdicom_is_read() -> None:
    request = command.decode(pynetdicom_request())
    assert (request.field, request.number(command.MESSAGE_ID), request.has_data_set) == (1, 4711, True)
    assert request.text(command.AFFECTED_SOP_CLASS) == "1.2.840.10008.5.1.4.1.1.2"
    assert request.text(command.AFFECTED_SOP_INSTANCE) == "1.2.3.4.5"


def test_pynetdicom_reads_our_response() -> None:
    request = command.decode(pynetdicom_request())
    message = C_STORE_RSP()
    encoded = command.response(request, 0xA900, "x\\y" + "c" * 100, 0x00080018)
    message.command_set = decode(BytesIO(encoded), True, True)
    assert message.command_set.CommandGroupLength == len(encoded) - 12
    assert [int(element.tag) for element in message.command_set] == sorted(
        (0, 2, 0x0100, 0x0120, 0x0800, 0x0900, 0x0901, 0x0902, 0x1000)
    )
    primitive = message.message_to_primitive()
    assert (primitive.MessageIDBeingRespondedTo, primitive.Status) == (4711, 0xA900)
    assert primitive.ErrorComment == "x/y" + "c" * 61
    assert primitive.OffendingElement == 0x00080018
    assert primitive.AffectedSOPInstanceUID == "1.2.3.4.5"


@given(st.dictionaries(st.integers(1, 0xFFFF), st.binary(max_size=40)))
def test_elements_survive_their_coding(elements: dict[int, bytes]) -> None:
    encoded = command.encode(dict(elements))
    assert command.decode(encoded) == Command({0: encoded[8:12], **elements})


@given(st.binary(max_size=100))
def test_garbage_raises_protocol_errors_only(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert all(isinstance(value, bytes) for value in command.decode(data).elements.values())


def test_missing_numbers_are_protocol_errors() -> None:
    with pytest.raises(ProtocolError):
        command.decode(command.encode({command.COMMAND_FIELD: b"\1"})).number(command.COMMAND_FIELD)
    with pytest.raises(ProtocolError):
        Command({}).number(command.MESSAGE_ID)
