"""`gateway serve`: the whole gateway in one command."""

import logging
import os
import signal
import socket
import sys
import tempfile
from functools import partial
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer

from gateway import log
from gateway.cli import workers
from gateway.compose import Gateway, Role, compose
from gateway.config import Config, ConfigError, is_loopback, load
from storage.errors import StorageError

USAGE_ERROR = 2


def serve(
    data: Annotated[Path | None, typer.Option(help="Folder for everything that is kept.  [default: data]")] = None,
    web: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where DICOMweb listens.")] = None,
    dimse: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where DIMSE listens.")] = None,
    ae_title: Annotated[str | None, typer.Option(metavar="AET", help="AE title of this gateway.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Configuration file (TOML).")] = None,
    worker_count: Annotated[
        int | None, typer.Option("--workers", min=1, metavar="N", help="Processes that share the two ports.")
    ] = None,
    only: Annotated[
        Role | None,
        typer.Option(
            help="Run one part alone; workers seal, compact, copy and remove, and show metrics where web listens."
        ),
    ] = None,
) -> None:
    """Receive by C-STORE and STOW-RS, answer QIDO-RS and WADO-RS, until SIGTERM or Ctrl-C."""
    try:
        settings = load(config, flags(data=data, web=web, dimse=dimse, ae_title=ae_title, workers=worker_count))
        log.configure(settings.log.level, settings.log.format)
        if settings.workers > 1:
            with tempfile.TemporaryDirectory(prefix="gateway-metrics-") as shared:
                os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared  # the workers add their counters up in files there
                workers.supervise(settings, only, run=run_until_stopped, announce=partial(announce, only=only))
            return
        stop = Event()
        stop_on_signals(stop)
        run_until_stopped(
            settings, only, stop, ready=lambda gateway: announce(settings, *addresses(gateway), only=only)
        )
    except ConfigError as error:
        fail(str(error))
    except (StorageError, OSError, workers.WorkersError) as error:
        fail(f"cannot start: {getattr(error, 'strerror', None) or error}")


def fail(message: str) -> None:
    """Say what is wrong and leave with the status for "not started"."""
    print(f"gateway: {message}", file=sys.stderr)
    raise typer.Exit(USAGE_ERROR)


def flags(
    *, data: Path | None, web: str | None, dimse: str | None, ae_title: str | None, workers: int | None
) -> dict[str, Any]:
    """The command's options as the tables of the configuration, those given only."""
    given: dict[str, Any] = {"data": data, "workers": workers}
    given["web"] = {"listen": web} if web is not None else None
    given["dimse"] = {k: v for k, v in (("listen", dimse), ("ae_title", ae_title)) if v is not None} or None
    return {key: value for key, value in given.items() if value is not None}


def run_until_stopped(
    settings: Config,
    only: Role | None,
    stop: Event,
    *,
    ready: Any,
    reuse_port: bool = False,
    with_workers: bool = True,
) -> None:
    """Open the gateway, call `ready(gateway)`, wait for `stop`, and close it cleanly."""
    for doubt in settings.doubts:
        log.get(__name__).warning(doubt)
    gateway = compose(settings, only, reuse_port=reuse_port, with_workers=with_workers)
    try:
        gateway.start()
        ready(gateway)
        stop.wait()
    finally:
        gateway.stop(settings.shutdown_seconds)


def stop_on_signals(stop: Event) -> None:
    """Let SIGTERM and SIGINT end the process in order."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())


def addresses(gateway: Gateway) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """The addresses really bound: web, DIMSE."""
    return (
        gateway.web.address if gateway.web is not None else None,
        gateway.dimse.address if gateway.dimse is not None else None,
    )


def announce(
    settings: Config, web: tuple[str, int] | None, dimse: tuple[str, int] | None, *, only: Role | None = None
) -> None:
    """Print one line for each address; the last line says that requests are answered now."""
    if web is not None:
        root = f"http://{_shown(web)}"
        if only is not Role.WORKERS:
            print(f"DICOMweb  {root}/dicomweb")
        print(f"Health    {root}/healthz  {root}/readyz  {root}/metrics")
    if dimse is not None:
        print(f"DIMSE     {_shown(dimse)}  AE title {settings.dimse.ae_title}")
    print(f"Data      {settings.data.resolve()}")
    open_to_all = settings.security.open and not (
        is_loopback(settings.web.listen) and is_loopback(settings.dimse.listen)
    )
    if open_to_all:
        logging.getLogger("gateway").warning("[security] open = true: everybody who can reach the ports is let in")
    print("Ready", flush=True)


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()  # every address of this machine; its name is one that can be opened
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
