"""The data set of a deflated instance, inflated once for all the parts that a request wants of it."""

from collections.abc import Callable
from pathlib import Path

from gateway.archive.chunks import inflated
from gateway.archive.kept import kept
from gateway.archive.parts import Opener
from storage.dicom import syntax
from storage.index import Location, Stored
from storage.objects import Body
from storage.objects.file_body import FileBody


class Inflated:
    """Gives spans of the inflated data set of `stored`, which is inflated into a nameless file when first asked for.

    For the parts of one request, one after another. The file is gone when neither this nor a part is held any more.
    """

    def __init__(self, opener: Opener, stored: Stored, folder: Path, check_room: Callable[[], None]) -> None:
        self._opener = opener
        self._folder = folder
        self._check_room = check_room
        location, header = stored.location, stored.header_length
        self._span = (location.offset + header, location.length - header)
        self._file: FileBody | None = None

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        """See `ObjectStore`; `span` counts from the first byte of the data set. Raises Exhausted as well."""
        if self._file is None:
            with self._opener.get(key, self._span) as body:
                self._file = kept(inflated(body.chunks()), self._folder, self._check_room)
        return self._file.part(span)


def as_inflated(stored: Stored) -> Stored:
    """`stored` as it lies in what `Inflated` gives."""
    location = stored.location
    return Stored(
        stored.identity,
        syntax.EXPLICIT_LITTLE,
        Location(location.store, location.key, 0, 0),
        0,
        stored.digest,
        stored.revision,
    )
