"""Turns a Config into the objects that make up a gateway. The only file that does; read it first.

The wiring, from the bottom: a spool (object store) and an index make the local archive; the guard puts policy and
audit around it, the meter counts and times what is left; the two doors hold that archive and nothing else.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

from gateway import log, metrics
from gateway.archive.guarded import GuardedArchive
from gateway.archive.local import LocalArchive
from gateway.archive.metered import MeteredArchive
from gateway.config import Config, ConfigError, host_and_port
from gateway.dimse.server import DimseServer
from gateway.security.ae_rules import AERules
from gateway.security.audit import JsonLinesAudit
from gateway.security.policy import RightsPolicy
from gateway.security.tokens import Tokens
from gateway.web import app as web_app
from gateway.web.server import WebServer
from storage.errors import Exhausted
from storage.index.sqlite import SqliteIndex
from storage.objects.disk import DiskStore
from storage.objects.folders import make_durable


class Role(StrEnum):
    """A part of the gateway that can run alone (`gateway serve --only`)."""

    WEB = "web"
    DIMSE = "dimse"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A composed gateway: what must be started, in order, and stopped."""

    local: LocalArchive
    spool: DiskStore
    index: SqliteIndex
    audit: JsonLinesAudit
    dimse: DimseServer | None
    web: WebServer | None

    def start(self) -> None:
        """Check that the archive works, then open the doors. Raises Unavailable, or OSError when a port is taken."""
        try:
            self.local.check()
        except Exhausted as error:
            # What is stored can be read all the same; stores are refused until there is room.
            log.get(__name__).warning("nothing can be stored now", why=str(error))
        self._look_for_a_lost_index()
        if self.dimse is not None:
            self.dimse.start()
        if self.web is not None:
            self.web.start()

    def _look_for_a_lost_index(self) -> None:
        if not self.index.changes(0, 1) and next(self.spool.scan("spool/"), None) is not None:
            log.get(__name__).error(
                "the index is empty, but the object store holds instances: if the index was lost or moved, stop the "
                "gateway and put it back; until then what is stored cannot be found"
            )

    def stop(self, timeout_seconds: float) -> None:
        """Close both doors at once, letting what was begun finish, then everything behind them."""
        doors = [door for door in (self.dimse, self.web) if door is not None]
        closing = [Thread(target=door.stop, args=(timeout_seconds,)) for door in doors]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        self.index.close()
        self.spool.close()
        self.audit.close()


def compose(config: Config, only: Role | None = None, *, reuse_port: bool = False) -> Gateway:
    """Everything that `config` asks for, opened but not yet listening. Raises ConfigError, Unavailable, OSError."""
    _make(config.data)
    spool = open_spool(config)
    index = open_index(config)
    local = LocalArchive(spool, index, staging=spool.staging, ingest=config.ingest, check_room=spool.check_room)
    audit = JsonLinesAudit(folder(config, config.audit.folder, "audit"), config.audit.max_bytes_per_file)
    archive = MeteredArchive(GuardedArchive(local, RightsPolicy(), audit))

    dimse = web = None
    if only is not Role.WEB:
        rules = AERules(config.dimse, config.security, audit=audit)
        dimse = DimseServer(archive, rules, config.dimse, reuse_port=reuse_port)
    if only is not Role.DIMSE:
        tokens = Tokens(config.security.tokens, audit=audit)
        application = web_app.build(
            archive,
            tokens.authenticate,
            config.web,
            ready=archive.check,
            metrics_text=metrics.render,
            hosts=own_names(config),
        )
        web = WebServer(application, config.web, reuse_port=reuse_port)
    return Gateway(local, spool, index, audit, dimse, web)


def open_spool(config: Config) -> DiskStore:
    """The object store in which instances land."""
    root = _path_of(config.spool.url, "file", "[spool] url") if config.spool.url else config.data / "objects"
    return DiskStore(root, min_free_bytes=config.spool.min_free_bytes)


def open_index(config: Config) -> SqliteIndex:
    """The catalogue; made or migrated when it is opened."""
    path = _path_of(config.index.url, "sqlite", "[index] url") if config.index.url else config.data / "index.sqlite"
    _make(path.parent)
    return SqliteIndex(path, group_max=config.index.group_max)


def own_names(config: Config) -> list[str] | None:
    """The host names by which requests may call, None for any; limited where everybody on this machine is let in."""
    if config.security.tokens or config.security.open:
        return None
    public = urlsplit(config.web.public_url).hostname
    return ["localhost", "127.0.0.1", "::1", host_and_port(config.web.listen)[0], *([public] if public else [])]


def folder(config: Config, chosen: str, name: str) -> Path:
    """The configured folder, or `name` below the data folder; made if it is not there."""
    path = Path(chosen) if chosen else config.data / name
    _make(path)
    return path


def _make(folder: Path) -> None:
    try:
        make_durable(folder)
    except OSError as error:
        raise OSError(error.errno, f"the folder {folder} cannot be used: {error.strerror}") from error


def _path_of(url: str, scheme: str, key: str) -> Path:
    """`scheme:///relative` or `scheme:////absolute` for SQLite; `file:///absolute` or `file:relative` for folders."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme != scheme or parts.netloc or not path.strip("/"):
        raise ConfigError(f'{key} = "{url}" is not supported: write "{scheme}:///path"')
    return Path(path.removeprefix("/")) if scheme == "sqlite" else Path(path)
