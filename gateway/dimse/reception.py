"""Receiving one data set into an Incoming: fragments as they come, and what happens when they cannot be kept."""

from gateway.archive.incoming import Incoming
from gateway.dimse.pdu import AbortReason, ProtocolError
from storage.objects import Buffer

MAX_DISCARDED_BYTES = 4 << 30


class Discard:
    """Takes a data set that will not be stored and forgets it; the sender is heard out so that it gets its answer."""

    def __init__(self) -> None:
        self._length = 0

    def write(self, fragment: Buffer) -> None:
        """Raises ProtocolError when what cannot be stored does not end."""
        self._length += len(fragment)
        if self._length > MAX_DISCARDED_BYTES:
            raise ProtocolError("a data set that cannot be stored does not end", AbortReason.NOT_SPECIFIED)


class Reception:
    """Takes a data set into `incoming`; when that fails, `failure` says why and the rest is discarded."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._discard = Discard()
        self.failure: Exception | None = None

    def write(self, fragment: Buffer) -> None:
        """Keep or discard; raises ProtocolError as `Discard` does, and nothing else."""
        if self.failure is not None:
            self._discard.write(fragment)
            return
        try:
            self._incoming.write(fragment)
        except Exception as error:  # raised again, in effect: it becomes the status of the response
            self.failure = error
            self._incoming.close()
