"""The DIMSE server: listens, gives each connection a thread, and ends them all in order."""

import errno
import socket
import time
from contextlib import suppress
from threading import Event, Lock, Thread, current_thread

from gateway import log, metrics
from gateway.archive import Archive
from gateway.config import Dimse, host_and_port
from gateway.dimse import pdu
from gateway.dimse.acceptor import Acceptor, Door, Rules
from gateway.dimse.connection import Connection
from gateway.dimse.limits import Limits
from gateway.dimse.waiting import WaitingRoom

_LOG = log.get(__name__)

# Connections beside those associated: they may be asking for an association, or reading the last PDU.
MAX_WAITING = 64
# Threads of connections that were cut and are about to end.
MAX_ENDING = 64
# All addresses that no caller has are one party in the waiting room, however many they are.
_STRANGERS = "strangers"
# When it is full the kernel drops who comes, and most systems try again after a whole second.
BACKLOG = 1024
SEND_TIMEOUT_SECONDS = 30.0
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_SECONDS = 0.1
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_LAST_MOMENT_SECONDS = 0.5


class DimseServer:
    """C-ECHO and C-STORE for `archive`, on the address of `settings`.

    `reuse_port` lets several processes share the port (Linux and BSD: SO_REUSEPORT).
    """

    def __init__(self, archive: Archive, rules: Rules, settings: Dimse, *, reuse_port: bool = False) -> None:
        self._settings = settings
        self._reuse_port = reuse_port
        self._stopping = Event()
        limits = Limits(settings.max_associations, settings.max_associations_per_caller)
        self._waiting = WaitingRoom(MAX_WAITING)
        self._door = Door(archive, rules, settings, limits, self._waiting, self._stopping.is_set)
        self._max_threads = settings.max_associations + MAX_WAITING + MAX_ENDING
        self._listeners: list[socket.socket] = []
        self._accepting: list[Thread] = []
        self._serving: dict[Thread, Acceptor] = {}
        self._lock = Lock()

    def start(self) -> None:
        """Listen on every address that the configured host names. Raises OSError when the port is taken."""
        host, port = host_and_port(self._settings.listen)
        try:
            for family, address in _addresses(host, port):
                self._listen(family, (address, self.address[1] if self._listeners else port))
        except OSError as error:
            self._close_listeners()
            raise OSError(error.errno, f"DIMSE cannot listen on {self._settings.listen}: {error.strerror}") from error
        for listener in self._listeners:
            thread = Thread(target=self._accept, args=(listener,), name="dimse-accept", daemon=True)
            self._accepting.append(thread)
            thread.start()

    def _listen(self, family: socket.AddressFamily, address: tuple[str, int]) -> None:
        dual_stack = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        try:
            listener = socket.create_server(
                address, family=family, backlog=BACKLOG, reuse_port=self._reuse_port, dualstack_ipv6=dual_stack
            )
        except OSError as error:
            if self._listeners and error.errno in _NO_SUCH_ADDRESS:
                return  # a name such as localhost also stands for an address that this machine does not have
            raise
        self._listeners.append(listener)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port really bound, of the first address when there are several."""
        host, port = self._listeners[0].getsockname()[:2]
        return host, port

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                sock, peer = listener.accept()
            except OSError as error:
                if self._stopping.is_set():
                    return
                _LOG.error("cannot accept a connection", error=error.strerror)
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._stopping.wait(_PAUSE_SECONDS)
                continue
            self._serve(sock, _plain(peer[0]))

    def _serve(self, sock: socket.socket, address: str) -> None:
        """Give the connection a thread; when there are too many already, reject without one."""
        connection = Connection(sock, send_timeout_seconds=SEND_TIMEOUT_SECONDS)
        acceptor = Acceptor(connection, address, self._door)
        if not self._start_thread(acceptor, address):
            _turn_away(connection, address)

    def _start_thread(self, acceptor: Acceptor, address: str) -> bool:
        """Serve in a thread of its own, unless there are too many or the system gives none."""
        party = address if self._door.rules.knows(address) else _STRANGERS
        thread = Thread(target=self._run, args=(acceptor,), name=f"dimse-{address}", daemon=True)
        with self._lock:
            if self._stopping.is_set() or len(self._serving) >= self._max_threads:
                return False
            self._serving[thread] = acceptor
            self._waiting.enter(acceptor.connection, party)
            try:
                thread.start()
            except RuntimeError:
                self._waiting.leave(acceptor.connection)
                del self._serving[thread]
                return False
        return True

    def _run(self, acceptor: Acceptor) -> None:
        try:
            acceptor.run()
        finally:
            self._waiting.leave(acceptor.connection)
            with self._lock:
                del self._serving[current_thread()]

    def stop(self, timeout_seconds: float) -> None:
        """Accept no more, let messages that are being worked on end with their answer, abort the rest. Idempotent."""
        deadline = time.monotonic() + timeout_seconds
        self._stopping.set()
        self._close_listeners()
        for acceptor in self._serving_now().values():
            if not acceptor.busy:
                acceptor.connection.wake()
        self._join(deadline - _LAST_MOMENT_SECONDS)
        for acceptor in self._serving_now().values():
            _LOG.warning("association cut off, it did not end in time")
            acceptor.connection.cut()
        self._join(deadline)

    def _serving_now(self) -> dict[Thread, Acceptor]:
        with self._lock:
            return dict(self._serving)

    def _join(self, deadline: float) -> None:
        for thread in [*self._accepting, *self._serving_now()]:
            thread.join(max(deadline - time.monotonic(), 0))

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            with suppress(OSError):  # not connected, say some systems; Linux ends the accept that waits
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def _turn_away(connection: Connection, address: str) -> None:
    """Reject a connection for which there is no thread, without hearing it (PS3.8 9.3.4: congestion, transient).

    Nobody is known to have asked for anything, so this is logged and counted, not audited.
    """
    metrics.association_rejected()
    _LOG.warning("association rejected", address=address, result="2/3/1", why="too many connections")
    connection.dismiss(pdu.reject(2, 3, 1))


def _plain(address: str) -> str:
    """An IPv4 peer of a socket that listens on IPv4 and IPv6 (`::ffff:10.0.0.1`) as the IPv4 address it is."""
    return address.removeprefix("::ffff:") if "." in address else address


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))
