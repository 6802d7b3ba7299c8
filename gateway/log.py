"""What happens, for the operator: one line an event on standard error. The only file that knows structlog.

No patient data: libraries that log data sets or query strings are silenced, and an unexpected exception is logged
by its type and the places it passed, without its message and without local variables.
"""

import logging
import sys
import traceback
from types import TracebackType
from typing import Any, Literal, cast

import structlog
from structlog.typing import EventDict, Processor

from gateway.config import ConfigError
from storage.errors import StorageError

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]

_MESSAGE_IS_SAFE = (StorageError, ConfigError, OSError)
_MAX_PLACES = 30
# The lowest level at which each library is let through: below it they chatter, or quote values, data sets, URLs.
_FLOORS = {
    "pydicom": logging.ERROR,
    "pynetdicom": logging.WARNING,
    "uvicorn.access": logging.CRITICAL + 1,
    "uvicorn": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "alembic": logging.WARNING,
}


def configure(level: Level = "info", format: Format = "auto") -> None:
    """Send every log line of this process to standard error; `auto` is for people on a terminal, else JSON."""
    for_people = format == "console" or (format == "auto" and sys.stderr.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(number, before, _renderer(for_people))


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: `get(__name__).info("association opened", calling="CT1")`. Usable before `configure`."""
    return cast(structlog.stdlib.BoundLogger, structlog.get_logger(name))


def _renderer(for_people: bool) -> Processor:
    if for_people:
        return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer(ensure_ascii=False)


def _route_standard_logging(level: int, before: list[Processor], renderer: Processor) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            keep_exc_info=False,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name, floor in _FLOORS.items():
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = True
        library.setLevel(max(level, floor))


def _exception(logger: Any, method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by what is safe to keep: the types along the chain and the places passed."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given is True else None
    if isinstance(given, tuple):
        error = given[1]
    if error is not None:
        event["error"] = _described(error)
        event["places"] = _places(error.__traceback__)
        cause = error.__cause__ or error.__context__
        if cause is not None:
            event["cause"] = _described(cause)
    return event


def _described(error: BaseException) -> str:
    name = type(error).__qualname__
    return f"{name}: {error}" if isinstance(error, _MESSAGE_IS_SAFE) else name


def _places(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-_MAX_PLACES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
