"""WADO-RS: instances, frames and bulk values (PS3.18 10.4).

Each handler makes one trip into a thread: look up, choose the form, read up to 1 MiB.
"""

from collections.abc import Iterator, Sequence

from starlette.requests import Request
from starlette.responses import Response

from gateway.archive import AS_STORED, BY_DEFAULT, Archive, Part
from gateway.archive.parts import PIXEL_DATA
from gateway.config import Web
from gateway.web import accept, bulkdata, delivery, document, media, paths, ranges, zipped
from gateway.web.accept import MediaRange, Offer
from gateway.web.address import base_url
from gateway.web.errors import Refused
from gateway.web.multipart_out import Multipart, Peeked, part_type, single
from gateway.web.parameters import parameter
from storage.errors import NotAcceptable


async def instances(archive: Archive, settings: Web, request: Request) -> Response:
    """A study, series or instance as Part 10 files (PS3.18 10.4.1.1.1).

    Raises Invalid for a path that holds no UIDs, NotFound, NotAcceptable.
    """
    scope, by, accepted = paths.scope(request), paths.caller(request), _accepted(request)
    base = base_url(request, settings)

    accept.refuse_mixed(accepted)
    is_one = scope.sop_uid is not None
    form = accept.choose(accepted, _instance_offers(accepted, is_one=is_one))

    def answer() -> Response:
        if form.media_type == media.OCTETS:
            return _answer(request, bulkdata.parts(archive, scope, accepted, by=by), accepted, base, None)
        syntaxes = accept.instance_syntaxes(accepted) or [BY_DEFAULT]
        parts = archive.retrieve(scope, accept=syntaxes, by=by)
        if form.media_type == media.ZIP:
            headers = {"content-type": media.ZIP, **delivery.PRIVATE}
            return delivery.Delivered(delivery.Body(zipped.chunks(parts)), headers)
        return _answer(request, parts, accepted, base, [media.DICOM], may_be_single=is_one)

    return await delivery.in_thread(answer)


async def frames(archive: Archive, settings: Web, request: Request) -> Response:
    """Frames of an instance (PS3.18 10.4.1.1.6), each with the media type of its transfer syntax."""
    scope, by, accepted = paths.scope(request), paths.caller(request), _accepted(request)
    numbers, base = paths.frame_numbers(request), base_url(request, settings)

    def answer() -> Response:
        syntaxes = accept.frame_syntaxes(accepted) or _nothing_accepted("frames")
        parts = archive.frames(scope, numbers, accept=syntaxes, by=by)
        return _answer(request, parts, accepted, base, None, may_be_single=len(numbers) == 1)

    return await delivery.in_thread(answer)


async def bulk(archive: Archive, settings: Web, request: Request) -> Response:
    """A value that the metadata names by BulkDataURI (PS3.18 10.4.1.1.5)."""
    scope, by, accepted = paths.scope(request), paths.caller(request), _accepted(request)
    path, base = paths.bulk_path(request), base_url(request, settings)

    def answer() -> Response:
        about = document.described(archive, scope, by) if path == document.ENCAPSULATED_DOCUMENT else None
        syntaxes = [AS_STORED]
        if path in PIXEL_DATA:
            syntaxes = accept.frame_syntaxes(accepted) or _nothing_accepted("pixel data")
        parts = archive.bulk(scope, path, accept=syntaxes, by=by)
        if about is not None:
            parts = document.unpadded(parts, about.length)
        return _answer(request, parts, accepted, base, about and about.types, may_be_single=True)

    return await delivery.in_thread(answer)


async def all_bulk(archive: Archive, settings: Web, only_pixels: bool, request: Request) -> Response:
    """All bulk values, or all pixel data, of a study, series or instance (PS3.18 10.4.1.1.5, 10.4.1.1.7)."""
    scope, by, accepted = paths.scope(request), paths.caller(request), _accepted(request)
    base = base_url(request, settings)

    def answer() -> Response:
        found = bulkdata.parts(archive, scope, accepted, by=by, only_pixels=only_pixels)
        return _answer(request, found, accepted, base, None)

    return await delivery.in_thread(answer)


def _instance_offers(accepted: Sequence[MediaRange], *, is_one: bool) -> list[Offer]:
    """What whole instances can be sent as; ZIP only to who names it, as it is ours and not of the standard."""
    offers = [Offer(media.DICOM, multipart=True), *([Offer(media.DICOM)] if is_one else [])]
    offers.append(Offer(media.OCTETS, multipart=True))  # their bulk data (PS3.18 Table 10.4.4-1)
    return [*offers, Offer(media.ZIP)] if any(entry.media_type == media.ZIP for entry in accepted) else offers


def _answer(
    request: Request,
    parts: Iterator[Part],
    accepted: Sequence[MediaRange],
    base: str,
    types: Sequence[str] | None,
    *,
    may_be_single: bool = False,
) -> Response:
    """The response with these parts; `types` are the media types they can have, None: as the transfer syntax says."""
    peeked = Peeked(parts)
    first = peeked.first
    try:
        offer = accept.choose(accepted, _offers(first, types, may_be_single and peeked.alone))
        piece = None if offer.multipart else ranges.asked(request, first.length)
    except (NotAcceptable, Refused):
        peeked.close()
        raise
    if offer.multipart:
        framing = Multipart(offer, base)
        content_type, length = framing.content_type, framing.length_of_one(first)
        chunks = framing.chunks(peeked)
    else:
        content_type, length = part_type(offer, first), first.length
        chunks = single(peeked)
    headers = {"content-type": content_type, **delivery.PRIVATE}
    if not offer.multipart:
        headers["accept-ranges"] = "bytes"
    if piece is None:
        return delivery.Delivered(delivery.Body(chunks), headers, length if peeked.alone else None)
    headers["content-range"] = piece.content_range
    response = delivery.Delivered(delivery.Body(piece.of(chunks)), headers, piece.size)
    response.status_code = 206
    return response


def _offers(part: Part, types: Sequence[str] | None, may_be_single: bool) -> list[Offer]:
    """The forms in which `part` can be sent, the default first: multipart is what the standard requires."""
    if types is None:
        types = [media.frame_type(part.transfer_syntax)]
        syntax: str | None = media.frame_syntax(part.transfer_syntax)
    else:
        syntax = part.transfer_syntax if media.DICOM in types else None
    forms = (True, False) if may_be_single else (True,)
    return [Offer(media_type, multipart, syntax) for multipart in forms for media_type in types]


def _accepted(request: Request) -> tuple[MediaRange, ...]:
    query: bytes = request.scope["query_string"]
    return accept.ranges(request.headers.get("accept"), parameter(query, "accept"))


def _nothing_accepted(what: str) -> list[str]:
    raise NotAcceptable(f"none of the media types in Accept can carry {what}")
