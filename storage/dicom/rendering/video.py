"""Pictures as MP4 (H.264) by the program ffmpeg, when it is there: fixed arguments, bounded time, memory and output."""

import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from threading import Timer
from typing import IO

from storage.errors import Fault, Invalid, NotAcceptable

MAX_VIDEO_BYTES = 512 << 20
MAX_VIDEO_SIDE = 4096  # of H.264 at the levels that players know
_MAX_SECONDS = 45.0
_MAX_MEMORY_BYTES = 2 << 30
_LAST_CRF, _FIRST_CRF = 38, 14  # the constant rate factors for quality 1 and 100


def is_video_available() -> bool:
    """Whether there is an ffmpeg on the path."""
    return shutil.which("ffmpeg") is not None


def mp4(
    pictures: Iterable[bytes],
    width: int,
    height: int,
    rate: float,
    quality: int,
    *,
    colour: bool,
    max_seconds: float = _MAX_SECONDS,
) -> bytes:
    """`pictures`, each as its bytes (RGB or grey), all of one size, at so many a second as a fragmented MP4.

    Raises NotAcceptable without ffmpeg, or when it does not take them; Invalid (TOO_LARGE) when it has no end within
    `max_seconds`, or gives more than MAX_VIDEO_BYTES.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise NotAcceptable("video cannot be made here: there is no ffmpeg")
    if max(width, height) > MAX_VIDEO_SIDE:
        raise NotAcceptable(f"video holds {MAX_VIDEO_SIDE} pixels across at most; ask for a smaller viewport")
    arguments = _arguments(program, width, height, rate, quality, "rgb24" if colour else "gray")
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.DEVNULL)
        _limit(process)
        clock = Timer(max_seconds, process.kill)
        clock.start()
        try:
            is_whole = _fed(process, pictures)
            status = process.wait()
        finally:
            is_late = not clock.is_alive()
            clock.cancel()
            process.kill()
            process.wait()
        return _taken(output, is_whole and status == 0, is_late)


def _arguments(program: str, width: int, height: int, rate: float, quality: int, layout: str) -> list[str]:
    crf = round(_LAST_CRF - (_LAST_CRF - _FIRST_CRF) * (quality - 1) / 99)
    return [
        *(program, "-nostdin", "-hide_banner", "-loglevel", "error"),
        *("-f", "rawvideo", "-pix_fmt", layout, "-s", f"{width}x{height}", "-r", f"{rate:.6g}", "-i", "pipe:0"),
        *("-an", "-threads", "1", "-c:v", "libx264", "-preset", "veryfast", "-crf", str(crf)),
        *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"),
        *("-movflags", "+frag_keyframe+empty_moov+default_base_moof", "-f", "mp4", "pipe:1"),
    ]


def _limit(process: subprocess.Popen[bytes]) -> None:
    """What the program may take; it may have ended already."""
    limits = ((resource.RLIMIT_AS, _MAX_MEMORY_BYTES), (resource.RLIMIT_FSIZE, MAX_VIDEO_BYTES))
    for limit, most in limits:
        try:
            resource.prlimit(process.pid, limit, (most, most))
        except ProcessLookupError:
            return


def _fed(process: subprocess.Popen[bytes], pictures: Iterable[bytes]) -> bool:
    """Give the program its pictures; whether it took all of them."""
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            for picture in pictures:
                pipe.write(picture)
    except BrokenPipeError:
        return False
    return True


def _taken(output: IO[bytes], is_good: bool, is_late: bool) -> bytes:
    size = output.seek(0, 2)
    if is_late or size >= MAX_VIDEO_BYTES:
        raise Invalid(Fault.TOO_LARGE, "so many frames take too long, or too much space, as a video")
    if not is_good or size == 0:
        raise NotAcceptable("ffmpeg cannot make a video of these frames")
    output.seek(0)
    return output.read()
