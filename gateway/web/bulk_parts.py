"""Bulk parts of a store request, kept one behind the other in a single staging file until their instances are made."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin

from gateway.archive.incoming import Incoming
from storage.errors import Fault, Invalid

MAX_VALUE_BYTES = 64 << 20  # of all values of one instance that are not streamed
# Instances may share parts, but a small request must not fill a disk: so many times over all parts may be used,
# and up to so many bytes in any case.
MAX_USES = 16
ALWAYS_USABLE_BYTES = 1 << 30


@dataclass(slots=True)
class BulkPart:
    """A part that Content-Location names: what it says of itself, and where its bytes are."""

    number: int  # in the request
    media_type: str
    transfer_syntax: str | None
    start: int
    length: int = 0


class BulkParts:
    """The bulk parts of one request, by their Content-Location; `close` removes their bytes.

    URIs are compared as they are seen from `base`, the URL of the request, so that absolute and relative ones agree.
    Parts of one Content-Location are the frames of one value, in their order.
    """

    def __init__(self, incoming: Incoming, base: str) -> None:
        self._incoming = incoming
        self._base = base
        self._parts: dict[str, list[BulkPart]] = {}
        self._used_bytes = 0
        self._lock = threading.Lock()

    def begin(self, number: int, location: str, media_type: str, transfer_syntax: str | None) -> BulkPart:
        """A part begins, behind all others."""
        part = BulkPart(number, media_type, transfer_syntax, len(self._incoming))
        self._parts.setdefault(self._seen(location), []).append(part)
        return part

    def write(self, part: BulkPart, data: list[bytes]) -> None:
        """More bytes of the part that began last. Raises Invalid (TOO_LARGE), Exhausted, Unavailable."""
        for piece in data:
            self._incoming.write(piece)
            part.length += len(piece)

    def named(self, uri: str) -> list[BulkPart]:
        """The parts that a BulkDataURI names, at least one; raises Invalid (MALFORMED) when there is none."""
        found = self._parts.get(self._seen(uri))
        if found is None:
            raise Invalid(Fault.MALFORMED, "a BulkDataURI names a value, but no part has it as its Content-Location")
        return found

    def chunks(self, part: BulkPart) -> Iterator[bytes]:
        """The bytes of a part, for an instance. Raises Invalid (TOO_LARGE) when parts have been used too often."""
        with self._lock:
            self._used_bytes += part.length
            used_bytes = self._used_bytes
        if used_bytes > max(MAX_USES * len(self._incoming), ALWAYS_USABLE_BYTES):
            raise Invalid(Fault.TOO_LARGE, f"the instances use the bulk data of the request more than {MAX_USES} times")
        return self._incoming.chunks(start=part.start, end=part.start + part.length)

    def head(self, part: BulkPart, size: int) -> bytes:
        """The first `size` bytes of a part, or all there are."""
        return b"".join(self._incoming.chunks(start=part.start, end=part.start + min(size, part.length)))

    def orphans(self, uris: set[str]) -> list[BulkPart]:
        """The parts that none of these BulkDataURIs names, in the order of the request."""
        seen = {self._seen(uri) for uri in uris}
        left = [part for location, parts in self._parts.items() if location not in seen for part in parts]
        return sorted(left, key=lambda part: part.number)

    def close(self) -> None:
        """Forget the bytes."""
        self._incoming.close()

    def _seen(self, uri: str) -> str:
        try:
            return urljoin(self._base, uri.strip())
        except ValueError:  # no URL at all: then it is only a name
            return uri


class Values:
    """The values of one instance that bulk parts hold and that are not streamed: what `encode` asks for."""

    def __init__(self, parts: BulkParts) -> None:
        self._parts = parts
        self._left = MAX_VALUE_BYTES

    def __call__(self, uri: str) -> bytes:
        """The value of this BulkDataURI. Raises Invalid (MALFORMED), TOO_LARGE when they take too much together."""
        found = self._parts.named(uri)
        if len(found) != 1:
            raise Invalid(Fault.MALFORMED, "several parts have the Content-Location of one value")
        self._left -= found[0].length
        if self._left < 0:
            message = f"the bulk values of an instance, beside pixels or a document, are over {MAX_VALUE_BYTES} bytes"
            raise Invalid(Fault.TOO_LARGE, message)
        return b"".join(self._parts.chunks(found[0]))
