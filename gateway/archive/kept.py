"""Bytes kept in a nameless file while a request needs them: gone when nobody holds it any more."""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from storage.objects.disk_errors import translated
from storage.objects.file_body import FileBody


def kept(chunks: Iterable[bytes], folder: Path, check_room: Callable[[], None]) -> FileBody:
    """All of `chunks` in a file of `folder`. Raises Exhausted, Unavailable, and what `chunks` raises."""
    with translated("write"):
        file, name = tempfile.mkstemp(suffix=".kept", dir=folder)
        try:
            os.unlink(name)
            for chunk in chunks:
                check_room()  # readers must not use up the room that storing needs
                _write(file, chunk)
        except BaseException:
            os.close(file)
            raise
    return FileBody(file, None)


def _write(file: int, data: bytes) -> None:
    with memoryview(data) as view:
        written = 0
        while written < len(view):
            written += os.write(file, view[written:])
