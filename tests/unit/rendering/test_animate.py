"""Multi-frame instances as moving pictures (PS3.18 8.7.4)."""

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.dicom.pixels.decode import Decoded
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.rendering import animate as room
from storage.dicom.rendering.animate import animate, animate_stored, milliseconds_a_frame
from storage.dicom.rendering.icc import profile_of
from storage.dicom.rendering.video import mp4
from storage.dicom.rendering.wish import Annotation, IccProfile, Viewport, Window, Wish
from storage.errors import Fault, Invalid, NotAcceptable
from tests.unit.rendering.shown import opened

NATIVE = "1.2.840.10008.1.2.1"
ATTRIBUTES: dict[str, Any] = {
    "00280010": {"vr": "US", "Value": [24]},
    "00280011": {"vr": "US", "Value": [33]},
    "00280004": {"vr": "CS", "Value": ["MONOCHROME2"]},
    "00280100": {"vr": "US", "Value": [16]},
    "00100020": {"vr": "LO", "Value": ["P1"]},
}
DESCRIPTION = PixelDescription.of(ATTRIBUTES)
GIF = Wish(media_type="image/gif")


def frame(index: int) -> Decoded:
    """One value everywhere, larger from frame to frame."""
    return Decoded(np.full((24, 33), 100 * index, np.uint16), DESCRIPTION)


def attributes(count: int) -> list[dict[str, Any]]:
    return [ATTRIBUTES] * count


def greys(body: bytes) -> list[int]:
    image = opened(body)
    found = []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        found.append(int(np.asarray(image.convert("L"))[0, -1]))
    return found


@pytest.mark.parametrize("media_type", ["image/gif", "image/webp"])
def test_w_render_mf_is_animated_over_one_range_of_values(media_type: str) -> None:
    result = animate(frame, attributes(6), Wish(media_type=media_type, quality=100), 40)
    assert result.media_type == media_type
    assert np.abs(np.array(greys(result.body)) - [0, 51, 102, 153, 204, 255]).max() <= 3
    image = opened(result.body)
    image.seek(1)
    image.load()
    assert image.info["duration"] == 40


def test_w_render_mf_from_frames_as_stored() -> None:
    stored = [np.full((24, 33), value, "<u2").tobytes() for value in (0, 50, 100)]
    wish = Wish(media_type="image/gif", window=Window(50, 101))
    result = animate_stored(stored, NATIVE, DESCRIPTION, attributes(3), wish, 100)
    assert greys(result.body) == [1, 129, 255]


def test_w_render_mf_in_a_viewport_with_annotations() -> None:
    wish = Wish(media_type="image/gif", viewport=Viewport(66, 66), annotations=(Annotation.PATIENT,))
    assert opened(animate(frame, attributes(2), wish, 100).body).size == (66, 48)


def test_w_render_icc_of_moving_pictures() -> None:
    wish = Wish(media_type="image/webp", icc_profile=IccProfile.ADOBE_RGB)
    image = opened(animate(frame, attributes(2), wish, 100).body)
    assert image.info["icc_profile"] == profile_of(IccProfile.ADOBE_RGB)


def test_w_render_mf_of_one_frame() -> None:
    assert len(greys(animate(frame, attributes(1), GIF, 100).body)) == 1


@pytest.mark.parametrize("count", [0, 2001])
def test_w_render_bomb_too_many_frames(count: int) -> None:
    with pytest.raises(Invalid) as raised:
        animate(frame, attributes(count), GIF, 100)
    assert raised.value.fault is Fault.TOO_LARGE


def test_w_render_bomb_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_PIXELS", 24 * 33 * 4)
    assert animate(frame, attributes(4), GIF, 100).body
    with pytest.raises(Invalid, match="viewport"):
        animate(frame, attributes(5), GIF, 100)


def test_w_render_mf_types_that_do_not_move() -> None:
    with pytest.raises(NotAcceptable, match="image/jpeg"):
        animate(frame, attributes(2), Wish(), 100)


@pytest.mark.parametrize(
    ("key", "values", "expected"),
    [
        ("00181063", ["33.3"], 33.3),
        ("00181065", [0, 25], 25),
        ("00082144", [20], 50),
        ("00180040", ["25"], 40),
        ("00181063", ["0"], 100),
        ("00181063", ["1e9"], 10_000),
        ("00180040", ["9999"], 10),
        ("00100020", ["P"], 100),
    ],
)
def test_w_render_mf_goes_as_fast_as_the_data_set_says(key: str, values: list[Any], expected: float) -> None:
    assert milliseconds_a_frame({key: {"vr": "DS", "Value": values}}) == expected


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An ffmpeg of our own, alone on the path."""
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def made(**more: Any) -> bytes:
    pictures = [bytes([value]) * 24 * 33 for value in (0, 128, 255)]
    return mp4(iter(pictures), 33, 24, 10, 80, colour=False, **more)


def test_w_render_mf_video_gets_all_pictures_and_fixed_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/arguments; wc -c; echo done')
    assert made().split() == [str(3 * 24 * 33).encode(), b"done"]
    arguments = (tmp_path / "arguments").read_text()
    assert "-pix_fmt gray -s 33x24 -r 10 -i pipe:0" in arguments
    assert arguments.split()[-1] == "pipe:1"


def test_w_render_mf_video_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotAcceptable, match="no ffmpeg"):
        made()


@pytest.mark.parametrize(
    "script", ["cat > /dev/null; exit 3", "exit 0", "cat > /dev/null", "exec 0<&-; echo x; exit 1"]
)
def test_w_render_mf_video_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program(tmp_path, monkeypatch, script)
    with pytest.raises(NotAcceptable, match="cannot make"):
        made()


def test_w_render_bomb_video_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "cat > /dev/null; exec sleep 600")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(Popen(*arguments, **options))
        return started[-1]

    Popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(Invalid) as raised:
        made(max_seconds=1.0)
    assert raised.value.fault is Fault.TOO_LARGE
    assert [process.poll() for process in started] == [-signal.SIGKILL]


def test_w_render_bomb_video_is_refused_before_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "cat; echo")
    with pytest.raises(NotAcceptable, match="smaller viewport"):
        mp4(iter([]), 5000, 10, 10, 80, colour=False)


def test_a_frame_that_cannot_be_decoded_ends_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "cat > /dev/null; echo")
    with pytest.raises(Invalid, match="cut short"):
        animate_stored(
            [bytes(24 * 33 * 2), b"short"], NATIVE, DESCRIPTION, attributes(2), Wish("video/mp4", Window(1, 9)), 100
        )


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_w_render_mf_video_by_the_real_ffmpeg() -> None:
    body = animate(frame, attributes(6), Wish("video/mp4", viewport=Viewport(66, 66)), 100).body
    assert body[4:8] == b"ftyp"
    arguments = ["ffmpeg", "-v", "error", "-i", "pipe:0", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]
    raw = subprocess.run(arguments, input=body, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    means = np.frombuffer(raw, np.uint8).reshape(6, -1).mean(axis=1)
    assert np.abs(means - [0, 51, 102, 153, 204, 255]).max() < 12
