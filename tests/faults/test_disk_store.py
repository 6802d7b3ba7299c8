"""The disk store when processes are killed and disks fail: a key is whole or not there, success means durable.

Tests may run as root, whom no permission stops: a read-only disk is therefore an error of the operating system that is
put in place of the call; a full one too, and a limit on file size besides, which the kernel itself enforces.
"""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.errors import Conflict, Exhausted, Invalid, NotFound, StorageError, Unavailable
from storage.objects import disk, file_body, folders
from storage.objects.disk import DiskStore
from storage.objects.disk_errors import translated
from storage.objects.staging import NAME

KILLS = 6
SIZE = 50_000

WRITER = """
import sys
from pathlib import Path
from storage.objects.disk import DiskStore
store = DiskStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(1_000_000):
    key = f"spool/{sys.argv[2]}/{number % 7}/{number}"
    body = [number.to_bytes(4, "big"), bytes([number % 256]) * int(sys.argv[3])]
    if number % 3:
        store.put(key, body)
    else:
        file = store.staging / "received.part"
        file.write_bytes(b"".join(body))
        store.put(key, file)
        file.unlink()
    print(key, flush=True)
"""


def everything(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    yield DiskStore(tmp_path / "objects")


def writer(root: Path, name: str) -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), name, str(SIZE)], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def test_killed_writers_leave_whole_objects_and_all_they_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(20260311)
    acknowledged: list[str] = []
    for attempt in range(KILLS):
        writers = [writer(tmp_path, f"{attempt}.{number}") for number in range(2)]
        time.sleep(chance.uniform(0.01, 0.25))
        for process in writers:
            process.send_signal(signal.SIGKILL)
            out, _ = process.communicate()
            acknowledged += [line for line in out.splitlines(keepends=True) if line.endswith("\n")]
    store = DiskStore(tmp_path)
    found = {meta.key: meta.length for meta in store.scan()}
    assert len(acknowledged) > KILLS
    assert {line.strip() for line in acknowledged} <= set(found)
    for key, length in found.items():
        number = int(key.rpartition("/")[2])
        with store.get(key) as body:
            assert body.read() == number.to_bytes(4, "big") + bytes([number % 256]) * SIZE
        assert length == SIZE + 4
    assert [path for path in everything(tmp_path) if NAME in path.parts] == []


def test_a_start_removes_what_the_dead_left_and_nothing_of_the_living(tmp_path: Path) -> None:
    living = writer(tmp_path, "1")
    dead = writer(tmp_path, "2")
    dead.kill()
    dead.communicate()
    own = DiskStore(tmp_path)
    (own.staging / "mine.part").write_bytes(b"x")
    base = tmp_path / NAME
    stray = base / "stray"
    stray.write_bytes(b"not a folder")
    another = DiskStore(tmp_path)
    kept = {path for path in base.iterdir() if path.is_dir()}
    assert {own.staging, another.staging} < kept
    assert len(kept) == 3
    assert (own.staging / "mine.part").exists()
    living.kill()
    living.communicate()
    third = DiskStore(tmp_path)
    assert {path for path in base.iterdir() if path.is_dir()} == {own.staging, another.staging, third.staging}
    assert stray.exists()
    third.close()
    assert not third.staging.exists()


def failing(number: int) -> Callable[..., Any]:
    def fail(*args: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


FULL = [errno.ENOSPC, errno.EDQUOT]
BROKEN = [errno.EROFS, errno.EACCES, errno.EIO]


@pytest.mark.parametrize("number", FULL + BROKEN)
@pytest.mark.parametrize(
    ("kind", "call"),
    [*(("buffers", call) for call in ("open", "writev", "fsync", "link")), ("file", "fsync"), ("file", "link")]
    + [("copied file", call) for call in ("open", "writev")],
)
def test_a_put_that_fails_says_so_and_leaves_nothing(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, call: str, number: int
) -> None:
    source: Any = [b"x" * 100]
    if kind != "buffers":
        source = tmp_path / "received.part"
        source.write_bytes(b"x" * 100)
    store.put("a/kept", [b"kept"])
    before = everything(tmp_path)
    if kind == "copied file":
        monkeypatch.setattr(disk.os, "link", failing(errno.EXDEV))
    monkeypatch.setattr(disk.os, call, failing(number))
    with pytest.raises(Exhausted if number in FULL else Unavailable):
        store.put("a/new", source)
    monkeypatch.undo()
    assert everything(tmp_path) == before
    with pytest.raises(NotFound):
        store.get("a/new")
    store.put("a/new", source)


def test_a_disk_that_takes_a_part_of_it_at_a_time_gets_it_all(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writev = os.writev
    monkeypatch.setattr(disk.os, "writev", lambda file, views: writev(file, [views[0][:3]]))
    store.put("a", [b"0123456789", b"", b"ab", b"cdef"])
    with store.get("a") as body:
        assert body.read() == b"0123456789abcdef"


def test_a_disk_that_fills_up_half_way_leaves_nothing(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    writev, calls = os.writev, iter(range(100))

    def fill(file: int, views: list[memoryview]) -> int:
        return writev(file, [views[0][:3]]) if next(calls) < 2 else failing(errno.ENOSPC)()

    monkeypatch.setattr(disk.os, "writev", fill)
    with pytest.raises(Exhausted):
        store.put("a", [b"0123456789"])
    monkeypatch.undo()
    assert list(store.scan()) == []
    assert list(store.staging.iterdir()) == []


def test_a_device_that_is_always_full_is_exhausted() -> None:
    file = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(Exhausted), translated("write"):
            disk._write(file, [b"x"])
    finally:
        os.close(file)


def test_a_limit_of_the_kernel_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from storage.errors import Exhausted
from storage.objects.disk import DiskStore
store = DiskStore(Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
store.put("small", [b"x" * 9_000])
try:
    store.put("large", [b"x" * 9_000, b"x" * 9_000])
except Exhausted as error:
    print("exhausted", len(list(store.staging.iterdir())), [found.key for found in store.scan()])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "exhausted 0 ['small']\n"


def test_a_folder_that_cannot_be_flushed_is_not_acknowledged_and_a_retry_tells_the_truth(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a/first", [b"x"])
    monkeypatch.setattr(folders.Folder, "sync", failing(errno.EIO))
    with pytest.raises(Unavailable):
        store.put("a/second", [b"x"])
    with pytest.raises(Unavailable):  # it may be there, but whether for good is not known yet
        store.put("a/second", [b"x"])
    monkeypatch.undo()
    with pytest.raises(Conflict):
        store.put("a/second", [b"x"])


def test_every_new_folder_is_flushed_in_its_parent_and_only_once(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    sync = folders.Folder.sync

    def note(folder: folders.Folder) -> None:
        flushed.append(os.path.basename(os.readlink(f"/proc/self/fd/{folder._fd}")))
        sync(folder)

    monkeypatch.setattr(folders.Folder, "sync", note)
    store.put("spool/study/series/1", [b"x"])
    assert flushed == ["objects", "spool", "study", "series"]
    flushed.clear()
    store.put("spool/study/series/2", [b"x"])
    assert flushed == ["series"]
    flushed.clear()
    store.delete(["spool/study/series/1"])
    assert flushed == ["series"]
    flushed.clear()
    store.delete(["spool/study/series/2"])
    assert flushed == ["series", "study", "spool", "objects"]


def test_a_folder_of_another_process_is_flushed_as_if_it_were_ours(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "objects" / "made" / "elsewhere").mkdir(parents=True)
    flushed: list[int] = []
    sync = folders.Folder.sync
    monkeypatch.setattr(folders.Folder, "sync", lambda folder: (flushed.append(1), sync(folder))[1])
    store.put("made/elsewhere/x", [b"x"])
    assert len(flushed) == 3


def test_folders_that_another_process_removes_are_made_again(store: DiskStore, tmp_path: Path) -> None:
    other = DiskStore(tmp_path / "objects")
    for attempt in range(5):
        store.put(f"spool/study/series/{attempt}", [b"x"])
        with other.get(f"spool/study/series/{attempt}") as body:
            assert body.read() == b"x"
        other.delete([f"spool/study/series/{attempt}"])
        assert not (tmp_path / "objects" / "spool").exists()
        with pytest.raises(NotFound):
            store.get(f"spool/study/series/{attempt}")


def test_a_file_of_another_file_system_is_copied(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "elsewhere"
    source.write_bytes(bytes(range(256)) * 10_000)
    link, calls = os.link, iter(range(10))
    cross = failing(errno.EXDEV)
    monkeypatch.setattr(disk.os, "link", lambda *a, **k: cross() if next(calls) == 0 else link(*a, **k))
    store.put("a", source)
    source.write_bytes(b"changed")
    with store.get("a") as body:
        assert body.read() == bytes(range(256)) * 10_000
    assert list(store.staging.iterdir()) == []


def test_more_folders_than_are_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders.os, "fsync", lambda file: None)  # this is not about durability, and quicker so
    store = DiskStore(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(300):
        store.put(f"spool/{number}/x", [b"x"])
    for number in range(300):
        assert store.head(f"spool/{number}/x").length == 1
    assert len(os.listdir("/proc/self/fd")) - before < 140


def test_no_link_below_the_root_is_followed(store: DiskStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store.put("spool/kept", [b"x"])
    (tmp_path / "objects" / "spool" / "folder").symlink_to(outside)
    (tmp_path / "objects" / "spool" / "file").symlink_to(outside / "secret")
    for key in ("spool/folder/secret", "spool/file"):
        with pytest.raises(NotFound):
            store.get(key)
        with pytest.raises(NotFound):
            store.head(key)
    assert [found.key for found in store.scan()] == ["spool/kept"]
    assert [found.key for found in store.scan("spool/folder/")] == []
    with pytest.raises(StorageError):
        store.put("spool/folder/new", [b"x"])
    store.delete(["spool/folder/secret"])
    assert everything(outside) == [outside / "secret"]


def test_a_process_that_just_ends_is_quiet(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from storage.objects.disk import DiskStore
store = DiskStore(Path({str(tmp_path)!r}))
for number in range(20):
    store.put(f"spool/{{number}}/x", [b"x"])
body = store.get("spool/1/x")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_root_that_is_a_link_is_the_place_it_names(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "objects").symlink_to(tmp_path / "volume")
    DiskStore(tmp_path / "objects").put("a", [b"x"])
    assert (tmp_path / "volume" / "a").read_bytes() == b"x"


def test_an_object_that_becomes_shorter_while_it_is_read_does_not_end_politely(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", [b"x" * 1000])
    with store.get("a") as body:
        os.truncate(tmp_path / "objects" / "a", 500)
        with pytest.raises(Unavailable):
            body.read()
    with store.get("a") as body:
        monkeypatch.setattr(file_body.os, "pread", failing(errno.EIO))
        with pytest.raises(Unavailable):
            list(body.chunks())


def test_a_part_of_a_key_that_is_an_object_is_a_conflict(store: DiskStore) -> None:
    store.put("a/b", [b"x"])
    for key in ("a", "a/b/c", "a/b/c/d"):
        for if_absent in (True, False):
            with pytest.raises(Conflict):
                store.put(key, [b"y"], if_absent=if_absent)
    assert [found.key for found in store.scan()] == ["a/b"]


def test_a_name_too_long_for_the_file_system_is_invalid(store: DiskStore) -> None:
    for act in (lambda: store.put("a/" + "x" * 300, [b"x"]), lambda: store.get("x" * 300)):
        with pytest.raises(Invalid):
            act()


def test_below_the_minimum_of_free_space_nothing_is_written(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, min_free_bytes=1 << 60)
    for act in (lambda: store.put("a", [b"x"]), store.check, store.check_room):
        with pytest.raises(Exhausted, match="full"):
            act()
    assert list(store.scan()) == []


def test_the_free_space_is_asked_seldom_and_counted_down_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DiskStore(tmp_path, min_free_bytes=1_000_000)
    asked: list[int] = []

    class Free:
        f_bavail, f_frsize = 1, 1_250_000

    monkeypatch.setattr(disk.os, "statvfs", lambda path: (asked.append(1), Free)[1])
    monkeypatch.setattr(disk.time, "monotonic", lambda: 100.0)
    for number in range(3):
        store.put(f"{number}", [b"x" * 100_000])
    with pytest.raises(Exhausted):
        store.put("3", [b"x"])
    assert len(asked) == 1


@pytest.mark.parametrize("call", ["open", "link", "fsync"])
@pytest.mark.parametrize("number", FULL + BROKEN)
def test_the_check_says_what_is_wrong_and_where(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    monkeypatch.setattr(disk.os, call, failing(number))
    with pytest.raises((Unavailable, Exhausted), match=f"{tmp_path}.*{os.strerror(number)}"):
        store.check()
    monkeypatch.undo()
    assert list(store.staging.iterdir()) == []
    store.check()


def test_a_root_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "objects"):
        with pytest.raises(Unavailable):
            DiskStore(root)
