"""Whether a bucket can be used: each right is tried on a small object below `.check/`, which no scan shows."""

import secrets
from dataclasses import dataclass
from typing import Any

from storage.errors import Conflict, Exhausted, StorageError, Unavailable
from storage.objects.s3_errors import Passing, translated
from storage.objects.s3_payload import opened
from storage.objects.s3_settings import S3Settings
from storage.objects.s3_wire import Wire

_PROBE = b"probe"


@dataclass(frozen=True, slots=True)
class Traits:
    """Where S3 servers differ."""

    exclusive: bool  # a key that is there is not written again when the request says so
    ordered: bool  # lists are in the order of the bytes of keys


def try_all(client: Any, wire: Wire, settings: S3Settings) -> Traits:
    """Write, read, list and delete, each once; what was learnt of the server.

    Raises Unavailable that names the bucket, the endpoint and what is missing; Exhausted when there is no room.
    """
    folder = f".check/{secrets.token_hex(8)}/"
    first, second = folder + "a-b", folder + "a/b"
    try:
        _write(wire, first)
        try:
            _write(wire, second)
            _read_back(wire, first)
            exclusive = _refuses_twice(wire, first)
            listed = _list(client, settings, folder)
        finally:
            for key in (first, second):
                wire.ask("DELETE", key)
    except StorageError as error:
        where = settings.endpoint or "Amazon S3"
        kind = type(error) if isinstance(error, Exhausted | Passing) else Unavailable
        raise kind(f"the bucket {settings.bucket} at {where} cannot be used: {error}") from error
    if sorted(listed) != [first, second]:
        raise Unavailable(f"the bucket {settings.bucket} does not list what was written")
    return Traits(exclusive, listed == [first, second])


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


def _list(client: Any, settings: S3Settings, folder: str) -> list[str]:
    with translated("list"):
        found = client.list_objects_v2(Bucket=settings.bucket, Prefix=settings.prefix + folder, MaxKeys=2)
    return [str(item["Key"])[len(settings.prefix) :] for item in found.get("Contents", ())]
