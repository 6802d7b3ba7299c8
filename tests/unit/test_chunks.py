"""The steps between stored bytes and a part, against the plain meaning of each, for any chunking."""

import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.archive import chunks
from gateway.archive.chunks import cut, inflated, shifted, swapped
from storage.dicom import parse
from storage.dicom.frames import Span
from storage.errors import Unavailable

PIECES = st.lists(st.binary(max_size=7), max_size=12)


@given(PIECES, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=6))
def test_cut_gives_the_bytes_of_the_spans(pieces: list[bytes], steps: list[tuple[int, int]]) -> None:
    spans, position = [], 0
    for gap, length in steps:
        spans.append(Span(position + gap, length))
        position += gap + length
    data = b"".join(pieces)
    assert b"".join(cut(pieces, spans)) == b"".join(data[s.offset : s.offset + s.length] for s in spans)


def test_cut_reads_no_further_than_the_last_span() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"0123456789"

    assert b"".join(cut(endless(), [Span(3, 2), Span(18, 4)])) == b"34" + b"8901"


@given(PIECES, st.sampled_from([2, 4, 8]))
def test_swapped_turns_every_word_round(pieces: list[bytes], width: int) -> None:
    data = b"".join(pieces)
    whole = len(data) - len(data) % width
    words = [data[at : at + width][::-1] for at in range(0, whole, width)]
    assert b"".join(swapped(pieces, width)) == b"".join(words) + data[whole:]


@given(PIECES, st.integers(0, 7), st.data())
def test_shifted_begins_at_bit_zero(pieces: list[bytes], skip: int, data: st.DataObject) -> None:
    stored = b"".join(pieces)
    bits = data.draw(st.integers(0, max(0, len(stored) * 8 - skip)))
    number = int.from_bytes(stored, "little") >> skip & (1 << bits) - 1
    assert b"".join(shifted(pieces, skip, bits)) == number.to_bytes((bits + 7) // 8, "little")


@given(st.binary(max_size=3000), st.integers(1, 50))
def test_inflated_gives_the_data_set(data: bytes, size: int) -> None:
    compressor = zlib.compressobj(wbits=-15)
    deflated = compressor.compress(data * 50) + compressor.flush() + b"\0"  # the pad byte of PS3.5 A.5
    pieces = [deflated[at : at + size] for at in range(0, len(deflated), size)]
    assert b"".join(inflated(pieces)) == data * 50


def test_what_was_taken_in_can_be_given_out() -> None:
    assert vars(chunks)["MAX_INFLATED_BYTES"] == parse.MAX_INFLATED_BYTES


def test_inflating_is_bounded_and_garbage_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_INFLATED_BYTES", 1 << 22)
    compressor = zlib.compressobj(wbits=-15)
    bomb = compressor.compress(bytes(1 << 23)) + compressor.flush()
    with pytest.raises(Unavailable, match="more than the limit"):
        for piece in inflated([bomb]):
            assert len(piece) <= 1 << 20
    with pytest.raises(Unavailable, match="does not inflate"):
        list(inflated([b"\xff" * 100]))
