"""The stored form of what the index keeps of the instances in one pack: columns, differences, compressed.

A listing is written once and read as a whole. Neighbours in a series have nearly everything in common, so columns of
differences compress to little; digests do not compress and are stored as they are. The attributes lie apart: only a
search for instances needs them. Decoded, a listing is a few flat arrays, from which instances are made as needed.
"""

import struct
import zlib
from array import array
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, TypeVar

import orjson

from storage.dicom.frames import FrameTable, Span
from storage.dicom.instance import BulkValue
from storage.packs import PackedInstance

FORMAT = 1
_HEAD = struct.Struct("<BBHII")  # format, whether UIDs are marked, length of a digest, instances, bytes of columns
_MARK = b"\0"  # stands for the SOP Instance UID; JSON has no such character
_NONE = -(1 << 63)  # no instance number
_LEVEL = 6
_HEAD_WORDS = 4  # of a frame table, before its spans

T = TypeVar("T", bound=Hashable)
Shape = tuple[tuple[str, str, int], ...]  # of bulk values: path, VR, count of spans


def encode(instances: Sequence[PackedInstance], positions: Sequence[int] | None) -> bytes:
    """The stored form; `positions` as in `Pack`. Raises ValueError for no instances, and digests of several lengths."""
    lengths = {len(each.digest) for each in instances}
    if len(lengths) != 1:
        raise ValueError("a listing needs instances, and digests of one length")
    marked = not any(_MARK in each.attributes for each in instances)
    attributes = [_mark(each.attributes, each.sop_uid) if marked else each.attributes for each in instances]
    shapes = [tuple((path, value.vr, len(value.spans)) for path, value in each.bulk.items()) for each in instances]
    tables = [_words(each.frames) for each in instances]
    columns = {
        "sop_uid": [each.sop_uid for each in instances],
        "sop_class": _table([each.sop_class for each in instances]),
        "transfer_syntax": _table([each.transfer_syntax for each in instances]),
        "source": _table([each.source for each in instances]),
        "repair": _table([each.repair for each in instances]),
        "number": [each.instance_number for each in instances],
        "gap": _gaps(instances),
        "length": _differences(each.length for each in instances),
        "header_length": _differences(each.header_length for each in instances),
        "revision": [each.revision for each in instances],
        "received_at": _differences(each.received_at for each in instances),
        "position": None if positions is None else _differences(positions),
        "attributes": [len(each) for each in attributes],
        "table": [len(each) for each in tables],
        "word": list(chain.from_iterable(_differences_after(_HEAD_WORDS, each) for each in tables)),
        "shape": _table(shapes),
        "span": list(chain.from_iterable(_differences_after(0, _spans(each.bulk)) for each in instances)),
    }
    packed = zlib.compress(orjson.dumps(columns), _LEVEL)
    head = _HEAD.pack(FORMAT, marked, lengths.pop(), len(instances), len(packed))
    digests = b"".join(each.digest for each in instances)
    return b"".join([head, packed, digests, zlib.compress(b"".join(attributes), _LEVEL)])


class Listing:
    """The instances of one pack, by their number in it. Not to be changed."""

    def __init__(self, data: bytes) -> None:
        """Decode what `encode` wrote. Raises ValueError for anything else."""
        if len(data) < _HEAD.size or data[0] != FORMAT:
            raise ValueError("not a listing of a form that is known")
        _, self._marked, self._digest_length, self._count, length = _HEAD.unpack_from(data)
        columns = orjson.loads(zlib.decompress(data[_HEAD.size : _HEAD.size + length]))
        end_of_digests = _HEAD.size + length + self._count * self._digest_length
        self._digests = data[_HEAD.size + length : end_of_digests]
        self._attributes = data[end_of_digests:]
        self.sop_uids: list[str] = columns["sop_uid"]
        self.revisions = array("q", columns["revision"])
        self._numbers = array("q", [_NONE if each is None else each for each in columns["number"]])
        self._classes, self._class = _read_table(columns["sop_class"])
        self._syntaxes, self._syntax = _read_table(columns["transfer_syntax"])
        self._sources, self._source = _read_table(columns["source"])
        self._repairs, self._repair = _read_table(columns["repair"])
        self._lengths = array("q", accumulate(columns["length"]))
        self._offsets = _offsets(columns["gap"], self._lengths)
        self._header_lengths = array("q", accumulate(columns["header_length"]))
        self._received = array("q", accumulate(columns["received_at"]))
        positions = columns["position"]
        self.positions = None if positions is None else array("q", accumulate(positions))
        self._attribute_lengths = array("q", columns["attributes"])
        self._read_frames_and_bulk(columns)
        # Rows are in the order of the object, in which a later revision may come before an earlier one.
        self._served: dict[str, int] = {}
        for row, sop_uid in enumerate(self.sop_uids):
            known = self._served.get(sop_uid)
            if known is None or self.revisions[known] < self.revisions[row]:
                self._served[sop_uid] = row

    def _read_frames_and_bulk(self, columns: dict[str, Any]) -> None:
        self._table_ends = array("q", accumulate(columns["table"]))
        self._words = _sums_after(_HEAD_WORDS, columns["word"], self._table_ends)
        shapes, self._shape = _read_table(columns["shape"])
        self._shapes: list[Shape] = [tuple(tuple(each) for each in shape) for shape in shapes]
        counts = [2 * sum(count for _, _, count in shape) for shape in self._shapes]
        self._span_ends = array("q", accumulate(counts[each] for each in self._shape))
        self._spans = _sums_after(0, columns["span"], self._span_ends)

    def __len__(self) -> int:
        return len(self.sop_uids)

    def find(self, sop_uid: str) -> int | None:
        """The row of the highest revision of this instance."""
        return self._served.get(sop_uid)

    def served(self) -> Mapping[str, int]:
        """The row of the highest revision of each instance, by SOP Instance UID."""
        return self._served

    def instance_number(self, row: int) -> int | None:
        """None when it has none, or none that is a number."""
        number: int = self._numbers[row]
        return None if number == _NONE else number

    def sop_class(self, row: int) -> str:
        """SOP Class UID."""
        return str(self._classes[self._class[row]])

    def transfer_syntax(self, row: int) -> str:
        """Transfer Syntax UID."""
        return str(self._syntaxes[self._syntax[row]])

    def span(self, row: int) -> tuple[int, int, int]:
        """Offset in the object, length, length of the header."""
        return self._offsets[row], self._lengths[row], self._header_lengths[row]

    def digest(self, row: int) -> bytes:
        """As `Instance.digest`."""
        return self._digests[row * self._digest_length : (row + 1) * self._digest_length]

    def received_at(self, row: int) -> int:
        """Microseconds since 1970-01-01 UTC."""
        return int(self._received[row])

    def frames(self, row: int) -> FrameTable:
        """Where the frames lie."""
        start = self._table_ends[row - 1] if row else 0
        words = self._words[start : self._table_ends[row]]
        return FrameTable.from_bytes(struct.pack(f"<{len(words)}Q", *words))

    def bulk(self, row: int) -> dict[str, BulkValue]:
        """Where the bulk values lie."""
        at = self._span_ends[row - 1] if row else 0
        found = {}
        for path, vr, count in self._shapes[self._shape[row]]:
            numbers = self._spans[at : at + 2 * count]
            found[path] = BulkValue(vr, tuple(map(Span, numbers[::2], numbers[1::2])))
            at += 2 * count
        return found

    def attributes(self) -> list[bytes]:
        """The attributes of all rows; decoded anew each time."""
        joined = zlib.decompress(self._attributes)
        ends = array("q", accumulate(self._attribute_lengths))
        found = [joined[start:end] for start, end in _slices(ends)]
        if not self._marked:
            return found
        return [each.replace(_MARK, sop_uid.encode()) for each, sop_uid in zip(found, self.sop_uids, strict=True)]

    def instances(self, rows: Iterable[int] | None = None) -> Iterator[PackedInstance]:
        """The instances in these rows, or all."""
        attributes = self.attributes()
        for row in range(self._count) if rows is None else rows:
            offset, length, header_length = self.span(row)
            yield PackedInstance(
                sop_uid=self.sop_uids[row],
                sop_class=self.sop_class(row),
                instance_number=self.instance_number(row),
                transfer_syntax=self.transfer_syntax(row),
                offset=offset,
                length=length,
                header_length=header_length,
                digest=self.digest(row),
                revision=self.revisions[row],
                received_at=self._received[row],
                source=self._sources[self._source[row]],
                repair=self._repairs[self._repair[row]],
                attributes=attributes[row],
                frames=self.frames(row),
                bulk=self.bulk(row),
            )


def _mark(attributes: bytes, sop_uid: str) -> bytes:
    return attributes.replace(sop_uid.encode(), _MARK)


def _table(values: Sequence[T]) -> tuple[list[T], list[int]]:
    """The distinct values, and which of them each one is."""
    distinct = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return list(distinct), [distinct[value] for value in values]


def _read_table(column: Any) -> "tuple[list[Any], array[int]]":
    return column[0], array("I", column[1])


def _differences(values: Iterable[int]) -> list[int]:
    found, before = [], 0
    for value in values:
        found.append(value - before)
        before = value
    return found


def _gaps(instances: Sequence[PackedInstance]) -> list[int]:
    """What lies between each instance and the one before it."""
    found, end = [], 0
    for each in instances:
        found.append(each.offset - end)
        end = each.offset + each.length
    return found


def _offsets(gaps: Sequence[int], lengths: "array[int]") -> "array[int]":
    found, end = array("q"), 0
    for gap, length in zip(gaps, lengths, strict=True):
        found.append(end + gap)
        end += gap + length
    return found


def _words(frames: FrameTable) -> tuple[int, ...]:
    data = frames.to_bytes()
    return struct.unpack(f"<{len(data) // 8}Q", data)


def _spans(bulk: Mapping[str, BulkValue]) -> list[int]:
    return [number for value in bulk.values() for span in value.spans for number in span]


def _differences_after(plain: int, numbers: Sequence[int]) -> list[int]:
    """The first so many as they are, then pairs: offsets less the offset before, lengths less the length before."""
    return [number - numbers[at - 2] if at > plain + 1 else number for at, number in enumerate(numbers)]


def _sums_after(plain: int, column: list[int], ends: "array[int]") -> "array[int]":
    """What `_differences_after` was given, for each slice of the column. One with a single pair is as it was."""
    if all(end - start <= plain + 2 for start, end in _slices(ends)):
        return array("Q", column)
    found = array("Q")
    for start, end in _slices(ends):
        pairs = column[start + plain : end]
        pairs[::2] = accumulate(pairs[::2])
        pairs[1::2] = accumulate(pairs[1::2])
        found.extend(column[start : start + plain])
        found.extend(pairs)
    return found


def _slices(ends: "array[int]") -> Iterator[tuple[int, int]]:
    start = 0
    for end in ends:
        yield start, end
        start = end
