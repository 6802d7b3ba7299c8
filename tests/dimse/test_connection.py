"""Bytes in and out of a connection: all of them, in order, in time."""

import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.dimse import pdu
from gateway.dimse.connection import Connection

Pair = tuple[Connection, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connection whose kernel buffer is small, and the socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
    yield Connection(ours, send_timeout_seconds=1), theirs
    ours.close()
    theirs.close()


def test_what_the_kernel_takes_in_parts_arrives_whole(pair: Pair) -> None:
    connection, other = pair
    generator = random.Random(1)
    buffers = [generator.randbytes(generator.choice((0, 1, 6, 5000, 20_000))) for _ in range(1200)]
    expected, received = b"".join(buffers), bytearray()

    def receive() -> None:
        while len(received) < len(expected) and (piece := other.recv(1 << 16)):
            received.extend(piece)

    thread = threading.Thread(target=receive)
    thread.start()
    connection.send(*buffers)
    thread.join(20)
    assert received == expected


def test_a_peer_that_takes_nothing_is_given_up(pair: Pair) -> None:
    connection, _ = pair
    with pytest.raises(pdu.TimedOut):
        connection.send(bytes(20 << 20))


def test_pdus_of_all_sizes_cross_the_buffer_whole(pair: Pair) -> None:
    connection, other = pair
    connection.limit_pdus(4096)
    generator = random.Random(2)
    bodies = [generator.randbytes(generator.choice((0, 1, 100, 4000, 4096))) for _ in range(2000)]
    stream = b"".join(pdu.HEADER.pack(pdu.DATA_TF, len(body)) + body for body in bodies)

    def send() -> None:
        position = 0
        while position < len(stream):
            position += other.send(stream[position : position + generator.randrange(1, 9000)])

    thread = threading.Thread(target=send)
    thread.start()
    assert [bytes(connection.read_pdu(5)[1]) for _ in bodies] == bodies
    thread.join()


def test_the_time_is_for_the_whole_pdu(pair: Pair) -> None:
    connection, other = pair

    def trickle() -> None:
        for octet in pdu.HEADER.pack(pdu.DATA_TF, 100) + bytes(10):
            other.send(bytes((octet,)))
            time.sleep(0.05)

    thread = threading.Thread(target=trickle)
    thread.start()
    began = time.monotonic()
    with pytest.raises(pdu.TimedOut):
        connection.read_pdu(0.4)
    assert time.monotonic() - began < 0.7
    thread.join()


def test_bytes_sent_too_early_survive_the_change_of_buffer(pair: Pair) -> None:
    connection, other = pair
    other.sendall(pdu.HEADER.pack(pdu.ASSOCIATE_RQ, 10) + bytes(10) + pdu.release_rq())
    assert connection.read_pdu(5)[0] == pdu.ASSOCIATE_RQ
    connection.limit_pdus(4096)
    assert connection.read_pdu(5)[0] == pdu.RELEASE_RQ
