"""Holds stored objects against their digests, byte by byte, with flat memory."""

from hashlib import sha256

from storage.objects import ObjectStore
from storage.packs import Damaged


def verify_object(store: ObjectStore, key: str, length: int, digest: bytes) -> None:
    """Read an object once, whole; raises Damaged unless it has this length and SHA-256, NotFound, Unavailable."""
    hasher = sha256()
    with store.get(key) as body:
        is_as_long = body.length == length
        for chunk in body.chunks() if is_as_long else ():
            hasher.update(chunk)
    if not is_as_long or hasher.digest() != digest:
        raise Damaged("the object is not what was written", key=key)
