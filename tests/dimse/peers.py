"""Stand-ins for tests of the DIMSE door: an archive that remembers, and a peer on a plain socket."""

import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any

from gateway.archive import Expected, Receipt
from gateway.archive.incoming import Incoming
from gateway.dimse import associate, command, pdu
from gateway.dimse.associate import Answer, ProposedContext, Request, UserInformation
from gateway.security.caller import Caller
from storage.dicom.identity import Identity
from storage.index import Outcome

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


@dataclass(frozen=True)
class Kept:
    """What an archive was given."""

    data: bytes
    expected: Expected
    by: Caller


class RememberingArchive:
    """Takes instances in as the Archive Protocol says; `fail` (called with them) may raise, `hold` may make it wait."""

    def __init__(self, *, max_bytes: int = 1 << 30, memory_bytes: int = 1 << 20) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dimse-test-"))
        self.kept: list[Kept] = []
        self.fail: Callable[[Kept], None] | None = None
        self.entered, self.hold = Event(), Event()
        self.hold.set()
        self.open = 0
        self._lock = Lock()
        self._limits = {"max_bytes": max_bytes, "memory_bytes": memory_bytes}

    def incoming(self) -> Incoming:
        return Incoming(self.folder, **self._limits)

    def store(self, incoming: Incoming, expected: Expected, *, by: Caller) -> Receipt:
        self.entered.set()
        assert self.hold.wait(20)
        with incoming.view() as view:
            kept = Kept(bytes(view), expected, by)
        if self.fail is not None:
            self.fail(kept)
        with self._lock:
            self.kept.append(kept)
        assert expected.sop_uid is not None and expected.sop_class is not None
        return Receipt(Identity("1", "1", expected.sop_uid, expected.sop_class), Outcome.NEW, 1, ())

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the DIMSE door has no business with {name}")


def user(**changes: Any) -> UserInformation:
    return UserInformation(**{"max_length": 16384, "implementation_class": "1.2.3.4", **changes})


class RawPeer:
    """A requestor on a plain socket, that can be as odd as a test wants."""

    def __init__(self, address: tuple[str, int], *, timeout: float = 10, source: str = "") -> None:
        self.sock = socket.create_connection(address, timeout, (source, 0) if source else None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.message_id = 0

    def __enter__(self) -> "RawPeer":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, *data: bytes) -> None:
        self.sock.sendall(b"".join(data))

    def read(self) -> tuple[int, bytes]:
        """The next PDU, or (0, b"") when the connection is closed."""
        header = self._exactly(6)
        if not header:
            return 0, b""
        kind, length = pdu.HEADER.unpack(header)
        return kind, self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                piece = self.sock.recv(length - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:
                assert not data, "the connection was closed inside a PDU"
                return b""
            data += piece
        return data

    def associate(self, *contexts: tuple[str, Iterable[str]], **changes: Any) -> Answer:
        """Propose (abstract syntax, transfer syntaxes) as contexts 1, 3, 5...; CT in two syntaxes when none."""
        proposals = contexts or ((VERIFICATION, (IMPLICIT,)), (CT, (EXPLICIT, IMPLICIT)))
        proposed = tuple(
            ProposedContext(2 * n + 1, uid, tuple(syntaxes)) for n, (uid, syntaxes) in enumerate(proposals)
        )
        fields = {"called": "GATEWAY", "calling": "RAW", "contexts": proposed, "user": user(), **changes}
        self.send(associate.encode_request(Request(**fields)))
        kind, body = self.read()
        assert kind == pdu.ASSOCIATE_AC, (kind, body)
        return associate.decode_answer(body)

    def store_command(self, sop_class: str = CT, sop_uid: str = "1.2.3", **changes: Any) -> bytes:
        self.message_id += 1
        elements = {
            command.AFFECTED_SOP_CLASS: sop_class,
            command.COMMAND_FIELD: command.C_STORE_RQ,
            command.MESSAGE_ID: self.message_id,
            command.PRIORITY: 0,
            command.DATA_SET_TYPE: 0,
            command.AFFECTED_SOP_INSTANCE: sop_uid,
        }
        elements.update(changes.get("elements", {}))
        return command.encode({key: value for key, value in elements.items() if value is not None})

    def echo_command(self, **changes: Any) -> bytes:
        self.message_id += 1
        elements: dict[int, Any] = {
            command.AFFECTED_SOP_CLASS: VERIFICATION,
            command.COMMAND_FIELD: command.C_ECHO_RQ,
            command.MESSAGE_ID: self.message_id,
            command.DATA_SET_TYPE: command.NO_DATA_SET,
        }
        return command.encode({**elements, **changes.get("elements", {})})

    def store(
        self, data: bytes, *, context_id: int = 3, sop_uid: str = "1.2.3", sop_class: str = CT
    ) -> command.Command:
        self.send(data_pdu(pdv(context_id, 3, self.store_command(sop_class, sop_uid))))
        self.send(data_pdu(pdv(context_id, 2, data)))
        return self.response()

    def echo(self, context_id: int = 1) -> int:
        self.send(data_pdu(pdv(context_id, 3, self.echo_command())))
        return self.response().number(command.STATUS)

    def response(self) -> command.Command:
        encoded = b""
        while True:
            kind, body = self.read()
            assert kind == pdu.DATA_TF, (kind, body)
            while body:
                length, _, control = pdu.PDV_HEADER.unpack_from(body)
                encoded, body = encoded + body[6 : 4 + length], body[4 + length :]
            if control & 2:
                return command.decode(encoded)

    def release(self) -> None:
        self.send(pdu.release_rq())
        assert self.read()[0] == pdu.RELEASE_RP
        assert self.read() == (0, b"")

    def aborted_for(self) -> int:
        """Assert that an A-ABORT by the service provider and the end of the connection come; gives the reason."""
        kind, body = self.read()
        assert (kind, body[2]) == (pdu.ABORT, 2), (kind, body)
        assert self.read() == (0, b"")
        return body[3]


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context_id, control) + data


def data_pdu(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return pdu.HEADER.pack(pdu.DATA_TF, len(body)) + body


def eventually(condition: Callable[[], bool], *, seconds: float = 5) -> None:
    """Assert that `condition` comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
