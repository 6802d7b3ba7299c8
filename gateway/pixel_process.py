"""A process of the pool for pixels: calls what it is sent, one after another, until the other side is gone.

Codecs are not proof against all bytes: what crashes or hangs here takes one answer along, not the gateway. Nothing is
imported before it is needed, so that a process is there soon.
"""

import signal
import sys
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

from storage.errors import Exhausted, StorageError


class Call(NamedTuple):
    """What to do: `function` by its module and name, with whatever pickles."""

    module: str
    name: str
    arguments: tuple[Any, ...]
    seconds: int  # after these the process ends itself, should nobody be left to end it


class Failed(NamedTuple):
    """What a call raised instead of giving a result."""

    error: Exception


def main(descriptor: int) -> None:
    """Serve calls that come through the socket `descriptor`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which lets us end in order
    connection = Connection(descriptor)
    while True:
        try:
            connection.send_bytes(_answer(connection.recv()))
        except (EOFError, OSError):
            return
        signal.alarm(0)


def _answer(call: Call) -> memoryview:
    signal.alarm(call.seconds)
    try:
        __import__(call.module)
        function = getattr(sys.modules[call.module], call.name)
        return _pickled(function(*call.arguments))
    except StorageError as error:
        return _pickled(Failed(error))
    except MemoryError:
        return _pickled(Failed(Exhausted("there is not enough memory for these pixels")))
    except Exception as error:  # told by its type alone: what it says may hold values of a data set
        return _pickled(Failed(RuntimeError(f"{call.name} failed: {type(error).__name__}{_place(error)}")))


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" in {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"


def _pickled(answer: object) -> memoryview:
    return ForkingPickler.dumps(answer)
