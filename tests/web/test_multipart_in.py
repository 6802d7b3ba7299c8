"""The parser of multipart/related bodies (RFC 2046 5.1; S-MULTIPART-IN)."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.web.errors import Refused
from gateway.web.multipart_in import MAX_HEADER_BYTES, MAX_PREAMBLE_BYTES, Event, MultipartParser, PartBegun, PartData

Parts = list[tuple[dict[str, str], bytes, bool]]


def parsed(body: bytes, boundary: str = "b", sizes: list[int] | None = None) -> tuple[Parts, bool]:
    """The parts (headers, bytes, whether whole) of `body` fed in pieces of these sizes, and whether it ended."""
    parser = MultipartParser(boundary)
    parts: Parts = []
    for piece in cut(body, sizes or [len(body) or 1]):
        for event in parser.feed(piece):
            take(event, parts)
    return parts, parser.finished


def take(event: Event, parts: Parts) -> None:
    match event:
        case PartBegun(headers):
            parts.append((headers, b"", False))
        case PartData(data):
            headers, before, _ = parts[-1]
            parts[-1] = (headers, before + data, False)
        case _:
            headers, data, _ = parts[-1]
            parts[-1] = (headers, data, True)


def cut(body: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at, number = [], 0, 0
    while at < len(body):
        pieces.append(body[at : at + sizes[number % len(sizes)]])
        at += sizes[number % len(sizes)]
        number += 1
    return pieces


# Bytes that look like what surrounds them, so that the hard cases are common.
looks_like = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"-", b"--", b"\r\n--", b"\r\n--b", b"\r\n--bx", b"b", b" ", b"\0", b"data", b"\r\n--b-"]
    ),
    max_size=12,
).map(b"".join)
DELIMITER = re.compile(rb"\r\n--b(--|[ \t]*\r\n)")
bodies = (looks_like | st.binary(max_size=60)).filter(lambda body: not DELIMITER.search(b"\r\n" + body + b"\r\n"))


@given(
    st.lists(bodies, max_size=4),
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
    st.sampled_from([b"", b"\r\n", b"\r\nepilogue\r\n--b\r\n"]),
)
@settings(max_examples=300, deadline=None)
def test_any_cut_gives_the_same_parts(contents: list[bytes], sizes: list[int], epilogue: bytes) -> None:
    body = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n" for content in contents)
    parts, finished = parsed(body + b"--b--" + epilogue, sizes=sizes)
    assert finished
    assert parts == [({"content-type": "application/dicom"}, content, True) for content in contents]


@given(st.binary(max_size=300) | looks_like, st.lists(st.integers(1, 40), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_taken_the_same_way_however_cut(body: bytes, sizes: list[int]) -> None:
    whole, in_pieces = parsed(b"--b\r\n\r\n" + body), parsed(b"--b\r\n\r\n" + body, sizes=sizes)
    assert [part for part in whole[0] if part[2]] == [part for part in in_pieces[0] if part[2]]
    assert whole[1] == in_pieces[1]


@pytest.mark.parametrize(
    "boundary", ["b", "a b'()+_,-./:=?c", "0f3cf5c0-70e0-41ef-baef-c6f9f65ec3e1", "-" * 70, "x" * 70]
)
def test_s_multipart_in_any_legal_boundary(boundary: str) -> None:
    body = f"--{boundary}\r\nContent-Type: a/b\r\n\r\nDATA\r\n--{boundary}--".encode()
    assert parsed(body, boundary) == ([({"content-type": "a/b"}, b"DATA", True)], True)


@pytest.mark.parametrize(
    "body",
    [
        b"preamble\r\n--b\r\n\r\nDATA\r\n--b--",
        b"\r\n--b\r\n\r\nDATA\r\n--b--\r\n",
        b"--b \t \r\n\r\nDATA\r\n--b  \r\n\r\nDATA\r\n--b-- \r\nepilogue",
        b"--bb\r\n--b\r\n\r\nDATA\r\n--b--",
    ],
)
def test_s_multipart_in_what_senders_do(body: bytes) -> None:
    parts, finished = parsed(body)
    assert finished
    assert {data for _, data, _ in parts} == {b"DATA"}


def test_s_multipart_in_headers() -> None:
    body = b"--b\r\nCONTENT-TYPE:  application/dicom;\r\n  transfer-syntax=1.2\r\nno colon\r\nX: y\r\n\r\nD\r\n--b--"
    ((headers, data, whole),), _ = parsed(body)
    assert headers == {"content-type": "application/dicom; transfer-syntax=1.2", "x": "y"}
    assert (data, whole) == (b"D", True)


def test_a_part_without_body_does_not_swallow_the_next() -> None:
    for sizes in ([1], [3], [100]):
        parts, _ = parsed(b"--b\r\nA: 1\r\n\r\n--b\r\nB: 2\r\n\r\nDATA\r\n--b--", sizes=sizes)
        assert parts == [({"a": "1"}, b"", True), ({"b": "2"}, b"DATA", True)]


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n--", b"\r\n--b", b"\r\n--b-"])
def test_s_disconnect_a_part_without_its_delimiter_is_not_whole(end: bytes) -> None:
    parts, finished = parsed(b"--b\r\n\r\nfirst\r\n--b\r\n\r\nsecond, long enough to be seen" + end)
    assert not finished
    assert [whole for _, _, whole in parts] == [True, False]


def test_endless_headers_and_preambles_are_refused() -> None:
    with pytest.raises(Refused, match="headers"):
        parsed(b"--b\r\n" + b"X: y\r\n" * MAX_HEADER_BYTES, sizes=[1000])
    with pytest.raises(Refused, match="boundary"):
        parsed(b"x" * (MAX_PREAMBLE_BYTES + 100), sizes=[1 << 16])


def test_memory_is_bounded_whatever_comes() -> None:
    parser = MultipartParser("b")
    parser.feed(b"--b\r\n\r\n")
    for piece in [b"\r\n--" * 20_000, b"\r" * 50_000, b"\r\n--b" + b" " * 50_000]:
        parser.feed(piece)
        assert len(parser._buffer) < 1000
