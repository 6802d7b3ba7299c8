"""The archive of this place with its doors closed and its workers at rest, for commands that work on it directly."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway import log
from gateway.compose import Gateway, Role, compose
from gateway.config import Config, ConfigError


@contextmanager
def opened(settings: Config, *, must_exist: bool = True) -> Iterator[Gateway]:
    """What `settings` describe; a gateway may run beside it.

    Raises ConfigError when `must_exist` and there is no such data folder: one that is made now holds nothing. Else as
    `compose`.
    """
    if must_exist and not settings.data.is_dir():
        raise ConfigError(
            f"there is no data folder {settings.data}: name it with --data, or a configuration with --config; make it "
            "when it was lost"
        )
    log.configure("warning", settings.log.format)
    gateway = compose(settings, Role.WORKERS, with_workers=False)
    try:
        yield gateway
    finally:
        gateway.stop(settings.shutdown_seconds)
