"""Objects removed from a bucket for good: where it keeps versions, every one of them."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

from storage.objects.s3_bucket import MOST, Bucket, Marker

_MAX_PAGES = 1000  # of the versions of one key

Patiently = Callable[[Callable[[], Any]], Any]  # calls what it is given, again where that is of use


def remove(bucket: Bucket, patiently: Patiently, names: Iterable[str], *, versioned: bool) -> None:
    """Delete `names`, 1,000 a request; one request more for each of them where it is `versioned`.

    A name that is not there is fine. Raises Unavailable.
    """
    objects: Iterator[Marker]
    if versioned:
        objects = chain.from_iterable(_versions(bucket, patiently, name) for name in names)
    else:
        objects = ((name, "") for name in names)
    while batch := list(islice(objects, MOST)):
        patiently(partial(bucket.delete, batch))


def _versions(bucket: Bucket, patiently: Patiently, key: str) -> Iterator[Marker]:
    """Each version of `key` and each mark that it was deleted."""
    after: Marker | None = None
    for _ in range(_MAX_PAGES):
        page = patiently(partial(bucket.versions, key, after))
        yield from (version for version in page.found if version[0] == key)
        after = page.next
        if after is None or after[0] != key:  # then come longer keys
            return
