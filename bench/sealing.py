"""`python -m bench.sealing`: how fast a CT series is sealed, from a folder into a folder and into a bucket.

The sealer works in this process on an archive of its own, with nothing else beside it: what is measured is sealing,
from the first loose object that is read to the commit of the index. `floor` is a copy of as many bytes with one flush.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path

from bench import data, s3
from gateway.archive.clock import microseconds
from gateway.archive.sealer import Sealer, Sealing
from storage.dicom.parse import parse
from storage.index import InstanceRecord, Location
from storage.index.sqlite import SqliteIndex
from storage.objects import ObjectStore, keys
from storage.objects.disk import DiskStore
from storage.objects.s3 import S3Store
from storage.objects.s3_settings import parse_s3_url

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sealing", description=__doc__)
    parser.add_argument("--slices", type=int, default=200, help="of a series, 525 KB each  [default: 200]")
    parser.add_argument("--repeat", type=int, default=3, help="series sealed into each place  [default: 3]")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder on the disk to be measured")
    options = parser.parse_args()
    data.prepare()
    with _folder(options.data) as folder, ExitStack() as stack:
        bucket = stack.enter_context(s3.bucket(folder / "s3"))
        places: dict[str, ObjectStore] = {
            "folder": stack.enter_context(closing(DiskStore(folder / "archive"))),
            "bucket": stack.enter_context(closing(S3Store(parse_s3_url(bucket)))),
        }
        for store in places.values():
            store.check()
        for _ in range(options.repeat):  # in turn, so that noise falls on all alike
            for name, store in places.items():
                seconds, length = seal(folder / name, store, options.slices)
                floor = copy(folder, length)
                print(
                    f"{name:8} {length / seconds / 1e6:7.1f} MB/s {options.slices / seconds:8.1f} instances/s"
                    f"   floor {length / floor / 1e6:7.1f} MB/s",
                    flush=True,
                )


def seal(folder: Path, store: ObjectStore, slices: int) -> tuple[float, int]:
    """Seconds to seal a new series into `store`, and its bytes."""
    study = data.fresh_study()
    with closing(DiskStore(folder / "spool")) as spool, closing(SqliteIndex(folder / "index.sqlite")) as index:
        for made in islice(data.ct_study(study), slices):
            body = b"".join([made.preface, *made.buffers])
            instance = parse(body)
            key = keys.spool(instance.identity, instance.digest)
            spool.put(key, [body])
            index.add(InstanceRecord(instance, Location("spool", key, 0, len(body)), microseconds(), "bench"))
        sealing = Sealing(min_free_bytes=0)
        sealer = Sealer(index, {"spool": spool, "archive": store}, staging=spool.staging, sealing=sealing)
        began = time.monotonic()
        packs = sealer.seal_series(data.uid(study), data.uid(study, 1))
        return time.monotonic() - began, sum(pack.location.length for pack in packs)


def copy(folder: Path, length: int) -> float:
    """Seconds to read and write so many bytes of files on this disk, and to flush them once."""
    source, target = folder / "source", folder / "target"
    source.write_bytes(os.urandom(length))
    began = time.monotonic()
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    took = time.monotonic() - began
    source.unlink()
    target.unlink()
    return took


@contextmanager
def _folder(base: Path) -> Iterator[Path]:
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="sealing-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
