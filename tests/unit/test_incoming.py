"""Bytes on their way in: memory, file, limits, failing disks."""

import mmap
import os
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.archive.incoming import Incoming
from storage.errors import Exhausted, Fault, Invalid, Unavailable


def incoming(folder: Path, memory_bytes: int = 100, max_bytes: int = 10_000) -> Incoming:
    return Incoming(folder, memory_bytes=memory_bytes, max_bytes=max_bytes)


def received(place: Incoming) -> bytes:
    with place.view() as view:
        return bytes(view)


def test_few_bytes_stay_in_memory(tmp_path: Path) -> None:
    with incoming(tmp_path) as place:
        place.write(b"abc")
        place.write(memoryview(b"def"))
        place.write(bytearray())
        assert (received(place), len(place), list(tmp_path.iterdir())) == (b"abcdef", 6, [])
        assert place.source == [b"abcdef"]


def test_nothing_is_an_empty_instance(tmp_path: Path) -> None:
    with incoming(tmp_path) as place:
        assert (received(place), len(place)) == (b"", 0)


def test_many_bytes_go_to_a_file_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    place = incoming(tmp_path)
    data = bytes(range(256)) * 20
    for start in range(0, len(data), 60):
        place.write(data[start : start + 60])
    assert (received(place), len(place)) == (data, len(data))
    assert isinstance(place.source, Path)
    assert place.source.read_bytes() == data
    place.write(b"more")
    assert received(place) == data + b"more"
    place.close()
    place.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_store_has_linked_stays(tmp_path: Path) -> None:
    with incoming(tmp_path, memory_bytes=1) as place:
        place.write(b"abc")
        assert isinstance(place.source, Path)
        os.link(place.source, tmp_path / "linked")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("linked", b"abc")]


@pytest.mark.parametrize("memory_bytes", [5, 100])
def test_over_the_limit_is_too_large_and_stays_so(tmp_path: Path, memory_bytes: int) -> None:
    with incoming(tmp_path, memory_bytes, max_bytes=10) as place:
        place.write(b"0123456789")
        for _ in range(2):
            with pytest.raises(Invalid) as caught:
                place.write(b"x")
            assert caught.value.fault is Fault.TOO_LARGE
        with pytest.raises(Invalid), place.view():
            pass
        with pytest.raises(Invalid):
            _ = place.source
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_exhausted_and_what_came_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with incoming(tmp_path) as place:
        monkeypatch.setattr("gateway.archive.incoming.os.write", full)
        for _ in range(2):
            with pytest.raises(Exhausted):
                place.write(b"x" * 200)
        monkeypatch.undo()
        with pytest.raises(Exhausted), place.view():
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with incoming(tmp_path / "gone") as place, pytest.raises(Unavailable):
        place.write(b"x" * 200)


@pytest.mark.parametrize("memory_bytes", [1, 100])
def test_an_error_that_still_holds_the_view_gets_out(tmp_path: Path, memory_bytes: int) -> None:
    def refuse(view: memoryview | mmap.mmap) -> None:
        held = memoryview(view)[1:]
        raise Invalid(Fault.MALFORMED, f"cut short at {len(held)}")

    with incoming(tmp_path, memory_bytes) as place:
        place.write(b"abc")
        with pytest.raises(Invalid, match="cut short at 2"), place.view() as view:
            refuse(view)


@pytest.mark.parametrize("memory_bytes", [1, 10_000])
def test_it_can_be_read_in_pieces_and_copied_behind_a_preface(tmp_path: Path, memory_bytes: int) -> None:
    data = bytes(range(256)) * 3
    with incoming(tmp_path, memory_bytes) as place:
        place.write(data)
        assert [len(chunk) for chunk in place.chunks(500)] == [500, 268]
        assert b"".join(place.chunks(100)) == data
        assert b"".join(place.chunks(100, start=301)) == data[301:]
        with place.preceded_by(b"preface") as copy:
            assert received(copy) == b"preface" + data
        assert received(place) == data
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_does_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with incoming(tmp_path) as place:
        place.write(b"x" * 200)
        write, calls = os.write, iter(range(10))

        def fill(file: int, data: bytes) -> int:
            if next(calls):
                raise OSError(28, "No space left on device")
            return write(file, data)

        monkeypatch.setattr("gateway.archive.incoming.os.write", fill)
        with pytest.raises(Exhausted):
            place.preceded_by(b"preface" * 20)
        assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("room", [0, 1, 3])
def test_what_fills_the_disk_is_refused_while_it_comes(tmp_path: Path, room: int) -> None:
    left = iter(range(room))

    def check_room() -> None:
        if next(left, None) is None:
            raise Exhausted("full")

    with Incoming(tmp_path, memory_bytes=100, max_bytes=10_000, check_room=check_room) as place:
        place.write(b"x" * 100)
        for _ in range(room):
            with suppress(Exhausted):
                place.write(b"x" * 100)
        with pytest.raises(Exhausted):
            place.write(b"x" * 100)
        with pytest.raises(Exhausted), place.view():
            pass
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100 * room
    assert list(tmp_path.iterdir()) == []


def test_a_copy_asks_for_room_as_well(tmp_path: Path) -> None:
    full = False

    def check_room() -> None:
        if full:
            raise Exhausted("full")

    with Incoming(tmp_path, memory_bytes=1, max_bytes=100, check_room=check_room) as place:
        place.write(b"abc")
        full = True
        with pytest.raises(Exhausted):
            place.preceded_by(b"preface")
        assert received(place) == b"abc"
