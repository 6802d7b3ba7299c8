"""An encapsulated document on its way out: under its own media type, and as long as it was (PS3.3 C.24.2)."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from gateway.archive import Archive, Part
from gateway.archive.chunks import cut
from gateway.security.caller import Caller
from gateway.web import media
from gateway.web.delivery import released
from storage.dicom.frames import Span
from storage.dicom.identity import Identity, Scope

ENCAPSULATED_DOCUMENT = "00420011"
# Types that are sent under their own name; any other could run in a browser.
_TYPE = re.compile(r"application/(pdf|sla|dicom)|model/[a-z0-9.+-]{1,40}", re.ASCII)


class Described(NamedTuple):
    """What the data set says of its document: the types it can be sent as, and its length without padding."""

    types: list[str]
    length: int | None


def described(archive: Archive, scope: Scope, by: Caller) -> Described:
    """Of the instance in scope. Raises NotFound."""
    datasets = archive.metadata(scope, by=by)
    with released(datasets):
        _, metadata = next(datasets)
    dataset = orjson.loads(metadata)
    declared, length = (dataset.get(key, {}).get("Value", [None])[0] for key in ("00420012", "00420015"))
    known = isinstance(declared, str) and _TYPE.fullmatch(declared.lower()) is not None
    types = [declared.lower(), media.OCTETS] if known else [media.OCTETS]
    return Described(types, length if isinstance(length, int) else None)


def unpadded(parts: Iterator[Part], length: int | None) -> Iterator[Part]:
    """The same without the byte that made the length of the document even, if `length` says that there is one."""
    with released(parts):
        for part in parts:
            yield _Unpadded(part) if part.length - 1 == length else part


class _Unpadded:
    """All of a part but its last byte."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.length = part.length - 1

    @property
    def identity(self) -> Identity:
        return self._part.identity

    @property
    def transfer_syntax(self) -> str:
        return self._part.transfer_syntax

    @property
    def place(self) -> str:
        return self._part.place

    def chunks(self) -> Iterator[bytes]:
        try:
            yield from cut(self._part.chunks(), [Span(0, self.length)])
        finally:
            self.close()

    def close(self) -> None:
        self._part.close()
