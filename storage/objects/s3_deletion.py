"""Objects removed from a bucket for good: where it keeps versions, every one of them."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

from storage.objects.s3_errors import refusal, translated
from storage.objects.s3_settings import S3Settings

_BATCH = 1000  # names in one request, and versions in one page
_MAX_PAGES = 1000  # of the versions of one key

Patiently = Callable[[Callable[[], Any]], Any]  # calls what it is given, again where that is of use


def remove(client: Any, settings: S3Settings, patiently: Patiently, names: Iterable[str], *, versioned: bool) -> None:
    """Delete `names` (below the prefix), 1,000 a request; one request more for each of them where it is `versioned`.

    A name that is not there is fine. Raises Unavailable.
    """
    keys = (settings.prefix + name for name in names)
    objects: Iterator[dict[str, str]]
    if versioned:
        objects = chain.from_iterable(_versions(client, settings, patiently, key) for key in keys)
    else:
        objects = ({"Key": key} for key in keys)
    while batch := list(islice(objects, _BATCH)):
        patiently(partial(_delete, client, settings, batch))


def _delete(client: Any, settings: S3Settings, batch: list[dict[str, str]]) -> None:
    with translated("delete"):
        answer = client.delete_objects(Bucket=settings.bucket, Delete={"Objects": batch, "Quiet": True})
    missing = ("NoSuchKey", "NoSuchVersion")
    failed = [str(error.get("Code", "")) for error in answer.get("Errors", ()) if error.get("Code") not in missing]
    if failed:
        raise refusal(403 if failed[0] == "AccessDenied" else 500, failed[0], "delete")


def _versions(client: Any, settings: S3Settings, patiently: Patiently, key: str) -> Iterator[dict[str, str]]:
    """Each version of `key` and each mark that it was deleted."""
    markers: dict[str, str] = {}
    for _ in range(_MAX_PAGES):

        def page(markers: dict[str, str] = markers) -> Any:
            with translated("list versions"):
                return client.list_object_versions(Bucket=settings.bucket, Prefix=key, MaxKeys=_BATCH, **markers)

        found = patiently(page)
        for version in chain(found.get("Versions", ()), found.get("DeleteMarkers", ())):
            if version["Key"] == key:
                yield {"Key": key, "VersionId": str(version["VersionId"])}
        if not found.get("IsTruncated") or found.get("NextKeyMarker", key) != key:  # then come longer keys
            return
        markers = {"KeyMarker": key, "VersionIdMarker": str(found["NextVersionIdMarker"])}
