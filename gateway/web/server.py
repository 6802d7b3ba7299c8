"""The web door as a server: uvicorn on a socket that we bind ourselves, in a thread of its own."""

import asyncio
import logging
import socket
import threading

import uvicorn
from starlette.applications import Starlette

from gateway.config import Web, host_and_port
from gateway.web.protocol import bounded

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75  # longer than the idle time of common proxies, so that they close first
_START_SECONDS = 30
_AFTER_GRACE_SECONDS = 5


class WebServer:
    """Serves an application until it is stopped."""

    def __init__(self, app: Starlette, settings: Web, *, reuse_port: bool = False) -> None:
        self._settings = settings
        self._reuse_port = reuse_port
        self._server = _Server(_configured(app, settings))
        self._thread: threading.Thread | None = None
        self._address: tuple[str, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port as really bound (port 0 takes a free one); known once started."""
        assert self._address is not None, "the server has not been started"
        return self._address

    def start(self) -> None:
        """Take the port and answer requests from now on. Raises OSError when the port cannot be taken."""
        try:
            listener = _bound(self._settings, self._reuse_port)
        except OSError as error:
            raise OSError(error.errno, f"web cannot listen on {self._settings.listen}: {error.strerror}") from error
        self._address = listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="web", daemon=True)
        self._thread.start()
        if not self._server.answering.wait(_START_SECONDS):
            raise OSError("the web server did not start")

    def stop(self, timeout_seconds: float) -> None:
        """Take no more requests, finish those being answered, cut off what takes longer than this."""
        if self._thread is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, int(timeout_seconds))
        self._server.should_exit = True
        self._thread.join(timeout_seconds + _AFTER_GRACE_SECONDS)
        self._thread = None


class _Server(uvicorn.Server):
    """uvicorn's server that says when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()


def _cut_off(record: logging.LogRecord) -> bool:
    """Log filter: requests that are cut off because the gateway stops are one line, and no error."""
    if isinstance(record.msg, str) and "graceful shutdown exceeded" in record.msg:
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg = "%s requests are cut off while the gateway stops"
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _configured(app: Starlette, settings: Web) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").addFilter(_cut_off)
    return uvicorn.Config(
        app,
        http=bounded(settings.read_timeout_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


def _bound(settings: Web, reuse_port: bool) -> socket.socket:
    host, port = host_and_port(settings.listen)
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _give_up_on_silence(listener, settings.read_timeout_seconds)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _give_up_on_silence(listener: socket.socket, seconds: int) -> None:
    """Let the kernel close connections whose other end takes nothing for so long, or has vanished.

    The accepted sockets inherit these options. Without them a caller that stops reading would keep its answer, and
    the objects that it comes from, open for ever.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000)
