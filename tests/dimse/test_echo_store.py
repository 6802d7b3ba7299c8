"""C-ECHO and C-STORE over a plain socket: what is stored, what is answered (PS3.7 9.1.1, 9.1.5; PS3.4 B.2)."""

from gateway.dimse import command
from tests.dimse.peers import CT, EXPLICIT, RawPeer, RememberingArchive


def test_echo_can_be_repeated_and_is_released(peer: RawPeer) -> None:
    peer.associate()
    assert [peer.echo() for _ in range(3)] == [0, 0, 0]
    peer.release()


def test_store_keeps_the_data_set_as_sent_behind_file_meta(peer: RawPeer, archive: RememberingArchive) -> None:
    peer.associate()
    data = bytes(range(256)) * 100
    response = peer.store(data, sop_uid="1.2.3.4")
    assert response.number(command.STATUS) == 0
    assert response.number(command.MESSAGE_ID_RESPONDED_TO) == peer.message_id
    assert response.field == 0x8001
    assert response.text(command.AFFECTED_SOP_CLASS) == CT
    assert response.text(command.AFFECTED_SOP_INSTANCE) == "1.2.3.4"
    (kept,) = archive.kept
    assert kept.data.endswith(data) and kept.data[128:132] == b"DICM"
    assert EXPLICIT.encode() in kept.data[: -len(data)]
    assert (kept.expected.sop_class, kept.expected.sop_uid, kept.expected.study_uid) == (CT, "1.2.3.4", None)
    assert (kept.by.identity, kept.by.address, kept.by.door) == ("RAW", "127.0.0.1", "dimse")
