"""The archive of this place with its doors closed and its workers at rest, for commands that work on it directly."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from gateway import log
from gateway.compose_archive import Backend, open_archive
from gateway.config import Config, ConfigError


@contextmanager
def opened(settings: Config, *, must_exist: bool = True, any_stores: bool = False) -> Iterator[Backend]:
    """What `settings` describe; a gateway may run beside it. With `any_stores` not only those that the index means.

    Raises ConfigError when `must_exist` and there is no such data folder: one that is made now holds nothing.
    WrongStore for a store that is another than the index means. Else as `open_archive`.
    """
    if must_exist and not settings.data.is_dir():
        raise ConfigError(
            f"there is no data folder {settings.data}: name it with --data, or a configuration with --config; make it "
            "when it was lost"
        )
    log.configure("warning", settings.log.format)
    with closing(open_archive(settings, any_stores=any_stores)) as backend:
        backend.recognise()
        yield backend
