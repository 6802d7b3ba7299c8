"""Instances that are whole although the blocks of their pack are not: each is held against digests of its own.

The index has that of the data set. What stands before it is covered by the SHA-256 in the manifest; that may be in a
damaged block itself, but a damaged SHA-256 fits no instance.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256

from gateway import log
from gateway.archive.kept import kept
from gateway.archive.places import ARCHIVE, COPY, Places
from gateway.archive.seldom import Seldom
from storage.errors import Invalid, NotFound, Unavailable
from storage.index import Stored
from storage.objects import ObjectStore
from storage.objects.file_body import FileBody
from storage.packs import Damaged
from storage.packs.checked import verified_chunks
from storage.packs.read import read_manifest

_log = log.get(__name__)
_seldom = Seldom()


def rescued(stored: Stored, places: Places) -> FileBody:
    """All of an instance in a damaged pack, from the archive or the copy.

    Raises Damaged when it is whole in neither, Exhausted when there is no room to keep it meanwhile.
    """
    key = stored.location.key
    stores = {name: store for name, store in places.stores.items() if name in (ARCHIVE, COPY)}
    listed = {digest for store in stores.values() for digest in _listed(store, stored)}
    for name, store in stores.items() if listed else ():
        with suppress(NotFound, Invalid, Unavailable):  # then it is not whole there, or not now
            with store.get(key, (stored.location.offset, stored.location.length)) as body:
                found = kept(_sound(body.chunks(), stored, listed), places.staging, places.check_room)
            if _seldom.is_due(key):
                _log.error("a pack is damaged, an instance in it is not: run `gateway verify`", key=key, store=name)
            return found
    raise Damaged("an instance is not what was stored", key=key)


def _listed(store: ObjectStore, stored: Stored) -> Iterator[bytes]:
    """The SHA-256 of the instance, as the pack in this store says."""
    key, place = stored.location.key, (stored.location.offset, stored.location.length)
    with suppress(NotFound, Unavailable):
        found = read_manifest(store, store.head(key), ARCHIVE, sealed=False)
        for packed, digest in zip(found.pack.instances, found.sha256s, strict=True):
            if (packed.offset, packed.length) == place:
                yield digest


def _sound(chunks: Iterable[bytes], stored: Stored, listed: set[bytes]) -> Iterator[bytes]:
    """The same chunks, not to be used before the end is reached. Raises Damaged there."""
    whole = sha256()
    key = stored.location.key
    for chunk in verified_chunks(chunks, stored.transfer_syntax, stored.header_length, stored.digest, None, key=key):
        whole.update(chunk)
        yield chunk
    if whole.digest() not in listed:
        raise Damaged("what stands before the data set of an instance is not what was stored", key=key)
