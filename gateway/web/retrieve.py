"""WADO-RS: instances, frames and bulk values (PS3.18 10.4).

Each handler makes one trip into a thread: look up, choose the form, read up to 1 MiB.
"""

import re
from collections.abc import Iterator, Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.archive import AS_STORED, Archive, Part
from gateway.archive.parts import PIXEL_DATA
from gateway.config import Web
from gateway.security.caller import Caller
from gateway.web import accept, delivery, media, paths
from gateway.web.accept import MediaRange, Offer
from gateway.web.address import base_url
from gateway.web.multipart_out import Multipart, Peeked, part_type, single
from gateway.web.parameters import parameter
from storage.dicom.identity import Scope
from storage.errors import NotAcceptable

ENCAPSULATED_DOCUMENT = "00420011"
# Types of an encapsulated document that are sent under their own name; any other could run in a browser.
_DOCUMENT_TYPE = re.compile(r"application/(pdf|sla|dicom)|model/[a-z0-9.+-]{1,40}", re.ASCII)


async def instances(archive: Archive, settings: Web, request: Request) -> Response:
    """A study, series or instance as Part 10 files (PS3.18 10.4.1.1.1).

    Raises Invalid for a path that holds no UIDs, NotFound, NotAcceptable.
    """
    scope, by, accepted = paths.scope(request), paths.caller(request), _accepted(request)
    base = base_url(request, settings)

    def answer() -> Response:
        syntaxes = accept.instance_syntaxes(accepted) or _nothing_accepted(media.DICOM)
        parts = archive.retrieve(scope, accept=syntaxes, by=by)
        return _answer(parts, accepted, base, [media.DICOM], may_be_single=scope.sop_uid is not None)

    return await delivery.in_thread(answer)


async def frames(archive: Archive, settings: Web, request: Request) -> Response:
    """Frames of an instance (PS3.18 10.4.1.1.6), each with the media type of its transfer syntax."""
    scope, by, accepted = paths.scope(request), paths.caller(request), _accepted(request)
    numbers, base = paths.frame_numbers(request), base_url(request, settings)

    def answer() -> Response:
        syntaxes = accept.frame_syntaxes(accepted) or _nothing_accepted("frames")
        parts = archive.frames(scope, numbers, accept=syntaxes, by=by)
        return _answer(parts, accepted, base, None, may_be_single=len(numbers) == 1)

    return await delivery.in_thread(answer)


async def bulk(archive: Archive, settings: Web, request: Request) -> Response:
    """A value that the metadata names by BulkDataURI (PS3.18 10.4.1.1.5)."""
    scope, by, accepted = paths.scope(request), paths.caller(request), _accepted(request)
    path, base = paths.bulk_path(request), base_url(request, settings)

    def answer() -> Response:
        types = _document_types(archive, scope, by) if path == ENCAPSULATED_DOCUMENT else None
        syntaxes = [AS_STORED]
        if path in PIXEL_DATA:
            syntaxes = accept.frame_syntaxes(accepted) or _nothing_accepted("pixel data")
        parts = archive.bulk(scope, path, accept=syntaxes, by=by)
        return _answer(parts, accepted, base, types, may_be_single=True)

    return await delivery.in_thread(answer)


def _answer(
    parts: Iterator[Part],
    accepted: Sequence[MediaRange],
    base: str,
    types: Sequence[str] | None,
    *,
    may_be_single: bool,
) -> Response:
    """The response with these parts; `types` are the media types they can have, None: as the transfer syntax says."""
    peeked = Peeked(parts)
    first = peeked.first
    try:
        offer = accept.choose(accepted, _offers(first, types, may_be_single and peeked.alone))
    except NotAcceptable:
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
    return delivery.Delivered(delivery.Body(chunks), headers, length if peeked.alone else None)


def _offers(part: Part, types: Sequence[str] | None, may_be_single: bool) -> list[Offer]:
    """The forms in which `part` can be sent, the default first: multipart is what the standard requires."""
    if types is None:
        types = [media.frame_type(part.transfer_syntax)]
        syntax: str | None = media.frame_syntax(part.transfer_syntax)
    else:
        syntax = part.transfer_syntax if media.DICOM in types else None
    forms = (True, False) if may_be_single else (True,)
    return [Offer(media_type, multipart, syntax) for multipart in forms for media_type in types]


def _document_types(archive: Archive, scope: Scope, by: Caller) -> list[str]:
    """The type that an encapsulated document says it has, and octet-stream."""
    datasets = archive.metadata(scope, by=by)
    with delivery.released(datasets):
        _, dataset = next(datasets)
    declared = orjson.loads(dataset).get("00420012", {}).get("Value", [""])[0]
    known = isinstance(declared, str) and _DOCUMENT_TYPE.fullmatch(declared.lower()) is not None
    return [declared.lower(), media.OCTETS] if known else [media.OCTETS]


def _accepted(request: Request) -> tuple[MediaRange, ...]:
    query: bytes = request.scope["query_string"]
    return accept.ranges(request.headers.get("accept"), parameter(query, "accept"))


def _nothing_accepted(what: str) -> list[str]:
    raise NotAcceptable(f"none of the media types in Accept can carry {what}")
