"""Turns a Config into the objects that make up a gateway. The only file that does, with `gateway.compose_archive`: the
archive of this place, and in front of it the two doors, which hold that archive and nothing else.
"""

import time
from dataclasses import dataclass
from enum import StrEnum
from threading import Thread
from urllib.parse import urlsplit

from gateway import metrics
from gateway.archive.renderings import Renderings
from gateway.compose_archive import Backend, Upkeep, open_archive
from gateway.config import Config, host_and_port
from gateway.dimse.server import DimseServer
from gateway.security.ae_rules import AERules
from gateway.security.policy import RightsPolicy
from gateway.security.tokens import Tokens
from gateway.web import app as web_app
from gateway.web.server import WebServer

_HANG_UP_SECONDS = 3.0  # before the doors cut off what they still answer


class Role(StrEnum):
    """A part of the gateway that can run alone (`gateway serve --only`)."""

    WEB = "web"
    DIMSE = "dimse"
    WORKERS = "workers"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A composed gateway: what must be started, in order, and stopped."""

    backend: Backend
    dimse: DimseServer | None
    web: WebServer | None

    def start(self) -> None:
        """Check that the archive works, then open the doors. Raises Unavailable, or OSError when a port is taken."""
        self.backend.start()
        if self.dimse is not None:
            self.dimse.start()
        if self.web is not None:
            self.web.start()

    def stop(self, timeout_seconds: float) -> None:
        """Close both doors at once, letting what was begun finish, then everything behind them.

        Shortly before the time is over nobody waits for a bucket any more, so that whoever did still gets an answer.
        """
        closing = [part.stop for part in (self.dimse, self.web, self.backend.workers) if part is not None]
        threads = [Thread(target=stop, args=(timeout_seconds,)) for stop in closing]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + max(0.0, timeout_seconds - _HANG_UP_SECONDS)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            self.backend.places.hang_up()
        for thread in threads:
            thread.join()
        self.backend.close()


def compose(
    config: Config, only: Role | None = None, *, reuse_port: bool = False, with_workers: bool = True
) -> Gateway:
    """Everything that `config` asks for, opened but not yet listening. Raises Unavailable, OSError."""
    upkeep = Upkeep.EVERYTHING if only in (None, Role.WORKERS) else Upkeep.CACHE
    backend = open_archive(config, upkeep if with_workers else Upkeep.NOTHING)
    dimse = web = None
    if only in (None, Role.DIMSE):
        rules = AERules(config.dimse, config.security, audit=backend.audit)
        dimse = DimseServer(backend.archive, rules, config.dimse, reuse_port=reuse_port)
    if only is not Role.DIMSE:
        tokens = Tokens(config.security.tokens, audit=backend.audit)
        application = web_app.build(
            backend.archive if only is not Role.WORKERS else None,
            tokens.authenticate,
            config.web,
            ready=backend.archive.check,
            metrics_text=metrics.render,
            hosts=own_names(config),
            renderings=_renderings(backend) if only is not Role.WORKERS else None,
        )
        web = WebServer(application, config.web, reuse_port=reuse_port)
    return Gateway(backend, dimse, web)


def _renderings(backend: Backend) -> Renderings:
    """Of what is stored: what is made of it for other readers would be decoded twice."""
    return Renderings(backend.local, backend.index.locate, backend.pixels, RightsPolicy(), backend.audit)


def own_names(config: Config) -> list[str] | None:
    """The host names by which requests may call, None for any; limited where everybody on this machine is let in."""
    if config.security.tokens or config.security.open:
        return None
    public = urlsplit(config.web.public_url).hostname
    return ["localhost", "127.0.0.1", "::1", host_and_port(config.web.listen)[0], *([public] if public else [])]
