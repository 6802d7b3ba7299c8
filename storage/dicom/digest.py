"""The digests of an instance: one of its data set, the same whoever sent it, and one of what lies before that."""

from blake3 import blake3

HEADER_DIGEST_BYTES = 16


def digest_of_header(header: bytes) -> bytes:
    """HEADER_DIGEST_BYTES of BLAKE3 over what lies before a data set, as `Instance.header_digest`."""
    return blake3(header).digest(HEADER_DIGEST_BYTES)


class InstanceDigest:
    """BLAKE3 over the transfer syntax UID (ASCII) and the data set, made while the bytes of an object pass by.

    The first `header_length` bytes, the preamble and file meta information, have a digest of their own.
    """

    __slots__ = ("_hasher", "_header", "_skip")

    def __init__(self, transfer_syntax: str, header_length: int = 0) -> None:
        self._hasher = blake3(transfer_syntax.encode("ascii"))
        self._header = blake3()
        self._skip = header_length

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        if self._skip:
            chunk = memoryview(chunk)
            self._header.update(chunk[: self._skip])
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = chunk[skipped:]
        self._hasher.update(chunk)

    def digest(self) -> bytes:
        """32 bytes, as `Instance.digest`."""
        return self._hasher.digest()

    def header_digest(self) -> bytes:
        """As `digest_of_header`."""
        return self._header.digest(HEADER_DIGEST_BYTES)

    def fits(self, digest: bytes, header_digest: bytes | None) -> bool:
        """Whether these are the digests of what has passed by. None: what lies before the data set is not looked at."""
        return self.digest() == digest and header_digest in (None, self.header_digest())
