"""A store that tells what is read from it: for one that is read only when something is wrong with another."""

from collections.abc import Callable, Iterable, Iterator

from storage.objects import Body, ObjectMeta, ObjectStore, Source


class NotedStore:
    """An ObjectStore that is `store`; `note` is given the key of each object that it was found to have."""

    def __init__(self, store: ObjectStore, note: Callable[[str], None]) -> None:
        self._store = store
        self._note = note

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        """See `ObjectStore`."""
        body = self._store.get(key, span)
        self._note(key)
        return body

    def head(self, key: str) -> ObjectMeta:
        """See `ObjectStore`."""
        meta = self._store.head(key)
        self._note(key)
        return meta

    def put(self, key: str, source: Source, *, if_absent: bool = True) -> ObjectMeta:
        """See `ObjectStore`."""
        return self._store.put(key, source, if_absent=if_absent)

    def delete(self, names: Iterable[str]) -> None:
        """See `ObjectStore`."""
        self._store.delete(names)

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectMeta]:
        """See `ObjectStore`."""
        return self._store.scan(prefix, after=after)

    def check(self) -> None:
        """See `ObjectStore`."""
        self._store.check()
