"""An established association: messages of command set and data set over P-DATA-TF (PS3.8 9.3.5; PS3.7 6.3)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gateway.dimse import command as dimse_command
from gateway.dimse.command import MAX_COMMAND_BYTES, Command
from gateway.dimse.connection import Connection
from gateway.dimse.negotiation import Context
from gateway.dimse.pdu import (
    ABORT,
    COMMAND,
    DATA_TF,
    LAST,
    MIN_PDU_BYTES,
    PDV_HEADER,
    PDV_OVERHEAD,
    RELEASE_RQ,
    Aborted,
    AbortReason,
    ProtocolError,
    data_header,
)
from storage.objects import Buffer

_MAX_EMPTY_FRAGMENTS = 1000
_UNLIMITED_PDU_BYTES = 1 << 20  # what is sent to a peer that sets no limit


class ReleaseRequested(Exception):
    """The peer asked to release the association; it waits for A-RELEASE-RP."""


@dataclass(frozen=True, slots=True)
class Message:
    """A command set that came on a presentation context; its data set, if any, is still to be received."""

    context: Context
    command: Command


class Association:
    """Messages in and out over a connection that has been negotiated; the same for requestor and acceptor.

    Raises ProtocolError when the peer takes PDUs only that are too small to be of use.
    """

    def __init__(
        self, connection: Connection, contexts: Mapping[int, Context], *, peer_max_pdu_bytes: int, read_timeout: float
    ) -> None:
        self.connection = connection
        self.contexts = contexts
        if 0 < peer_max_pdu_bytes < MIN_PDU_BYTES:
            raise ProtocolError("the maximum PDU length of the peer is too small")
        longest = min(peer_max_pdu_bytes or _UNLIMITED_PDU_BYTES, _UNLIMITED_PDU_BYTES) - PDV_OVERHEAD
        self._max_fragment = longest - longest % 2  # fragments have an even length (PS3.8 E.1)
        self._read_timeout = read_timeout
        self._pdu = memoryview(b"")
        self._position = 0

    def receive_message(self, within_seconds: float) -> Message:
        """The next command set. Raises ReleaseRequested, or UpperLayerError when the association cannot go on."""
        context_id, control, fragment = self._next_fragment(within_seconds)
        context = self.contexts.get(context_id)
        if context is None:
            raise ProtocolError("a message came on a presentation context that was not accepted")
        if control == COMMAND | LAST:  # nearly always
            return Message(context, dimse_command.decode(fragment))
        received, cost = bytearray(), 0
        while True:
            if not control & COMMAND:
                raise ProtocolError("a data set came where a command set was due", AbortReason.UNEXPECTED_PARAMETER)
            received += fragment
            cost += len(fragment) + PDV_OVERHEAD
            if cost > MAX_COMMAND_BYTES:
                raise ProtocolError("a command set is too long")
            if control & LAST:
                return Message(context, dimse_command.decode(received))
            control, fragment = self._fragment_of(context)

    def receive_data_set(self, context: Context, write: Callable[[Buffer], None]) -> None:
        """Give the data set of the last message to `write`, piece by piece; each is valid during the call only."""
        empty = 0
        while True:
            control, fragment = self._fragment_of(context)
            if control & COMMAND:
                raise ProtocolError("a command set came inside a data set", AbortReason.UNEXPECTED_PARAMETER)
            if fragment:
                write(fragment)
            if control & LAST:
                return
            empty += not fragment
            if empty > _MAX_EMPTY_FRAGMENTS:
                raise ProtocolError("a data set consists of empty fragments")

    def _fragment_of(self, context: Context) -> tuple[int, memoryview]:
        """Control header and bytes of the next fragment of a message that has begun on `context`."""
        try:
            context_id, control, fragment = self._next_fragment(self._read_timeout)
        except ReleaseRequested as error:
            raise ProtocolError("a release was requested inside a message", AbortReason.UNEXPECTED_PDU) from error
        if context_id != context.context_id:
            raise ProtocolError("one message came on two presentation contexts", AbortReason.UNEXPECTED_PARAMETER)
        return control, fragment

    def _next_fragment(self, within_seconds: float) -> tuple[int, int, memoryview]:
        """Context ID, control header and bytes of the next presentation data value, valid until the next call."""
        if self._position == len(self._pdu):
            self._next_data_pdu(within_seconds)
        start = self._position + PDV_OVERHEAD
        if start > len(self._pdu):
            raise ProtocolError("a P-DATA-TF PDU is cut short or empty")
        length, context_id, control = PDV_HEADER.unpack_from(self._pdu, self._position)
        end = start + length - 2
        if length < 2 or end > len(self._pdu):
            raise ProtocolError("a presentation data value does not fit its PDU")
        self._position = end
        return context_id, control, self._pdu[start:end]

    def _next_data_pdu(self, within_seconds: float) -> None:
        kind, body = self.connection.read_pdu(within_seconds)
        if kind == RELEASE_RQ:
            raise ReleaseRequested
        if kind == ABORT:
            raise Aborted("the peer aborted the association")
        if kind != DATA_TF:
            raise ProtocolError(f"PDU type {kind} is not expected here", AbortReason.UNEXPECTED_PDU)
        self._pdu, self._position = body, 0

    def send_message(self, context: Context, command: bytes, data_set: Iterable[bytes] | None = None) -> None:
        """Send an encoded command set, and the pieces of a data set as they come.

        No PDU is longer than the peer takes (PS3.8 D.1); what is at hand goes out in one system call.
        """
        pending = self._fragments(context, command, COMMAND, is_end=True)
        if data_set is not None:
            previous = b""
            for piece in data_set:
                if previous:
                    self.connection.send(*pending, *self._fragments(context, previous, 0, is_end=False))
                    pending = []
                previous = piece
            pending += self._fragments(context, previous, 0, is_end=True)
        self.connection.send(*pending)

    def _fragments(self, context: Context, data: bytes, kind: int, *, is_end: bool) -> list[Buffer]:
        """P-DATA-TF PDUs of one fragment each, at least one; the last is marked so when `data` ends its part."""
        buffers: list[Buffer] = []
        view = memoryview(data)
        for start in range(0, max(len(data), 1), self._max_fragment):
            piece = view[start : start + self._max_fragment]
            last = LAST if is_end and start + len(piece) == len(data) else 0
            buffers += (data_header(context.context_id, kind | last, len(piece)), piece)
        return buffers
