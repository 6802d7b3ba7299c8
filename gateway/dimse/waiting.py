"""The connections that have no association: so many at most, and none that says nothing keeps out one that comes."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from gateway import log
from gateway.dimse.connection import Connection
from gateway.dimse.pdu import ConnectionLost

_LOG = log.get(__name__)


class WaitingRoom:
    """Places for connections that have not asked for an association yet, or linger after one. Thread-safe.

    Whoever comes when all are taken gets the place of another, which is cut: the oldest of the party that has most.
    So a party that fills the room loses its own connections and nobody else's; and since a peer asks for its
    association as soon as it is connected, the oldest is one that says nothing, also when all have one address.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._parties: dict[Connection, str] = {}  # the oldest first
        self._lock = Lock()

    def enter(self, connection: Connection, party: str) -> None:
        """A place for `connection`, which belongs to `party` (the address it comes from, as a rule)."""
        with self._lock:
            self._parties[connection] = party
            if len(self._parties) <= self._places:
                return
            loser = self._cut_one(party)
        _LOG.warning("connection without an association cut, another needs the place", party=loser)

    def _cut_one(self, newest: str) -> str:
        """Cut the oldest connection of the largest party, of that of the newest if several are; gives the party."""
        sizes = Counter(self._parties.values())
        most = max(sizes.values())
        party = newest if sizes[newest] == most > 1 else next(p for p in self._parties.values() if sizes[p] == most)
        oldest = next(connection for connection, its_party in self._parties.items() if its_party == party)
        del self._parties[oldest]
        oldest.cut()
        return party

    def leave(self, connection: Connection) -> str | None:
        """Give up the place; the party, or None when `connection` had been cut."""
        with self._lock:
            return self._parties.pop(connection, None)

    @contextmanager
    def left_by(self, connection: Connection) -> Iterator[None]:
        """`connection` has an association while in the context, and is not cut. Raises ConnectionLost if it was."""
        party = self.leave(connection)
        if party is None:
            raise ConnectionLost("the connection was cut to make room for another")
        try:
            yield
        finally:
            self.enter(connection, party)
