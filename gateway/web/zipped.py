"""Instances as one ZIP file, written while they are read: any number and size of them, in bounded memory."""

import zipfile
from collections.abc import Generator, Iterator
from contextlib import closing

from gateway.archive import Part
from gateway.web.delivery import released

_EPOCH = (1980, 1, 1, 0, 0, 0)  # of ZIP: when an instance was stored is nobody's business


class _Pieces:
    """A file that cannot be sought in; what was written is taken out again."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> bytes:
        taken = b"".join(self._written)
        self._written.clear()
        return taken


def chunks(parts: Iterator[Part]) -> Generator[bytes, None, None]:
    """The ZIP file, not compressed; entries are named by UIDs alone. Broken off, it has no directory."""
    pieces = _Pieces()
    with released(parts), zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as file:  # type: ignore[call-overload]
        for part in parts:
            uids = part.identity
            entry = zipfile.ZipInfo(f"{uids.study_uid}/{uids.series_uid}/{uids.sop_uid}.dcm", _EPOCH)
            content = part.chunks()
            with closing(content), file.open(entry, "w", force_zip64=True) as into:  # type: ignore[type-var]
                for chunk in content:
                    into.write(chunk)
                    yield pieces.taken()
            yield pieces.taken()
    yield pieces.taken()
