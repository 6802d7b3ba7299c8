"""Passes a stored instance on, and never the end of one that is not what was stored."""

from collections.abc import Iterable, Iterator

from storage.dicom.digest import InstanceDigest
from storage.packs import Damaged


def verified_chunks(
    chunks: Iterable[bytes],
    transfer_syntax: str,
    header_length: int,
    digest: bytes,
    header_digest: bytes | None,
    *,
    key: str = "",
) -> Iterator[bytes]:
    """The chunks of a whole instance, the last one held back until the digests are known to be right.

    Raises Damaged when they are not; `key` names the object in it. Without `header_digest` the first `header_length`
    bytes are not looked at: in a pack the digests of its blocks cover them.
    """
    hasher = InstanceDigest(transfer_syntax, header_length)
    held = b""
    for chunk in chunks:
        if held:
            yield held
        hasher.update(chunk)
        held = chunk
    if not hasher.fits(digest, header_digest):
        raise Damaged("the bytes of an instance are not those that were stored", key=key)
    if held:
        yield held
