"""A C-STORE sender on a plain socket, fast enough never to be what is measured (PS3.7 9.1.1, PS3.8 9.3)."""

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence

from bench.dicom import IMPLEMENTATION_CLASS, Instance

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
OWN_MAX_PDU = 1 << 14
MAX_PDU = 1 << 20  # also when the peer names none
BUFFERS_PER_CALL = 512  # of the 1,024 that sendmsg takes
TIMEOUT_SECONDS = 300
ASSOCIATE_AC, P_DATA, RELEASE_RQ, RELEASE_RP = 2, 4, 5, 6
COMMAND_LAST, DATA, DATA_LAST = 3, 0, 2
HAS_DATA_SET = 0x0001


class Refused(Exception):
    """The peer does not take what it was offered; the message says which part."""


class Association:
    """An association that offers one presentation context for each (SOP class, transfer syntax)."""

    def __init__(self, address: tuple[str, int], called: str, offers: Iterable[tuple[str, str]]) -> None:
        self._offers = list(dict.fromkeys(offers))
        self._message_id = 0
        self._socket = socket.create_connection(address, TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(_associate_request(called, self._offers))
        kind, answer = self._receive()
        if kind != ASSOCIATE_AC:
            self._socket.close()
            raise Refused(f"the association was answered by a PDU of type {kind}: {answer[:4].hex()}")
        self._contexts, self._chunk = self._accepted(answer)

    def _accepted(self, answer: bytes) -> tuple[dict[tuple[str, str], int], int]:
        contexts, max_pdu = {}, MAX_PDU
        for kind, body in _items(answer[68:]):
            if kind == 0x21 and body[2] == 0:
                contexts[self._offers[(body[0] - 1) // 2]] = body[0]
            elif kind == 0x50:
                stated = next((int.from_bytes(value) for item, value in _items(body) if item == 0x51), 0)
                max_pdu = min(stated or MAX_PDU, MAX_PDU)
        return contexts, max_pdu - 6

    def store(self, instance: Instance) -> int:
        """Send one instance and wait for the answer; its status."""
        context = self._contexts.get((instance.sop_class, instance.transfer_syntax))
        if context is None:
            raise Refused(f"no presentation context for {instance.sop_class}")
        self._message_id = self._message_id % 0xFFFF + 1
        command = _store_request(instance, self._message_id)
        self._send(_command_then_data(command, instance.buffers, context, self._chunk))
        return self._status()

    def release(self) -> None:
        self._socket.sendall(struct.pack(">BBII", RELEASE_RQ, 0, 4, 0))
        kind, _ = self._receive()
        self._socket.close()
        if kind != RELEASE_RP:
            raise Refused(f"the release was answered by a PDU of type {kind}")

    def _send(self, buffers: Iterator[bytes | memoryview]) -> None:
        batch: list[bytes | memoryview] = []
        for buffer in buffers:
            batch.append(buffer)
            if len(batch) == BUFFERS_PER_CALL:
                self._send_all(batch)
                batch = []
        self._send_all(batch)

    def _send_all(self, batch: Sequence[bytes | memoryview]) -> None:
        sent = self._socket.sendmsg(batch) if batch else 0
        for buffer in batch:
            if sent < len(buffer):
                self._socket.sendall(memoryview(buffer)[sent:])
            sent = max(0, sent - len(buffer))

    def _status(self) -> int:
        kind, body = self._receive()
        if kind != P_DATA:
            raise Refused(f"C-STORE was answered by a PDU of type {kind}")
        position = 6  # after the header of the presentation data value
        while position < len(body):
            number, length = struct.unpack_from("<HI", body, position + 2)
            if number == 0x0900:
                return int.from_bytes(body[position + 8 : position + 10], "little")
            position += 8 + length
        raise Refused("C-STORE was answered without a status")

    def _receive(self) -> tuple[int, bytes]:
        kind, _, length = struct.unpack(">BBI", self._exactly(6))
        return kind, self._exactly(min(length, MAX_PDU))

    def _exactly(self, length: int) -> bytes:
        received = bytearray()
        while len(received) < length:
            data = self._socket.recv(length - len(received))
            if not data:
                raise ConnectionError("the peer closed the connection")
            received += data
        return bytes(received)


def _command_then_data(
    command: bytes, buffers: Sequence[bytes | memoryview], context: int, chunk: int
) -> Iterator[bytes | memoryview]:
    """P-DATA-TF PDUs of one presentation data value each, the data set in pieces of `chunk` bytes."""
    yield _pdv_header(len(command), context, COMMAND_LAST) + command
    left = sum(map(len, buffers))
    room = 0
    for buffer in buffers:
        view = memoryview(buffer)
        while view:
            if room == 0:
                room = min(chunk, left)
                left -= room
                yield _pdv_header(room, context, DATA if left else DATA_LAST)
            yield view[:room]
            taken = min(room, len(view))
            room -= taken
            view = view[taken:]


def _pdv_header(length: int, context: int, control: int) -> bytes:
    return struct.pack(">BBIIBB", P_DATA, 0, length + 6, length + 2, context, control)


def _store_request(instance: Instance, message_id: int) -> bytes:
    """The C-STORE-RQ command set (PS3.7 9.3.1.1), Implicit VR Little Endian."""
    fields: list[tuple[int, str | int]] = [
        (0x0002, instance.sop_class),
        (0x0100, 0x0001),
        (0x0110, message_id),
        (0x0700, 0),
        (0x0800, HAS_DATA_SET),
        (0x1000, instance.sop_uid),
    ]
    body = b"".join(_command_element(number, value) for number, value in fields)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _command_element(number: int, value: str | int) -> bytes:
    data = struct.pack("<H", value) if isinstance(value, int) else value.encode() + b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(data)) + data


def _associate_request(called: str, offers: Sequence[tuple[str, str]]) -> bytes:
    body = struct.pack(">HH16s16s32x", 1, 0, called.encode().ljust(16), b"BENCH".ljust(16))
    body += _item(0x10, APPLICATION_CONTEXT.encode())
    for number, (sop_class, transfer_syntax) in enumerate(offers):
        syntaxes = _item(0x30, sop_class.encode()) + _item(0x40, transfer_syntax.encode())
        body += _item(0x20, bytes([2 * number + 1, 0, 0, 0]) + syntaxes)
    body += _item(0x50, _item(0x51, OWN_MAX_PDU.to_bytes(4)) + _item(0x52, IMPLEMENTATION_CLASS.encode()))
    return struct.pack(">BBI", 1, 0, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        end = 4 + int.from_bytes(data[2:4])
        yield data[0], data[4:end]
        data = data[end:]
