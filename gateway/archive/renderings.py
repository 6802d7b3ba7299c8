"""Instances rendered for people: pictures, moving pictures, text and documents (PS3.18 10.4.1.1.3, 10.4.1.1.4).

What a picture is made of is fetched from the archive as it is stored, and decoded and drawn in the pool.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from threading import Lock

import orjson

from gateway.archive import AS_STORED, ArchiveReader, Part
from gateway.archive.outline import Kind, Outline, described
from gateway.archive.pictures import Picture, Pictures
from gateway.archive.pool import Pool
from gateway.security.audit import AuditLog, Event, Outcome
from gateway.security.caller import Caller
from gateway.security.policy import Forbidden, Policy, Verb
from storage.dicom.identity import Scope
from storage.dicom.instance import JsonDataset
from storage.dicom.rendering import report
from storage.dicom.rendering.attributes import attributes_of_frame, binary, bulk_uris
from storage.dicom.rendering.picture_job import animated, rendered
from storage.dicom.rendering.wish import Wish
from storage.errors import Fault, Invalid, NotAcceptable, NotFound, Unavailable
from storage.index import Stored

MAX_FRAME_BYTES = 1 << 29  # of one frame, stored or decoded
MAX_MOVING_FRAMES = 2000
MAX_MOVING_BYTES = 256 << 20  # of all frames of a moving picture, as they are stored
DOCUMENT = "00420011"
_MAX_BULK_BYTES = 16 << 20  # of the tables and profiles that one picture needs
_KEPT_BYTES = 64 << 20
_KEPT_OUTLINES = 4096
_KEPT_REPRESENTATIVES = 1024
_REPRESENTATIVE_SECONDS = 60.0  # that a study is represented by an instance which may no longer be its middle
_TRIED = 16  # instances that are looked at for one that has pixels
_FORM = "1"  # to be raised when pictures come to look otherwise, as clients keep them by their tags
_TEXTS: dict[str, Callable[[JsonDataset], str]] = {
    "text/html": report.as_html,
    "text/plain": report.as_text,
    "text/xml": report.as_xml,
}
TEXT_MEDIA_TYPES = tuple(_TEXTS)
_MISTAKES = (Invalid, NotFound, NotAcceptable)

Locate = Callable[[Scope], Sequence[Stored]]


class Renderings:
    """What can be rendered of the instances in `archive`, whose versions `locate` tells. Safe under threads.

    Rendering needs the right that reading frames needs, and is recorded as that, once a request.
    """

    def __init__(
        self,
        archive: ArchiveReader,
        locate: Locate,
        pool: Pool,
        policy: Policy,
        audit: AuditLog,
        *,
        kept_bytes: int = _KEPT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.archive = archive
        self.locate = locate
        self.pool = pool
        self.pictures = Pictures(kept_bytes)
        self._policy = policy
        self._audit = audit
        self._clock = clock
        self._lock = Lock()
        self._outlines: OrderedDict[bytes, Outline] = OrderedDict()
        self._representatives: OrderedDict[Scope, tuple[Scope, float]] = OrderedDict()

    def find(self, scope: Scope, *, by: Caller) -> list["Subject"]:
        """Every instance in scope, in its order. Raises NotFound, Forbidden, Unavailable."""
        return self._guarded(scope, by, lambda: [Subject(self, stored, by) for stored in self.locate(scope)])

    def representative(self, scope: Scope, *, by: Caller) -> "Subject":
        """An image in scope near its middle; raises as `find` does, and NotAcceptable when none is near."""
        return self._guarded(scope, by, lambda: [self._representative(scope, by)])[0]

    def _guarded(self, scope: Scope, by: Caller, act: Callable[[], list["Subject"]]) -> list["Subject"]:
        with self.recorded(scope, by):
            self._policy.check(by, Verb.FRAMES, scope)
            found = act()
        self._audit.record(Event.of(Verb.FRAMES, Outcome.SUCCESS, by, scope, count=len(found)))
        return found

    @contextmanager
    def recorded(self, scope: Scope, by: Caller) -> Iterator[None]:
        """Record a refusal or failure on its way up."""
        try:
            yield
        except Exception as error:
            denied, mistaken = isinstance(error, Forbidden), isinstance(error, _MISTAKES)
            outcome = Outcome.DENIED if denied else Outcome.MINOR if mistaken else Outcome.FAILURE
            self._audit.record(Event.of(Verb.FRAMES, outcome, by, scope, reason=type(error).__name__))
            raise

    def _representative(self, scope: Scope, by: Caller) -> "Subject":
        with self._lock:
            known, until = self._representatives.get(scope, (scope, 0.0))
        if known != scope and self._clock() < until:
            try:
                return Subject(self, self.locate(known)[0], by)
            except NotFound:  # deleted since: another takes its place
                pass
        return self._chosen(scope, by)

    def _chosen(self, scope: Scope, by: Caller) -> "Subject":
        found = self.locate(scope)
        middle = len(found) // 2
        nearest = sorted(range(len(found)), key=lambda at: abs(at - middle))[:_TRIED]
        for subject in (Subject(self, found[at], by) for at in nearest):
            if subject.outline.kind is Kind.IMAGE:
                with self._lock:
                    self._representatives[scope] = (subject.scope, self._clock() + _REPRESENTATIVE_SECONDS)
                    if len(self._representatives) > _KEPT_REPRESENTATIVES:
                        self._representatives.popitem(last=False)
                return subject
        raise NotAcceptable("there are no pixels here that could be rendered")

    def outline(self, stored: Stored, dataset: Callable[[], JsonDataset]) -> Outline:
        """What can be rendered of this version; `dataset` is asked the first time."""
        with self._lock:
            known = self._outlines.get(stored.digest)
        if known is not None:
            return known
        outline = Outline.of(dataset())
        with self._lock:
            self._outlines[stored.digest] = outline
            if len(self._outlines) > _KEPT_OUTLINES:
                self._outlines.popitem(last=False)
        return outline


class Subject:
    """One version of one instance, to be rendered for somebody who may see it."""

    def __init__(self, renderings: Renderings, stored: Stored, by: Caller) -> None:
        self.identity = stored.identity
        self.scope = Scope(stored.identity.study_uid, stored.identity.series_uid, stored.identity.sop_uid)
        self._renderings = renderings
        self._stored = stored
        self._by = by
        self._read: JsonDataset | None = None

    @property
    def outline(self) -> Outline:
        """What it is, and how many frames it has."""
        return self._renderings.outline(self._stored, self._dataset)

    @property
    def middle(self) -> int:
        """The frame that stands for all of them."""
        return self.outline.frames // 2 + 1 if self.outline.frames > 1 else 1

    def tag(self, what: object) -> str:
        """A strong entity tag of `what` is made of this version; as good without having made it."""
        named = repr((_FORM, self.identity.sop_uid, self._stored.digest, what))
        return '"' + hashlib.sha256(named.encode()).hexdigest()[:32] + '"'

    def picture(self, number: int, wish: Wish) -> Picture:
        """A still picture of one frame, from 1.

        Raises NotFound when there is no such frame, NotAcceptable when it cannot be rendered, Invalid: QUERY for a
        viewport that shows nothing of it, TOO_LARGE; Exhausted, Unavailable.
        """
        return self._kept(number, wish, lambda: self._drawn(number, wish))

    def moving_picture(self, wish: Wish) -> Picture:
        """All frames in motion; raises as `picture` does."""
        return self._kept("moving", wish, lambda: self._animated(wish))

    def text(self, media_type: str) -> Picture:
        """A report as one of TEXT_MEDIA_TYPES; raises NotAcceptable when it is none."""
        with self._renderings.recorded(self.scope, self._by):
            return Picture(_TEXTS[media_type](self._dataset()).encode("utf-8", "replace"), media_type)

    def document(self) -> tuple[int, Generator[bytes, None, None]]:
        """The encapsulated document, without the byte that made its length even (PS3.5 6.2): its length and bytes."""
        with self._renderings.recorded(self.scope, self._by):
            element = self._dataset().get(DOCUMENT, {})
            if "BulkDataURI" in element:
                parts = self._renderings.archive.bulk(self.scope, DOCUMENT, by=self._by)
                length = self.outline.document_bytes((first := next(parts)).length)
                return length, _cut(first, parts, length)
            value = binary(element, {}) or b""
            length = self.outline.document_bytes(len(value))
            return length, (each for each in [value[:length]])

    def _kept(self, what: int | str, wish: Wish, make: Callable[[], Picture]) -> Picture:
        with self._renderings.recorded(self.scope, self._by):
            key = (self.identity.sop_uid, self._stored.digest, what, wish)
            return self._renderings.pictures.get(key, make)

    def _drawn(self, number: int, wish: Wish) -> Picture:
        dataset = self._dataset()
        description = described(dataset, MAX_FRAME_BYTES)
        [data], source = self._frames([number], MAX_FRAME_BYTES)
        attributes = attributes_of_frame(dataset, number)
        bulk = self._bulk(bulk_uris(attributes))
        self._check_version()
        with _stored_trouble():
            body, warnings = self._renderings.pool.run(rendered, data, source, description, attributes, wish, bulk)
        return Picture(body, wish.media_type, warnings)

    def _animated(self, wish: Wish) -> Picture:
        dataset = self._dataset()
        description = described(dataset, MAX_FRAME_BYTES)
        if description.frames > MAX_MOVING_FRAMES:
            raise Invalid(Fault.TOO_LARGE, f"no more than {MAX_MOVING_FRAMES} frames are put in motion")
        numbers = range(1, description.frames + 1)
        frames, source = self._frames(numbers, MAX_MOVING_BYTES)
        attributes = [attributes_of_frame(dataset, number) for number in numbers]
        bulk = self._bulk(uri for each in attributes for uri in bulk_uris(each))
        timing = {key: element for key, element in dataset.items() if element.get("vr") != "SQ"}
        self._check_version()
        with _stored_trouble():
            body, warnings = self._renderings.pool.run(
                animated, frames, source, description, attributes, timing, wish, bulk
            )
        return Picture(body, wish.media_type, warnings)

    def _dataset(self) -> JsonDataset:
        if self._read is None:
            datasets = self._renderings.archive.metadata(self.scope, by=self._by)
            with _closed(datasets):
                _, text = next(datasets)
            self._read = orjson.loads(text)
        return self._read

    def _frames(self, numbers: Sequence[int], most: int) -> tuple[list[bytes], str]:
        """The frames as they are stored, and their transfer syntax."""
        found, length, syntax = [], 0, ""
        parts = self._renderings.archive.frames(self.scope, numbers, accept=[AS_STORED], by=self._by)
        with _closed(parts):
            for part in parts:
                with closing(part):
                    length, syntax = length + part.length, part.transfer_syntax
                    if length > most:
                        raise Invalid(Fault.TOO_LARGE, f"pixels of more than {most} bytes are not rendered")
                    found.append(b"".join(part.chunks()))
        return found, syntax

    def _bulk(self, uris: Iterator[str]) -> dict[str, bytes]:
        """The values that attributes give by reference (tables of palettes, profiles)."""
        found: dict[str, bytes] = {}
        left = _MAX_BULK_BYTES
        for uri in dict.fromkeys(uris):
            parts = self._renderings.archive.bulk(self.scope, uri.removeprefix("bulkdata/"), by=self._by)
            with _closed(parts), closing(next(parts)) as part:
                left -= part.length
                if left < 0:
                    raise Invalid(Fault.TOO_LARGE, f"tables of more than {_MAX_BULK_BYTES} bytes are not applied")
                found[uri] = b"".join(part.chunks())
        return found

    def _check_version(self) -> None:
        """Raise Unavailable when another version came to be served while this one was read."""
        if self._renderings.locate(self.scope)[0].digest != self._stored.digest:
            raise Unavailable("the instance is being replaced; try again")


def _cut(part: Part, parts: Iterator[Part], length: int) -> Generator[bytes, None, None]:
    """The first `length` bytes of `part`."""
    with _closed(parts), closing(part):
        for chunk in part.chunks():
            yield chunk[:length]
            length = max(0, length - len(chunk))


@contextmanager
def _stored_trouble() -> Iterator[None]:
    """What is wrong with stored pixels is no fault of a request: they cannot be had in this form."""
    try:
        yield
    except Invalid as error:
        if error.fault in (Fault.QUERY, Fault.TOO_LARGE):
            raise
        raise NotAcceptable(f"the pixels cannot be rendered: {error}") from error


@contextmanager
def _closed(items: Iterator[object]) -> Iterator[None]:
    try:
        yield
    finally:
        close = getattr(items, "close", None)  # an iterator need not have it, a generator has
        if close is not None:
            close()
