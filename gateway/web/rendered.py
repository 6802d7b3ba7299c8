"""WADO-RS rendered resources and thumbnails: what people look at (PS3.18 10.4.1.1.3, 10.4.1.1.4).

A study or series is one part for each instance that can be rendered, its middle frame when it has several; an instance
with several frames is that one frame as a still picture, all of them in motion (GIF, MP4) or as parts.
"""

import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from starlette.requests import Request
from starlette.responses import Response

from gateway.archive.outline import Kind
from gateway.archive.pictures import Picture
from gateway.archive.renderings import TEXT_MEDIA_TYPES, Renderings, Subject
from gateway.config import Web
from gateway.web import accept, delivery, paths
from gateway.web.accept import MediaRange, Offer
from gateway.web.address import base_url
from gateway.web.delivery import Body, Delivered, in_rendering_thread
from gateway.web.errors import Refused
from gateway.web.multipart_out import Multipart
from gateway.web.rendering_request import Wished, accepted, wished, wished_thumbnail
from gateway.web.warnings import add_warning
from storage.dicom.identity import Identity
from storage.errors import Invalid, NotAcceptable, NotFound

STILL = ("image/jpeg", "image/png", "image/gif", "image/webp")
_VIDEO, _GIF, _PDF = "video/mp4", "image/gif", "application/pdf"
# A report holds text of whoever wrote it: nothing in it is ever run.
_INERT = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


@dataclass(slots=True)
class _RenderedPart:
    """One picture, as a Part."""

    identity: Identity
    place: str
    picture: Picture
    transfer_syntax: str = ""

    @property
    def length(self) -> int:
        return len(self.picture.body)

    def chunks(self) -> Iterator[bytes]:
        yield self.picture.body

    def close(self) -> None:
        """Nothing is held open."""


async def rendered(renderings: Renderings, settings: Web, request: Request) -> Response:
    """A study, series or instance. Raises Invalid for what is asked wrongly, NotFound, NotAcceptable."""
    scope, by, ranges, wish = paths.scope(request), paths.caller(request), accepted(request), wished(request)
    base = base_url(request, settings)

    def answer() -> Response:
        subjects = renderings.find(scope, by=by)
        if scope.sop_uid is None:
            return _several(subjects, ranges, wish, base)
        return instance(request, subjects[0], ranges, wish, base)

    return warned(await in_rendering_thread(answer), wish, base)


async def frames(renderings: Renderings, settings: Web, request: Request) -> Response:
    """Frames of one instance: one as it is, several as parts."""
    scope, by, ranges, wish = paths.scope(request), paths.caller(request), accepted(request), wished(request)
    numbers, base = paths.frame_numbers(request), base_url(request, settings)

    def answer() -> Response:
        [subject] = renderings.find(scope, by=by)
        _check_frames(subject, numbers)
        offer = accept.choose(ranges, _offers(STILL, multipart_only=len(numbers) > 1))
        if offer.multipart:
            return _multipart(_frame_parts(subject, numbers, wish, offer.media_type), offer, base)
        return still(request, subject, numbers[0], wish, offer.media_type, base)

    return warned(await in_rendering_thread(answer), wish, base)


async def thumbnail(renderings: Renderings, settings: Web, request: Request) -> Response:
    """One small still picture of a study, series, instance or frame; of several images, one near the middle."""
    scope, by, ranges, wish = paths.scope(request), paths.caller(request), accepted(request), wished_thumbnail(request)
    numbers, base = paths.frame_numbers(request) if "frames" in request.path_params else [], base_url(request, settings)
    if len(numbers) > 1:
        raise Refused(400, "frames", "a thumbnail shows one frame")

    def answer() -> Response:
        subject = renderings.representative(scope, by=by)
        _check_frames(subject, numbers)
        offer = accept.choose(ranges, [Offer(media_type) for media_type in STILL])
        number = numbers[0] if numbers else subject.middle
        return still(request, subject, number, wish, offer.media_type, base)

    return await in_rendering_thread(answer)


def instance(request: Request, subject: Subject, ranges: Sequence[MediaRange], wish: Wished, base: str) -> Response:
    """Whatever there is to see in it; raises NotAcceptable when there is nothing, or not in these media types."""
    outline = subject.outline
    if outline.kind is Kind.REPORT:
        return text(subject, accept.choose(ranges, [Offer(name) for name in TEXT_MEDIA_TYPES]).media_type)
    if outline.kind is Kind.DOCUMENT and outline.document_type == _PDF:
        accept.choose(ranges, [Offer(_PDF)])
        return _document(subject)
    if outline.kind is not Kind.IMAGE:
        raise NotAcceptable("there is nothing in this instance that could be rendered")
    moving = outline.frames > 1 and shutil.which("ffmpeg") is not None
    offer = accept.choose(ranges, _offers((*STILL, _VIDEO) if moving else STILL))
    if offer.multipart:
        numbers = range(1, outline.frames + 1)
        return _multipart(_frame_parts(subject, numbers, wish, offer.media_type), offer, base)
    if outline.frames > 1 and offer.media_type in (_GIF, _VIDEO):
        asked = wish.as_type(offer.media_type)
        tag = subject.tag(("moving", asked))
        return _unchanged(request, tag) or _whole(subject.moving_picture(asked), tag, base)
    return still(request, subject, subject.middle, wish, offer.media_type, base)


def _offers(media_types: Sequence[str], *, multipart_only: bool = False) -> list[Offer]:
    several = [Offer(media_type, multipart=True) for media_type in media_types if media_type != _VIDEO]
    return several if multipart_only else [*map(Offer, media_types), *several]


def still(request: Request, subject: Subject, number: int, wish: Wished, media_type: str, base: str) -> Response:
    """A picture of one frame, unless the caller has it already; raises as `Subject.picture` does."""
    asked = wish.as_type(media_type)
    tag = subject.tag((number, asked))
    return _unchanged(request, tag) or _whole(subject.picture(number, asked), tag, base)


def _several(subjects: Sequence[Subject], ranges: Sequence[MediaRange], wish: Wished, base: str) -> Response:
    offer = accept.choose(ranges, _offers((*STILL, *TEXT_MEDIA_TYPES), multipart_only=True))
    return _multipart(_parts(subjects, wish, offer.media_type), offer, base)


def _parts(subjects: Sequence[Subject], wish: Wished, media_type: str) -> Generator[_RenderedPart, None, None]:
    """One of each instance that can be had in this media type; the others are skipped."""
    asked = wish.as_type(media_type)
    wanted = Kind.REPORT if media_type in TEXT_MEDIA_TYPES else Kind.IMAGE
    for subject in subjects:
        if subject.outline.kind is wanted:
            try:
                is_text = wanted is Kind.REPORT
                picture = subject.text(media_type) if is_text else subject.picture(subject.middle, asked)
            except (NotAcceptable, Invalid):  # its pixels are damaged, too many, or not where the viewport is
                continue
            yield _RenderedPart(subject.identity, "rendered", picture)


def _frame_parts(
    subject: Subject, numbers: Sequence[int], wish: Wished, media_type: str
) -> Generator[_RenderedPart, None, None]:
    asked = wish.as_type(media_type)
    for number in numbers:
        picture = subject.picture(number, asked)
        yield _RenderedPart(subject.identity, f"frames/{number}/rendered", picture)


def _multipart(parts: Generator[_RenderedPart, None, None], offer: Offer, base: str) -> Response:
    """The first part is made before anything is answered, so that it can still be an error."""
    first = next(parts, None)
    if first is None:
        raise NotAcceptable("there is nothing here that could be rendered so")
    framing = Multipart(offer, base)
    headers = {"content-type": framing.content_type, **delivery.PRIVATE}
    return Delivered(Body(framing.chunks(chain([first], parts))), headers)


def _check_frames(subject: Subject, numbers: Sequence[int]) -> None:
    count = subject.outline.frames
    if numbers and max(numbers) > count:
        raise NotFound(f"the instance has {count} frames")


def text(subject: Subject, media_type: str) -> Response:
    """A report as text, in a form in which no browser runs anything."""
    picture = subject.text(media_type)
    headers = {"content-type": f"{media_type}; charset=utf-8", **delivery.PRIVATE, **_INERT}
    return Response(picture.body, headers=headers)


def _document(subject: Subject) -> Response:
    length, chunks = subject.document()
    return Delivered(Body(chunks), {"content-type": _PDF, **delivery.PRIVATE}, length)


def _whole(picture: Picture, tag: str, base: str) -> Response:
    response = Response(picture.body, headers={"content-type": picture.media_type, "etag": tag, **delivery.PRIVATE})
    for warning in picture.warnings:
        add_warning(response, base, warning)
    return response


def _unchanged(request: Request, tag: str) -> Response | None:
    """304 when the caller has it already (RFC 9110 13.1.2)."""
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers={"etag": tag, **delivery.PRIVATE}) if tag in known else None


def warned(response: Response, wish: Wished, base: str) -> Response:
    """The response, with a warning for each annotation that cannot be given (8.3.5.1.1)."""
    for keyword in wish.unknown:
        add_warning(response, base, f"the annotation {keyword} is not known here")
    return response
