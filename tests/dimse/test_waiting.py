"""The waiting room: who loses the place when one more comes."""

import socket
from collections.abc import Callable, Iterator

import pytest

from gateway.dimse.connection import Connection
from gateway.dimse.pdu import ConnectionLost
from gateway.dimse.waiting import WaitingRoom

Connect = Callable[[], Connection]


@pytest.fixture
def connect() -> Iterator[Connect]:
    ends: list[socket.socket] = []

    def connect() -> Connection:
        ours, theirs = socket.socketpair()
        ends.extend((ours, theirs))
        return Connection(ours, send_timeout_seconds=1)

    yield connect
    for end in ends:
        end.close()


def is_cut(connection: Connection) -> bool:
    try:
        connection.send(b"?")
    except ConnectionLost:
        return True
    return False


@pytest.mark.parametrize(
    ("parties", "cut"),
    [
        ("AAA", ""),
        ("AAAA", "0"),
        ("AAAAAA", "012"),
        ("ABCD", "0"),
        ("BAAAAA", "123"),
        ("AABB", "2"),
        ("AABC", "0"),
        ("ABBC", "1"),
        ("ABBBA", "01"),
    ],
)
def test_the_oldest_of_the_largest_party_gives_way(connect: Connect, parties: str, cut: str) -> None:
    room = WaitingRoom(3)
    connections = [connect() for _ in parties]
    for connection, party in zip(connections, parties, strict=True):
        room.enter(connection, party)
    assert "".join(str(n) for n, connection in enumerate(connections) if is_cut(connection)) == cut


def test_a_place_given_up_is_free(connect: Connect) -> None:
    room = WaitingRoom(1)
    first, second = connect(), connect()
    room.enter(first, "A")
    assert room.leave(first) == "A"
    room.enter(second, "A")
    assert not is_cut(first)
    assert room.leave(first) is None


def test_an_association_is_not_cut_but_what_lingers_after_it_is(connect: Connect) -> None:
    room = WaitingRoom(1)
    associated, second, third = connect(), connect(), connect()
    room.enter(associated, "A")
    with room.left_by(associated):
        room.enter(second, "A")
        assert not is_cut(associated) and not is_cut(second)
    assert is_cut(second)
    room.enter(third, "A")
    assert is_cut(associated) and not is_cut(third)


def test_who_was_cut_gets_no_association(connect: Connect) -> None:
    room = WaitingRoom(1)
    cut = connect()
    room.enter(cut, "A")
    room.enter(connect(), "A")
    with pytest.raises(ConnectionLost), room.left_by(cut):
        raise AssertionError("it was let in")
