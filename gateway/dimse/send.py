"""Sending Part 10 files by C-STORE: the data sets as they are, in bounded memory (PS3.4 B.2)."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from gateway.dimse import command, pdu, requestor
from gateway.dimse.association import Association, ReleaseRequested
from gateway.dimse.negotiation import Context
from gateway.dimse.part10 import read_file_meta
from gateway.dimse.pdu import UpperLayerError
from gateway.dimse.requestor import MAX_CONTEXTS, Proposal, request_association

CHUNK_BYTES = 1 << 20
CONNECT_TIMEOUT_SECONDS = 10.0
TIMEOUT_SECONDS = 300.0
RELEASE_TIMEOUT_SECONDS = 5.0


class Unreachable(Exception):
    """There is no connection, or it was lost: what was not answered may have been stored or not; send it again."""


class NotAccepted(Exception):
    """The peer does not take this SOP class in this transfer syntax."""


class DimseSender:
    """Sends files to one AE. Use as a context manager; not thread-safe.

    `contexts` are the (SOP Class UID, Transfer Syntax UID) pairs of the files to come: 128 are proposed in one
    association, more in further ones, each opened when its first file comes.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        called: str,
        calling: str,
        contexts: Iterable[Proposal],
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._address = (host, port)
        self._called = called
        self._calling = calling
        self._timeout_seconds = timeout_seconds
        self._groups = list(_groups(dict.fromkeys(contexts)))
        self._open: dict[int, Association] = {}
        self._message_id = 0

    def __enter__(self) -> Self:
        """Open the first association. Raises Unreachable, AssociationRejected."""
        if self._groups:
            self._association(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release what is open; every file sent has had its answer, so that a failure to release loses nothing."""
        while self._open:
            _, association = self._open.popitem()
            with suppress(UpperLayerError):
                requestor.release(association.connection, RELEASE_TIMEOUT_SECONDS)

    def send(self, path: Path) -> int:
        """The status that the peer answered (0000H: stored; PS3.4 B.2.3).

        Raises NotAccepted, Unreachable, AssociationRejected, Invalid for what is no Part 10 file, and OSError when
        the file cannot be read.
        """
        with path.open("rb") as file:
            meta = read_file_meta(file)
            group, context = self._place((meta.sop_class, meta.transfer_syntax))
            association = self._association(group)
            try:
                self._send_instance(association, context, meta.sop_uid, file)
                return self._status(association)
            except ReleaseRequested as error:
                self._drop(group)
                raise Unreachable("the peer released the association instead of answering") from error
            except UpperLayerError as error:
                self._drop(group)
                raise Unreachable(str(error)) from error
            except BaseException:
                self._drop(group)  # the peer waits in the middle of a message: the file cannot be read, or Ctrl-C
                raise

    def _place(self, proposal: Proposal) -> tuple[int, Context]:
        """The group that has `proposal`, and the presentation context accepted for it."""
        for number, group in enumerate(self._groups):
            if proposal in group:
                for context in self._association(number).contexts.values():
                    if (context.abstract_syntax, context.transfer_syntax) == proposal:
                        return number, context
                raise NotAccepted("the peer does not take this SOP class in this transfer syntax")
        raise NotAccepted("this SOP class and transfer syntax were not among those to propose")

    def _association(self, group: int) -> Association:
        if group not in self._open:
            try:
                self._open[group] = request_association(
                    self._address,
                    self._groups[group],
                    called=self._called,
                    calling=self._calling,
                    connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS,
                    timeout_seconds=self._timeout_seconds,
                )
            except OSError as error:
                raise Unreachable(f"no connection to {self._address[0]}:{self._address[1]}: {error}") from error
            except UpperLayerError as error:
                raise Unreachable(str(error)) from error
        return self._open[group]

    def _drop(self, group: int) -> None:
        self._open.pop(group).connection.close()

    def _send_instance(self, association: Association, context: Context, sop_uid: str, file: BinaryIO) -> None:
        self._message_id = self._message_id % 0xFFFF + 1
        request = command.encode(
            {
                command.AFFECTED_SOP_CLASS: context.abstract_syntax,
                command.COMMAND_FIELD: command.C_STORE_RQ,
                command.MESSAGE_ID: self._message_id,
                command.PRIORITY: 0,  # medium
                command.DATA_SET_TYPE: 0,
                command.AFFECTED_SOP_INSTANCE: sop_uid,
            }
        )
        association.send_message(context, request, iter(lambda: file.read(CHUNK_BYTES), b""))

    def _status(self, association: Association) -> int:
        message = association.receive_message(self._timeout_seconds)
        if message.command.number(command.MESSAGE_ID_RESPONDED_TO) != self._message_id:
            raise pdu.ProtocolError("the peer answered another message than the one sent")
        return message.command.number(command.STATUS)


def _groups(proposals: Iterable[Proposal]) -> Iterator[list[Proposal]]:
    remaining = iter(proposals)
    while group := list(islice(remaining, MAX_CONTEXTS)):
        yield group
