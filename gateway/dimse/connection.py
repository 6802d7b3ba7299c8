"""A TCP connection that carries PDUs: reads into one buffer, writes each PDU at once, never waits for ever."""

import socket
import time
from contextlib import suppress

from gateway.dimse.pdu import HEADER, AbortReason, ConnectionLost, ProtocolError, TimedOut
from storage.objects import Buffer

MAX_ASSOCIATE_BYTES = 1 << 20  # 128 contexts of 60 transfer syntaxes each fit
LINGER_SECONDS = 2.0
LINGER_BYTES = 4 << 20
_FIRST_BUFFER_BYTES = 1 << 16
_MAX_SEND_BUFFERS = 512  # below IOV_MAX everywhere
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class Connection:
    """One connected socket. Not thread-safe but for `wake` and `cut`."""

    def __init__(self, sock: socket.socket, *, send_timeout_seconds: float) -> None:
        with suppress(OSError):  # some systems refuse this when the peer is gone already; reading will tell
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = sock
        self._send_timeout_seconds = send_timeout_seconds
        self._max_pdu_bytes = MAX_ASSOCIATE_BYTES
        self._view = memoryview(bytearray(_FIRST_BUFFER_BYTES))
        self._start = self._end = 0

    def limit_pdus(self, max_pdu_bytes: int) -> None:
        """From now on PDUs of more than this are a protocol error; the buffer is made to suit."""
        self._max_pdu_bytes = max_pdu_bytes
        size = max(2 * (max_pdu_bytes + HEADER.size), self._end - self._start)
        self._move_to(memoryview(bytearray(size)))

    def read_pdu(self, within_seconds: float) -> tuple[int, memoryview]:
        """The type and body of the next PDU; the body is valid until the next call.

        The whole PDU must be there within the time. Raises TimedOut, ConnectionLost or ProtocolError (too long).
        """
        deadline = time.monotonic() + within_seconds
        self._fill(HEADER.size, deadline)
        kind, length = HEADER.unpack_from(self._view, self._start)
        if kind < 1 or kind > 7:
            raise ProtocolError("not a PDU of the DICOM upper layer", AbortReason.UNRECOGNIZED_PDU)
        if length > self._max_pdu_bytes:
            raise ProtocolError(f"a PDU is longer than the limit of {self._max_pdu_bytes} bytes")
        self._fill(HEADER.size + length, deadline)
        body = self._start + HEADER.size
        self._start = body + length
        return kind, self._view[body : body + length]

    def _fill(self, need: int, deadline: float) -> None:
        """Have at least `need` bytes in the buffer."""
        if self._end - self._start >= need:
            return
        if self._start == self._end:
            self._start = self._end = 0
        if self._start + need > len(self._view):
            self._move_to(self._view if need <= len(self._view) else memoryview(bytearray(need)))
        while self._end - self._start < need:
            self._end += self._receive(self._view[self._end :], deadline)

    def _receive(self, into: memoryview, deadline: float) -> int:
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            if _QUICKACK is not None:
                # Senders that write a PDU in two pieces wait for our acknowledgement of the first (Nagle); it must
                # not be delayed by 40 ms. The kernel forgets this wish, so it is repeated.
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            got = self._socket.recv_into(into)
        except TimeoutError as error:
            raise TimedOut("the peer sent nothing for too long") from error
        except OSError as error:
            raise ConnectionLost("the connection failed while receiving") from error
        if got == 0:
            raise ConnectionLost("the peer closed the connection")
        return got

    def _move_to(self, view: memoryview) -> None:
        """Bring the bytes not read yet to the front of `view`, which may be the present buffer."""
        kept = self._end - self._start
        view[:kept] = self._view[self._start : self._end]
        self._view, self._start, self._end = view, 0, kept

    def send(self, *buffers: Buffer) -> None:
        """Write all of it, in one system call when the kernel takes it. Raises TimedOut or ConnectionLost."""
        pending = [memoryview(buffer) for buffer in buffers]
        try:
            self._socket.settimeout(self._send_timeout_seconds)
            while pending:
                sent = self._socket.sendmsg(pending[:_MAX_SEND_BUFFERS])
                pending = _unsent(pending, sent)
        except TimeoutError as error:
            raise TimedOut("the peer does not take what is sent") from error
        except OSError as error:
            raise ConnectionLost("the connection failed while sending") from error

    def finish(self) -> None:
        """Close after the last PDU, so that the peer can read it: wait a little for the peer to close first.

        Closing while bytes of the peer lie unread would reset the connection and could destroy our last PDU.
        """
        with suppress(OSError, ConnectionLost, TimedOut):  # the peer is gone, which is all that is waited for
            self._socket.shutdown(socket.SHUT_WR)
            deadline, budget = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
            while budget > 0 and time.monotonic() < deadline:
                budget -= self._receive(self._view, deadline)
        self.close()

    def dismiss(self, last_pdu: bytes) -> None:
        """Close with a last PDU and wait for nothing. A peer that was sending may see a reset in its place."""
        with suppress(OSError):  # the peer is gone, or its kernel takes nothing: it is told nothing then
            self._socket.setblocking(False)
            self._socket.send(last_pdu)
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.recv_into(self._view)  # what lies unread when the socket is closed would reset it
        self.close()

    def wake(self) -> None:
        """From another thread: whoever waits for a PDU finds the connection closed, but can still send."""
        self._shutdown(socket.SHUT_RD)

    def cut(self) -> None:
        """From another thread: end it now."""
        self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        with suppress(OSError):  # closed already
            self._socket.shutdown(how)

    def close(self) -> None:
        self._socket.close()


def _unsent(buffers: list[memoryview], sent: int) -> list[memoryview]:
    for position, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [buffer[sent:], *buffers[position + 1 :]]
        sent -= len(buffer)
    return []
