"""The objects of a bucket in key order, also from servers that list folder by folder.

S3 lists keys in the order of their bytes: `a-b`, `a/b`. A server that keeps folders below (SeaweedFS) comes to the
folder `a` before it comes to `a-b`. Its pages are sorted here, and for each folder in whose midst a page ends, what
belongs before that folder but is still to come is fetched first.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from storage.objects import ObjectMeta, keys
from storage.objects.s3_bucket import MOST, Bucket, Objects
from storage.objects.s3_patience import Patience

PAGE = MOST
_BEFORE_SLASH = "-."  # what a key may hold that sorts before a slash


@dataclass(frozen=True, slots=True)
class Listing:
    """Lists what lies in `bucket`. `ordered`: the server lists in key order."""

    bucket: Bucket
    patiently: Patience
    ordered: Callable[[], bool]

    def scan(self, prefix: str, after: str) -> Iterator[ObjectMeta]:
        """See `ObjectStore.scan`. One request for 1,000 objects; other names than keys of ours are passed over."""
        found = self._in_order(prefix, after) if self.ordered() else self._sorted(prefix, after)
        return (meta for meta in found if keys.is_safe(meta.key))

    def _in_order(self, prefix: str, after: str) -> Iterator[ObjectMeta]:
        for page in self._pages(prefix, after):
            yield from page

    def _sorted(self, prefix: str, after: str) -> Iterator[ObjectMeta]:
        """From the start and left out up to `after`: such a server starts after a key in its own order, not in ours."""
        folders = _Folders(prefix, self._has_any)
        for page in self._pages(prefix, ""):
            folders.enter([meta.key for meta in page])
            for meta in sorted(page, key=lambda meta: meta.key):
                for earlier in folders.due_before(meta.key):
                    yield from self._sorted(earlier, after)
                if meta.key > after and not folders.is_given(meta.key):
                    yield meta

    def _has_any(self, prefix: str) -> bool:
        return bool(self._page(prefix, "", 1).found)

    def _pages(self, prefix: str, after: str) -> Iterator[Sequence[ObjectMeta]]:
        while True:
            page = self._page(prefix, after, PAGE)
            if page.found:
                after = page.found[-1].key
                yield page.found
            if not page.found or not page.cut:
                return

    def _page(self, prefix: str, after: str, most: int) -> Objects:
        return self.patiently(partial(self.bucket.objects, prefix, after=after, most=most))


@dataclass(slots=True)
class _Folders:
    """The folders that the listing of `prefix` may be in the midst of, and what of others is given ahead of them."""

    prefix: str
    has_any: Callable[[str], bool]
    _open: set[str] = field(default_factory=set)  # each with its slash
    _due: dict[str, list[str]] = field(default_factory=dict)  # folder: prefixes of what belongs before it
    _given: list[str] = field(default_factory=list)

    def enter(self, page: list[str]) -> None:
        """Take the next page: look for what belongs before the folders at its end, once for each folder."""
        self._given = [prefix for prefix in self._given if not _is_past(page[0], prefix)]
        ordered = sorted(page)
        folders = {folder for folder in self._unfinished(page[-1]) if folder in self._open or _is_in(ordered, folder)}
        for folder in sorted(folders - self._open, key=len):
            ahead = (*self._given, *chain.from_iterable(self._due.values()))
            if folder.startswith(ahead):  # what belongs before it comes along with it
                continue
            prefixes = [folder[:-1] + character for character in _BEFORE_SLASH]
            self._due[folder] = [prefix for prefix in prefixes if self.has_any(prefix)]
        self._open = folders

    def _unfinished(self, last: str) -> Iterator[str]:
        """The folders that `last` is in, and those before which it belongs: `a/1/` and `a/` for `a/1-2`."""
        for at in range(len(self.prefix), len(last)):
            if last[at] in _BEFORE_SLASH or last[at] == "/":
                yield last[:at] + "/"

    def due_before(self, key: str) -> list[str]:
        """The prefixes to be listed before `key`, each once, in order."""
        reached = [folder for folder, due in self._due.items() if key.startswith((folder, *due))]
        due = [prefix for folder in sorted(reached) for prefix in self._due.pop(folder)]
        self._given += due
        return due

    def is_given(self, key: str) -> bool:
        """Whether `key` came ahead."""
        return bool(self._given) and key.startswith(tuple(self._given))


def _is_in(ordered: list[str], folder: str) -> bool:
    at = bisect_left(ordered, folder)
    return at < len(ordered) and ordered[at].startswith(folder)


def _is_past(key: str, prefix: str) -> bool:
    """Whether a listing folder by folder that has come to `key` gives nothing with `prefix` any more."""
    parent, _, name = prefix.rpartition("/")
    if parent and not key.startswith(parent + "/"):
        return True
    reached = key[len(parent) + 1 if parent else 0 :].partition("/")[0]
    return reached > name and not reached.startswith(name)
