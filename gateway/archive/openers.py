"""What opens a stored instance, wherever it lies now: loose or in a pack, in a folder or in a bucket.

What comes from a pack is verified before it is handed on, by the digests of its blocks. So is what comes over a
network: a whole instance by its digests, a span of a loose instance by fetching all of it first. Loose objects in a
folder are read as they are: they were written minutes ago, and sealing verifies them. Where a block of a pack is
damaged everywhere, an instance in it that is whole is read by digests of its own (see `rescue`).
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from gateway.archive.kept import kept
from gateway.archive.parts import Opener, Step
from gateway.archive.places import Places
from gateway.archive.rescue import rescued
from storage.dicom.identity import Identity
from storage.errors import NotFound, Unavailable
from storage.index import Stored
from storage.objects import Body
from storage.objects.fallback import GuardedBody
from storage.objects.file_body import FileBody
from storage.packs import Damaged
from storage.packs.checked import verified_chunks
from storage.packs.runs import RunReader

_ATTEMPTS = 8  # to open an instance that is moved while it is looked up
_MAX_RUNS = 4  # packs of one answer that are read side by side

Span = tuple[int, int]
Open = Callable[[Stored, Span], Body]


class Openers:
    """Of the instances in `places`; `served` says where an instance lies now, or raises NotFound."""

    def __init__(self, places: Places, served: Callable[[Identity], Stored]) -> None:
        self._places = places
        self._served = served

    def of(self, stored: Stored) -> Opener:
        """For one instance, or spans of it."""
        return _Following(stored, self._open, self._served, self._places)

    def series(self, found: Sequence[Stored]) -> "Runs":
        """For all of these instances, one after another."""
        return self.spans((one, (one.location.offset, one.location.length)) for one in found)

    def spans(self, wanted: Iterable[tuple[Stored, Span]]) -> "Runs":
        """For these spans of instances, one after another."""
        return Runs(wanted, self._open, self._served, self._places)

    def steps(self, stored: Stored) -> tuple[Step, ...]:
        """What verifies the whole instance on its way out, when it comes over a network."""
        if stored.location.store not in self._places.remote:
            return ()
        return (_verified(stored),)

    def _open(self, stored: Stored, span: Span) -> Body:
        location = stored.location
        if stored.blocks is not None:
            return self._places.blocks.get(location.key, span, stored.blocks)
        return self._places.reading[location.store].get(location.key, span)


class Runs:
    """Openers for what is `wanted` in one answer: what lies in one pack is read in few long runs. Not thread-safe."""

    def __init__(
        self,
        wanted: Iterable[tuple[Stored, Span]],
        open_one: Open,
        served: Callable[[Identity], Stored],
        places: Places,
    ) -> None:
        self._open_one = open_one
        self._served = served
        self._places = places
        self._wanted: dict[str, list[Span]] = defaultdict(list)
        for stored, span in wanted:
            if stored.blocks is not None:
                self._wanted[stored.location.key].append(span)
        self._runs: OrderedDict[str, RunReader] = OrderedDict()

    def of(self, stored: Stored) -> Opener:
        """See `Openers.of`."""
        return _Following(stored, self._open, self._served, self._places)

    def _open(self, stored: Stored, span: Span) -> Body:
        key = stored.location.key
        wanted = self._wanted.get(key, ())
        if len(wanted) < 2 or stored.blocks is None:
            return self._open_one(stored, span)
        run = self._runs.pop(key, None) or self._places.blocks.run(key, stored.blocks, wanted)
        self._runs[key] = run
        if len(self._runs) > _MAX_RUNS:
            self._runs.popitem(last=False)[1].close()
        return run.get(key, span)

    def close(self) -> None:
        """Give up what is still open."""
        while self._runs:
            self._runs.popitem()[1].close()


class _Following:
    """Opens an instance where it lies, or where it lies now: it may have been sealed, or its pack rewritten, since."""

    def __init__(self, stored: Stored, open_at: Open, served: Callable[[Identity], Stored], places: Places) -> None:
        self._stored = stored
        self._offset = stored.location.offset  # which the spans that are asked for count with
        self._open_at = open_at
        self._served = served
        self._places = places
        self._file: FileBody | None = None

    def get(self, key: str, span: Span | None = None) -> Body:
        """See `ObjectStore`; `key` is that of the instance as it was found."""
        offset, length = span or (self._offset, self._stored.location.length)
        within = (offset - self._offset, length)
        for _ in range(_ATTEMPTS):
            try:
                return self._open(within)
            except NotFound:
                self._follow()
        raise Unavailable("the instance is being moved; try again")

    def _open(self, within: Span) -> Body:
        location = self._stored.location
        if self._file is None and self._is_to_be_fetched(within):
            self._file = self._fetched()
        if self._file is not None:
            return self._file.part(within)
        span = (location.offset + within[0], within[1])
        if self._stored.blocks is None:
            return self._open_at(self._stored, span)
        try:
            body = self._open_at(self._stored, span)
        except Damaged:
            return self._rescued(within)
        return GuardedBody(body, lambda done: self._rescued((within[0] + done, within[1] - done)), broken=Damaged)

    def _rescued(self, within: Span) -> Body:
        self._file = rescued(self._stored, self._places)
        return self._file.part(within)

    def _is_to_be_fetched(self, within: Span) -> bool:
        location = self._stored.location
        loose = location.store in self._places.remote and self._stored.blocks is None
        return loose and within != (0, location.length)

    def _fetched(self) -> FileBody:
        stored = self._stored
        with self._open_at(stored, (stored.location.offset, stored.location.length)) as body:
            return kept(_verified(stored)(body.chunks()), self._places.staging, self._places.check_room)

    def _follow(self) -> None:
        """Raises NotFound when it has gone from where it is said to lie, Unavailable when it is no more what it was."""
        before = self._stored
        try:
            now = self._served(before.identity)
        except NotFound as error:  # as it should be: nothing is lost
            raise Unavailable("the instance was deleted while it was read") from error
        if now.location == before.location:
            raise NotFound("the stored object of an instance is not there")
        same = (now.digest, now.header_length, now.location.length)
        if same != (before.digest, before.header_length, before.location.length):
            raise Unavailable("the instance was replaced while it was read; try again")
        self._stored = now


def _verified(stored: Stored) -> Step:
    return partial(
        verified_chunks,
        transfer_syntax=stored.transfer_syntax,
        header_length=stored.header_length,
        digest=stored.digest,
        header_digest=stored.header_digest,
    )
