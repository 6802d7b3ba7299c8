"""The digest of an instance: the same whoever sent it and whatever file meta information stood before it."""

from blake3 import blake3


class InstanceDigest:
    """BLAKE3 over the transfer syntax UID (ASCII) and the data set, made while the bytes pass by.

    The first `header_length` bytes are passed over: the preamble and file meta information of the stored object.
    """

    __slots__ = ("_hasher", "_skip")

    def __init__(self, transfer_syntax: str, header_length: int = 0) -> None:
        self._hasher = blake3(transfer_syntax.encode("ascii"))
        self._skip = header_length

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        if self._skip:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = memoryview(chunk)[skipped:]
        self._hasher.update(chunk)

    def digest(self) -> bytes:
        """32 bytes, as `Instance.digest`."""
        return self._hasher.digest()
