"""Whether a bucket can be used: each right is tried on a small object below `.check/`, which no scan shows."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from storage.errors import Conflict, Exhausted, StorageError, Unavailable
from storage.objects import s3_deletion
from storage.objects.s3_bucket import Bucket
from storage.objects.s3_errors import Passing, translated
from storage.objects.s3_payload import opened
from storage.objects.s3_settings import S3Settings
from storage.objects.s3_wire import Wire

_FOLDER = ".check/"
_PROBE = b"probe"
_TRIAL_SECONDS = 900.0  # from one trial of all rights to the next, when there was no trouble
_LOOK_SECONDS = 60.0  # from one look to the next in between
_LEFT_OVER = 3600 * 1_000_000  # microseconds: as old is no object of a trial that is still going on


@dataclass(frozen=True, slots=True)
class Traits:
    """Where S3 servers, and buckets, differ."""

    exclusive: bool  # a key that is there is not written again when the request says so
    ordered: bool  # lists are in the order of the bytes of keys
    versioned: bool  # what is deleted stays as a version


class Watch:
    """Tries a bucket at first, after trouble and each quarter of an hour; lists it once a minute in between.

    Safe under threads: they wait for the one that is at it.
    """

    def __init__(
        self, bucket: Bucket, wire: Wire, settings: S3Settings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bucket = bucket
        self._wire = wire
        self._settings = settings
        self._clock = clock
        self._folder = f"{_FOLDER}{secrets.token_hex(8)}/"  # the same each time: the next trial removes what is left
        self._lock = threading.Lock()
        self.known: Traits | None = None
        self._tried_at = self._seen_at = float("-inf")

    def traits(self) -> Traits:
        """What was learnt of the server; tries it when nothing was yet. Raises as `check`."""
        with self._lock:
            return self.known or self._try()

    def check(self, *, doubtful: bool = False) -> None:
        """Ask the server unless it was found in order within the last minute; try everything when that is `doubtful`.

        Raises Unavailable that names the bucket, the endpoint and what is missing; Exhausted when there is no room.
        """
        with self._lock:
            now = self._clock()
            if doubtful or now - self._tried_at >= _TRIAL_SECONDS:
                self._try()
            elif now - self._seen_at >= _LOOK_SECONDS:
                self._look()

    def _try(self) -> Traits:
        self._tried_at = float("-inf")  # what fails is tried in full the next time too
        self.known = found = try_all(self._bucket, self._wire, self._settings, self._folder)
        self._tried_at = self._seen_at = self._clock()
        return found

    def _look(self) -> None:
        tried_at, self._tried_at = self._tried_at, float("-inf")
        with _named(self._settings):
            self._bucket.objects(self._folder)
        self._tried_at, self._seen_at = tried_at, self._clock()


def try_all(bucket: Bucket, wire: Wire, settings: S3Settings, folder: str) -> Traits:
    """Write, read, list and delete, each once, in `folder`; what was learnt of the server. Raises as `Watch.check`."""
    first, second = folder + "a-b", folder + "a/b"
    with _named(settings):
        _write(wire, first)
        _write(wire, second)
        _read_back(wire, first)
        exclusive = _refuses_twice(wire, first)
        listed = bucket.objects(folder).found
        names = [meta.key for meta in listed]
        if sorted(names) != [first, second]:
            raise Unavailable("it does not list what was written")
        versioned = _delete(bucket, wire, (first, second))
        now = max(meta.modified_at for meta in listed)  # by the clock of the server
        old = [meta.key for meta in bucket.objects(_FOLDER).found if now - meta.modified_at > _LEFT_OVER]
        s3_deletion.remove(bucket, _once, old, versioned=versioned)
    return Traits(exclusive, names == [first, second], versioned)


@contextmanager
def _named(settings: S3Settings) -> Iterator[None]:
    """Say which bucket it is in what is raised."""
    try:
        yield
    except StorageError as error:
        where = settings.endpoint or "Amazon S3"
        kind = type(error) if isinstance(error, Exhausted | Passing) else Unavailable
        raise kind(f"the bucket {settings.bucket} at {where} cannot be used: {error}") from error


def _write(wire: Wire, key: str, condition: dict[str, str] | None = None) -> None:
    with opened([_PROBE]) as whole:
        wire.ask("PUT", key, headers=condition, payload=whole.payload(0, whole.length, signed=wire.signs_payloads))


def _read_back(wire: Wire, key: str) -> None:
    answer = wire.ask("GET", key, stream=True)
    with translated("read"):
        found = answer.read()
        answer.release_conn()
    if found != _PROBE:
        raise Unavailable("it does not give back what was written")


def _refuses_twice(wire: Wire, key: str) -> bool:
    try:
        _write(wire, key, {"If-None-Match": "*"})
    except Conflict:
        return True
    return False


def _delete(bucket: Bucket, wire: Wire, names: tuple[str, ...]) -> bool:
    """Whether the bucket kept versions of them; these are gone too."""
    answers = [wire.ask("DELETE", name) for name in names]
    versioned = any(answer.headers.get("x-amz-delete-marker") == "true" for answer in answers)
    if versioned:
        try:
            s3_deletion.remove(bucket, _once, names, versioned=True)
        except Passing:
            raise
        except Unavailable as error:
            raise Unavailable(
                f"it keeps versions, and these cannot be deleted: {error}. Allow ListBucketVersions and "
                "DeleteObjectVersion, and switch off what locks objects (Object Lock), or take another bucket"
            ) from error
    return versioned


def _once(act: Callable[[], Any]) -> Any:
    return act()
