"""The structures of a ZIP archive of stored entries (PKWARE APPNOTE 6.3), ZIP64 where a number needs it.

Written the one way that depends on nothing but names, lengths and bytes; read strictly as it is written here.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LARGE = 0xFFFFFFFF  # lengths and offsets from here on need ZIP64
MANY = 0xFFFF  # and so do counts from here on
COMMENT_BYTES = 64

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_EXTRA = struct.Struct("<2H")
_LOCAL_SIGN, _CENTRAL_SIGN, _END_SIGN = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_END64_SIGN, _LOCATOR_SIGN = b"PK\6\6", b"PK\6\7"
_PLAIN_VERSION, _ZIP64_VERSION = 10, 45
_MADE_BY = 3 << 8 | _ZIP64_VERSION  # 3: the attributes are those of Unix
_ATTRIBUTES = 0o100644 << 16
_ZIP64_EXTRA = 1
_STORED = 0
_TIME, _DATE = (
    0,
    1 << 5 | 1,
)  # 1980-01-01 00:00, the first there is, for all entries: when they were written does not matter
_CRC_OFFSET = 14
END_BYTES = _END64.size + _LOCATOR.size + _END.size + COMMENT_BYTES  # at most


class Entry(NamedTuple):
    """A stored entry: `offset` is that of its local header, `length` that of its bytes."""

    name: str
    crc: int
    length: int
    offset: int


class End(NamedTuple):
    """Where the central directory lies, how many entries it has, and the comment of the archive."""

    offset: int
    length: int
    entries: int
    comment: bytes


def local_header(entry: Entry, large: int = LARGE) -> bytes:
    """What stands before the bytes of an entry."""
    name = entry.name.encode("ascii")
    is_large = entry.length >= large
    extra = _EXTRA.pack(_ZIP64_EXTRA, 16) + struct.pack("<2Q", entry.length, entry.length) if is_large else b""
    length = LARGE if is_large else entry.length
    version = _ZIP64_VERSION if is_large else _PLAIN_VERSION
    fixed = (_LOCAL_SIGN, version, 0, _STORED, _TIME, _DATE, entry.crc, length, length, len(name), len(extra))
    return _LOCAL.pack(*fixed) + name + extra


def crc_field(entry: Entry) -> tuple[int, bytes]:
    """Where in the archive the CRC-32 of an entry stands in its local header, and the bytes of it."""
    return entry.offset + _CRC_OFFSET, struct.pack("<I", entry.crc)


def directory(entries: Sequence[Entry], large: int = LARGE) -> Iterator[bytes]:
    """The central directory, entry by entry."""
    for entry in entries:
        name = entry.name.encode("ascii")
        wide = [entry.length, entry.length] if entry.length >= large else []
        length = LARGE if wide else entry.length
        offset = entry.offset
        if offset >= large:
            wide.append(offset)
            offset = LARGE
        extra = _EXTRA.pack(_ZIP64_EXTRA, 8 * len(wide)) + struct.pack(f"<{len(wide)}Q", *wide) if wide else b""
        version = _ZIP64_VERSION if wide else _PLAIN_VERSION
        fixed = (_CENTRAL_SIGN, _MADE_BY, version, 0, _STORED, _TIME, _DATE, entry.crc, length, length)
        yield _CENTRAL.pack(*fixed, len(name), len(extra), 0, 0, 0, _ATTRIBUTES, offset) + name + extra


def end(found: End, large: int = LARGE) -> bytes:
    """What follows the central directory, but for the comment itself, of which only the length is used."""
    offset, length, count, comment = found
    records = b""
    if max(offset, length) >= large or count >= MANY:
        fixed = (_END64_SIGN, _END64.size - 12, _MADE_BY, _ZIP64_VERSION, 0, 0)
        records = _END64.pack(*fixed, count, count, length, offset)
        records += _LOCATOR.pack(_LOCATOR_SIGN, 0, offset + length, 1)
        offset = length = LARGE
        count = MANY
    return records + _END.pack(_END_SIGN, 0, 0, count, count, length, offset, len(comment))


def read_end(data: bytes, start: int) -> End:
    """The end of the archive from its last bytes `data`, which begin at `start` of it. Raises ValueError."""
    at = len(data) - COMMENT_BYTES - _END.size
    if at < 0 or data[at : at + 4] != _END_SIGN:
        raise ValueError("there is no end of a ZIP archive")
    _, disk, first_disk, here, count, length, offset, comment = _END.unpack_from(data, at)
    if disk or first_disk or here != count or comment != COMMENT_BYTES:
        raise ValueError("the end of the ZIP archive is not as it is written here")
    found = End(offset, length, count, data[-COMMENT_BYTES:])
    if LARGE in (offset, length) or count == MANY:
        at -= _LOCATOR.size + _END64.size
        found = _read_end64(data, start, at, found.comment)
    if found.offset + found.length != start + at:
        raise ValueError("the central directory does not lie before its end")
    return found


def _read_end64(data: bytes, start: int, at: int, comment: bytes) -> End:
    if at < 0:
        raise ValueError("the ZIP64 end is cut short")
    sign, size, _, _, disk, first_disk, here, count, length, offset = _END64.unpack_from(data, at)
    locator = _LOCATOR.unpack_from(data, at + _END64.size)
    if sign != _END64_SIGN or size != _END64.size - 12 or disk or first_disk or here != count:
        raise ValueError("the ZIP64 end is not as it is written here")
    if locator != (_LOCATOR_SIGN, 0, start + at, 1):
        raise ValueError("the ZIP64 end is not where its locator says")
    return End(offset, length, count, comment)


def read_directory(data: bytes | memoryview, count: int) -> list[Entry]:
    """The `count` entries of a central directory. Raises ValueError."""
    view = memoryview(data)
    entries = []
    at = 0
    for _ in range(count):
        entry, at = _read_entry(view, at)
        entries.append(entry)
    if at != len(view):
        raise ValueError("the central directory is longer than its entries")
    return entries


def _read_entry(view: memoryview, at: int) -> tuple[Entry, int]:
    if at + _CENTRAL.size > len(view):
        raise ValueError("the central directory is cut short")
    numbers = _CENTRAL.unpack_from(view, at)
    sign, flags, method = numbers[0], numbers[3], numbers[4]
    crc, packed, length, name_length, extra_length = numbers[7:12]
    offset = numbers[16]
    if sign != _CENTRAL_SIGN or flags or method != _STORED or packed != length:
        raise ValueError("an entry of the central directory is not as it is written here")
    name_end = at + _CENTRAL.size + name_length
    after = name_end + extra_length
    if after > len(view):
        raise ValueError("the central directory is cut short")
    name = str(view[at + _CENTRAL.size : name_end], "ascii")
    if LARGE in (length, offset):
        length, offset = _wide(view[name_end:after], length, offset)
    return Entry(name, crc, length, offset), after


def _wide(extra: memoryview, length: int, offset: int) -> tuple[int, int]:
    """Length and offset with those that are LARGE taken from the ZIP64 field."""
    if len(extra) < _EXTRA.size or (len(extra) - _EXTRA.size) % 8:
        raise ValueError("a ZIP64 field is not as it is written here")
    wide = list(struct.unpack_from(f"<{len(extra) // 8}Q", extra, _EXTRA.size))
    if _EXTRA.unpack_from(extra) != (_ZIP64_EXTRA, 8 * len(wide)):
        raise ValueError("a ZIP64 field is not as it is written here")
    if len(wide) != 2 * (length == LARGE) + (offset == LARGE):
        raise ValueError("a ZIP64 field is cut short")
    return wide[0] if length == LARGE else length, wide[-1] if offset == LARGE else offset


def data_offset(header: bytes | memoryview, entry: Entry) -> int:
    """Where the bytes of an entry begin, by the local header that begins `header`. Raises ValueError."""
    if len(header) < _LOCAL.size:
        raise ValueError("a local header is cut short")
    numbers = _LOCAL.unpack_from(header)
    name = bytes(header[_LOCAL.size : _LOCAL.size + numbers[9]])
    if numbers[0] != _LOCAL_SIGN or numbers[3] != _STORED or name != entry.name.encode("ascii"):
        raise ValueError("a local header does not fit the central directory")
    return entry.offset + _LOCAL.size + int(numbers[9]) + int(numbers[10])
