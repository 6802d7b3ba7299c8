"""WADO-URI: one instance by query parameters, as DICOM or as something to look at (PS3.18 9).

Not done here, and refused: anonymized instances, and presentation states that are to be applied.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from gateway.archive import BY_DEFAULT, Archive, Part
from gateway.archive.outline import Kind
from gateway.archive.renderings import Renderings
from gateway.config import Web
from gateway.security.caller import Caller
from gateway.web import accept, delivery, media, paths, rendered
from gateway.web.accept import MediaRange, Offer
from gateway.web.address import base_url
from gateway.web.delivery import Body, Delivered, in_rendering_thread
from gateway.web.errors import Refused
from gateway.web.multipart_out import Peeked, part_type, single
from gateway.web.parameters import parameters
from gateway.web.rendering_request import Wished, refuse_mixed
from storage.dicom.identity import Scope, is_uid
from storage.dicom.rendering.wish import (
    Wish,
    parse_annotation,
    parse_icc_profile,
    parse_quality,
    parse_uri_viewport,
    parse_uri_window,
)
from storage.errors import NotAcceptable

_FRAME = re.compile(r"[0-9]{1,9}", re.ASCII)
_KNOWN = frozenset(
    {
        *("requestType", "studyUID", "seriesUID", "objectUID", "contentType", "charset", "anonymize", "annotation"),
        *("rows", "columns", "region", "windowCenter", "windowWidth", "imageQuality", "frameNumber", "iccprofile"),
        *("presentationUID", "presentationSeriesUID", "transferSyntax"),
    }
)
Parameters = dict[str, str]


async def retrieve(archive: Archive, renderings: Renderings, settings: Web, request: Request) -> Response:
    """The instance that the query names. Raises Refused or Invalid (400) for what is asked wrongly, NotFound,
    NotAcceptable.
    """
    asked = _parameters(request)
    scope, by, ranges = _scope(asked), paths.caller(request), _accepted(asked, request)
    _refuse_undone(asked)
    if any(entry.media_type == media.DICOM and entry.q > 0 for entry in ranges):
        return await delivery.in_thread(_dicom(archive, scope, by, asked))
    wish, number, base = _wished(asked), _frame_number(asked), base_url(request, settings)

    def answer() -> Response:
        [subject] = renderings.find(scope, by=by)
        if number is None or subject.outline.kind is not Kind.IMAGE:
            return rendered.instance(request, subject, ranges, wish, base)
        if not 1 <= number <= subject.outline.frames or subject.outline.frames == 1:
            raise _bad("frameNumber", "frameNumber names a frame, from 1, of an instance that has several")
        offer = accept.choose(ranges, [Offer(media_type) for media_type in rendered.STILL])
        return rendered.still(request, subject, number, wish, offer.media_type, base)

    return rendered.warned(await in_rendering_thread(answer), wish, base)


def _dicom(archive: Archive, scope: Scope, by: Caller, asked: Parameters) -> Callable[[], Response]:
    """The whole instance, alone and not in parts, in the transfer syntax that is asked for (9.4.2.4)."""
    if "windowCenter" in asked or "windowWidth" in asked:
        raise _bad("window", "a window is for pictures, not for application/dicom")
    syntax = asked.get("transferSyntax")
    if syntax is not None and not is_uid(syntax):
        raise _bad("transfer-syntax", "transferSyntax is no UID")

    def answer() -> Response:
        peeked = Peeked(archive.retrieve(scope, accept=[BY_DEFAULT if syntax is None else syntax], by=by))
        part: Part = peeked.first
        headers = {
            "content-type": part_type(Offer(media.DICOM, transfer_syntax=part.transfer_syntax), part),
            **delivery.PRIVATE,
        }
        return Delivered(Body(single(peeked)), headers, part.length)

    return answer


def _parameters(request: Request) -> Parameters:
    """Those known here, each given once; others are ignored (8.3)."""
    found: Parameters = {}
    for name, value in parameters(request.scope["query_string"]):
        if name in found:
            raise _bad("query", f"the parameter {name} is given more than once")
        if name in _KNOWN:
            found[name] = value
    if found.get("requestType") != "WADO":
        raise _bad("request-type", "requestType is WADO, and nothing else")
    return found


def _scope(asked: Parameters) -> Scope:
    for name in ("studyUID", "seriesUID", "objectUID"):
        if not is_uid(asked.get(name, "")):
            raise _bad("uid", f"{name} is missing, or no UID: up to 64 characters, digits and single dots")
    return Scope(asked["studyUID"], asked["seriesUID"], asked["objectUID"])


def _accepted(asked: Parameters, request: Request) -> Sequence[MediaRange]:
    """The media types of contentType, or of the Accept header without it (9.1.2.2)."""
    content_type = asked.get("contentType")
    if content_type is None:
        ranges = accept.ranges(request.headers.get("accept"))
    else:
        for each in content_type.split(","):
            names = {name.strip("+") for name in accept.media_type(each)[1]}  # how some clients write a space
            if names & {"transfer-syntax", "charset"}:
                raise _bad("content-type", "contentType has no transfer-syntax and no charset: they are parameters")
        ranges = accept.parse(content_type)
    refuse_mixed(ranges)
    return ranges


def _refuse_undone(asked: Parameters) -> None:
    if asked.get("anonymize", "yes") != "yes":
        raise _bad("anonymize", "anonymize is yes, or left out")
    if "anonymize" in asked:
        raise NotAcceptable("instances are not anonymized here")
    if "presentationUID" in asked or "presentationSeriesUID" in asked:
        raise _bad("presentation", "presentation states are not applied here")


def _wished(asked: Parameters) -> Wished:
    """What the picture shall be like (9.5.1, 9.5.2); raises Invalid (QUERY)."""
    annotations, unknown = parse_annotation(asked["annotation"]) if "annotation" in asked else ((), ())
    wish = Wish(
        window=parse_uri_window(asked.get("windowCenter"), asked.get("windowWidth")),
        viewport=parse_uri_viewport(asked.get("rows"), asked.get("columns"), asked.get("region")),
        annotations=annotations,
    )
    if "imageQuality" in asked:
        wish = replace(wish, quality=parse_quality(asked["imageQuality"]))
    profile = asked.get("iccprofile")
    if profile is not None:
        parse_icc_profile(profile)
    return Wished(wish, profile, unknown)


def _frame_number(asked: Parameters) -> int | None:
    text = asked.get("frameNumber")
    if text is None:
        return None
    if _FRAME.fullmatch(text) is None or int(text) == 0:
        raise _bad("frame-number", "frameNumber is a whole number from 1")
    return int(text)


def _bad(word: str, detail: str) -> Refused:
    return Refused(400, word, detail)
