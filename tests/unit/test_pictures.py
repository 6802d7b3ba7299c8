"""The pictures that are kept: bounded, and made once however many ask."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.archive.pictures import Picture, Pictures
from storage.errors import NotAcceptable


def test_what_is_asked_for_at_once_is_made_once() -> None:
    pictures, begun, go_on, made = Pictures(1 << 20), threading.Event(), threading.Event(), []

    def make() -> Picture:
        made.append(1)
        begun.set()
        assert go_on.wait(60)
        return Picture(b"one", "image/png")

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(pictures.get, "key", make)
        assert begun.wait(60)
        others = [threads.submit(pictures.get, "key", make) for _ in range(3)]
        go_on.set()
        assert {each.result(60).body for each in (first, *others)} == {b"one"}
    assert made == [1]


def test_an_error_reaches_its_caller_and_is_not_kept() -> None:
    pictures = Pictures(1 << 20)

    def fail() -> Picture:
        raise NotAcceptable("no")

    with pytest.raises(NotAcceptable):
        pictures.get("key", fail)
    assert pictures.get("key", lambda: Picture(b"now", "image/png")).body == b"now"


def test_those_not_used_for_long_make_room() -> None:
    pictures = Pictures(10_000)

    def never() -> Picture:
        raise AssertionError("it was here")

    for key in range(8):
        pictures.get(key, lambda: Picture(b"x" * 1000, "image/png"))
        pictures.get(0, never)
    again = []
    pictures.get(1, lambda: again.append(1) or Picture(b"y", "image/png"))  # type: ignore[func-returns-value]
    assert again == [1]


def test_one_that_would_drive_out_the_others_is_not_kept() -> None:
    pictures, made = Pictures(10_000), []
    for _ in range(2):
        pictures.get("large", lambda: made.append(1) or Picture(b"x" * 9000, "image/png"))  # type: ignore[func-returns-value]
    assert made == [1, 1]
