"""An application entity as a destination: C-STORE, over one association while its contexts suffice (PS3.4 B)."""

from collections.abc import Iterator, Sequence

from gateway.cli import statuses
from gateway.cli.delivery import Fate, Rejected, Sent, Unreachable
from gateway.cli.files import DicomFile
from gateway.dimse.requestor import AssociationRejected
from gateway.dimse.send import DimseSender, NotAccepted
from gateway.dimse.send import Unreachable as ConnectionLost
from storage.errors import Invalid


class AEDestination:
    """Sends each file as it is; a new association is made when one is lost or files of other kinds come."""

    max_files = 1000  # looked at ahead, to know what presentation contexts to propose
    max_bytes = 1 << 40

    def __init__(self, address: tuple[str, int], *, called: str, calling: str) -> None:
        self._address = address
        self._titles = (called, calling)
        self._sender: DimseSender | None = None
        self._contexts: frozenset[tuple[str, str]] = frozenset()

    def send(self, files: Sequence[DicomFile]) -> Iterator[Sent]:
        """See `Destination`."""
        sender = self._sender_for({(file.sop_class, file.transfer_syntax) for file in files if file.sop_class})
        for file in files:
            try:
                yield self._send_one(sender, file)
            except ConnectionLost as error:
                self.close()
                raise Unreachable(str(error)) from error
            except AssociationRejected as error:
                raise _rejection(error) from error

    def _sender_for(self, contexts: set[tuple[str, str]]) -> DimseSender:
        if self._sender is not None and contexts <= self._contexts:
            return self._sender
        self.close()
        called, calling = self._titles
        self._contexts = frozenset(contexts)
        self._sender = DimseSender(*self._address, called=called, calling=calling, contexts=sorted(contexts))
        return self._sender

    def _send_one(self, sender: DimseSender, file: DicomFile) -> Sent:
        try:
            status = sender.send(file.path)
        except (NotAccepted, Invalid) as error:
            return Sent(file, Fate.REFUSED, str(error))
        except OSError as error:
            return Sent(file, Fate.REFUSED, f"cannot be read: {error.strerror}")
        if statuses.is_success(status):
            return Sent(file, Fate.STORED)
        fate = Fate.LATER if statuses.is_temporary(status) else Fate.REFUSED
        return Sent(file, fate, statuses.describe(status))

    def close(self) -> None:
        if self._sender is not None:
            self._sender.close()
            self._sender = None


def _rejection(error: AssociationRejected) -> Exception:
    return Unreachable(str(error)) if error.is_transient else Rejected(str(error))
