"""The A-ASSOCIATE codec against pynetdicom's, and against whatever bytes may come (PS3.8 9.3.2, 9.3.3)."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

from gateway.dimse import associate, pdu
from gateway.dimse.associate import (
    Answer,
    AnsweredContext,
    CommonExtension,
    ProposedContext,
    Request,
    Roles,
    UserInformation,
)

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
EVERYTHING = UserInformation(
    max_length=65536,
    implementation_class="1.2.3.4",
    implementation_version="NAME_1",
    async_window=(3, 7),
    roles={CT: Roles(True, True), MR: Roles(False, True)},
    extended={CT: b"\2\0\1\0\1\0"},
    common={MR: CommonExtension("1.2.840.10008.4.2", (CT, "1.2.3"))},
)
REQUEST = Request(
    "CALLED",
    "CALLING_16_CHARS",
    (ProposedContext(1, CT, ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")), ProposedContext(255, MR, ("1.2.3",))),
    EVERYTHING,
)
ANSWER = Answer(
    "CALLED",
    "CALLING",
    (AnsweredContext(1, 0, "1.2.840.10008.1.2"), AnsweredContext(3, 4, "1.2.3")),
    UserInformation(131072, "1.2.3.4", "NAME_1", (1, 1), {CT: Roles(True, False)}, {CT: b"\2\0"}),
)


def test_a_request_survives_its_coding() -> None:
    assert associate.decode_request(associate.encode_request(REQUEST)[6:]) == REQUEST


def test_an_answer_survives_its_coding() -> None:
    assert associate.decode_answer(associate.encode_answer(ANSWER)[6:]) == ANSWER


def test_pynetdicom_reads_our_request_and_we_read_its() -> None:
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(associate.encode_request(REQUEST))
    assert (theirs.called_ae_title, theirs.calling_ae_title) == ("CALLED", "CALLING_16_CHARS")
    assert [(c.context_id, c.abstract_syntax, c.transfer_syntax) for c in theirs.presentation_context] == [
        (c.context_id, c.abstract_syntax, list(c.transfer_syntaxes)) for c in REQUEST.contexts
    ]
    assert theirs.user_information.role_selection[CT].scp_role == 1
    assert associate.decode_request(theirs.encode()[6:]) == REQUEST


def test_pynetdicom_reads_our_answer() -> None:
    theirs = A_ASSOCIATE_AC()
    theirs.decode(associate.encode_answer(ANSWER))
    assert [(c.context_id, c.result, c.transfer_syntax) for c in theirs.presentation_context] == [
        (1, 0, "1.2.840.10008.1.2"),
        (3, 4, "1.2.3"),
    ]
    assert theirs.user_information.maximum_length == 131072
    assert associate.decode_answer(theirs.encode()[6:]) == ANSWER


def test_unknown_items_are_skipped_and_padding_is_removed() -> None:
    encoded = associate.encode_request(Request("A", "B", (), UserInformation(1024, "1.2.3\0")))[6:]
    strange = bytes((0x99, 0, 0, 3)) + b"abc"
    request = associate.decode_request(encoded[:68] + strange + encoded[68:] + strange)
    assert (request.called, request.calling, request.user.implementation_class) == ("A", "B", "1.2.3")


def test_ae_titles_are_harmless_in_logs() -> None:
    encoded = bytearray(associate.encode_request(REQUEST)[6:])
    encoded[20:36] = b"A\nB\x1b[31m\xff".ljust(16)
    assert associate.decode_request(encoded).calling == "A?B?[31m?"


@pytest.mark.parametrize("ids", [(2,), (1, 1), (0,)])
def test_context_ids_must_be_odd_and_different(ids: tuple[int, ...]) -> None:
    contexts = tuple(ProposedContext(number, CT, ("1.2.840.10008.1.2",)) for number in ids)
    encoded = associate.encode_request(Request("A", "B", contexts, EVERYTHING))
    with pytest.raises(pdu.ProtocolError):
        associate.decode_request(encoded[6:])


@given(st.data())
def test_damaged_requests_raise_protocol_errors_only(data: st.DataObject) -> None:
    encoded = bytearray(associate.encode_request(REQUEST)[6:])
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])
    for decode in (associate.decode_request, associate.decode_answer):
        with contextlib.suppress(pdu.ProtocolError):
            decode(damaged)
