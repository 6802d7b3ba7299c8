"""STOW-RS: instances as parts of a request, whole or as metadata and bulk data, or one as its body (PS3.18 10.5).

Whole instances are stored while later ones are still on their way; nothing is kept in memory but what is in hand.
"""

import asyncio
import re
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway.archive import Archive, Expected
from gateway.config import Web
from gateway.web import accept, delivery, described, media, paths, store_response
from gateway.web.address import PREFIX, base_url
from gateway.web.bulk_parts import BulkParts
from gateway.web.errors import Refused
from gateway.web.failures import CANNOT_UNDERSTAND, Failure
from gateway.web.multipart_in import MultipartParser, PartBegun, PartData
from gateway.web.reception import Reception
from gateway.web.store_response import Failed

# Any printable characters, where RFC 2046 names some, and up to 200 of them, where it says 70: that does no harm.
_BOUNDARY = re.compile(r"[ -~]{0,199}[!-~]", re.ASCII)
_CUT_SHORT = Failed(Failure(CANNOT_UNDERSTAND, 400), "the body ends before the closing delimiter of its last part")


async def store(archive: Archive, settings: Web, request: Request) -> Response:
    """Store the instances in the body and say what became of each (PS3.18 10.5.3).

    Raises Refused (400, 415) before anything is read, 408 when the caller stops sending and 413 when there are more
    parts than one request may have: what was whole by then is stored if it can be, what was not is forgotten. Of
    metadata and bulk data nothing is stored then.
    """
    study_uid = paths.study_uid(request)
    media_type, boundary = _form(request)
    base = base_url(request, settings)
    reception = Reception(archive, Expected(study_uid), paths.caller(request), settings.store_concurrency)
    chunks = _chunks(request, settings.read_timeout_seconds)
    try:
        if boundary is None:
            await _one_instance(reception, chunks)
        elif media_type == media.DICOM:
            await _parts(reception, chunks, MultipartParser(boundary))
        else:
            here = base + request.url.path.removeprefix(PREFIX)
            bulk = BulkParts(archive.incoming(), here)
            await _described(reception, chunks, MultipartParser(boundary), described.Gathering(media_type, bulk))
    finally:
        await reception.give_up()
        results = await reception.finished()
    if not results:
        raise Refused(400, "multipart", "the body has no part: does Content-Type name its boundary?")
    return store_response.response(request, base, results)


async def _parts(reception: Reception, chunks: AsyncIterator[bytes], parser: MultipartParser) -> None:
    try:
        async for chunk in chunks:
            for event in parser.feed(chunk):
                match event:
                    case PartBegun(headers):
                        reception.begin(headers.get("content-type", ""))
                    case PartData(data):
                        await reception.data(data)
                    case _:
                        await reception.end()
    except Refused as error:
        if error.status != 400:
            raise
        await reception.give_up(Failed(Failure(CANNOT_UNDERSTAND, 400), error.detail))
    else:
        if reception.parts and not parser.finished:
            await reception.give_up(_CUT_SHORT)


async def _described(
    reception: Reception, chunks: AsyncIterator[bytes], parser: MultipartParser, gathering: described.Gathering
) -> None:
    try:
        await described.receive(reception, gathering, chunks, parser)
    finally:
        await reception.settled()
        await delivery.in_storing_thread(gathering.bulk.close)


async def _one_instance(reception: Reception, chunks: AsyncIterator[bytes]) -> None:
    reception.begin(media.DICOM)
    async for chunk in chunks:
        await reception.data(chunk)
    await reception.end()


def _form(request: Request) -> tuple[str, str | None]:
    """The type of the parts and their boundary, None when the body is one instance. Raises Refused (400, 415)."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "media-type", "the body must not have a Content-Encoding")
    media_type, parameters = accept.media_type(request.headers.get("content-type", ""))
    if media_type == media.DICOM:
        return media.DICOM, None
    if media_type != "multipart/related":
        raise Refused(415, "media-type", 'send multipart/related; type="application/dicom", or application/dicom')
    if "type" not in parameters:
        raise Refused(400, "media-type", 'multipart/related needs a parameter like type="application/dicom"')
    part_type = parameters["type"].lower()
    if part_type not in (media.DICOM, *described.TYPES):
        raise Refused(
            415, "media-type", f"the parts must be {media.DICOM}, or metadata as {' or '.join(described.TYPES)}"
        )
    boundary = parameters.get("boundary", "")
    if _BOUNDARY.fullmatch(boundary) is None:
        raise Refused(400, "media-type", "multipart/related needs a boundary of 1 to 200 characters")
    return part_type, boundary


async def _chunks(request: Request, timeout_seconds: int) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises ClientDisconnect, or Refused (408) when nothing comes for so long."""
    more = True
    while more:
        try:
            async with asyncio.timeout(timeout_seconds):
                message = await request.receive()
        except TimeoutError:
            headers = {"connection": "close"}
            raise Refused(408, "timeout", f"nothing received for {timeout_seconds} seconds", headers) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]
