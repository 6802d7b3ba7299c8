"""What a request for a rendering wishes: query parameters and media types, checked before anything is looked up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.requests import Request

from gateway.web import accept, media
from gateway.web.accept import MediaRange
from gateway.web.errors import Refused
from gateway.web.parameters import parameter
from storage.dicom.rendering.wish import (
    Viewport,
    Wish,
    parse_annotation,
    parse_icc_profile,
    parse_quality,
    parse_viewport,
    parse_window,
)

THUMBNAIL = Viewport(200, 200)  # the box that a thumbnail fills unless the request says otherwise
_DICOM_ONLY = frozenset(
    {media.DICOM, media.DICOM_JSON, media.DICOM_XML, "image/dicom-rle", "image/jls", "image/jp2", "image/jpx"}
)
_RENDERED = frozenset(
    {
        *("image/jpeg", "image/png", "image/gif", "image/webp", "video/mp4"),
        *("text/html", "text/plain", "text/xml", "application/pdf"),
    }
)


@dataclass(frozen=True, slots=True)
class Wished:
    """A wish for any media type, and the annotations that nobody here knows."""

    wish: Wish
    profile: str | None = None
    unknown: tuple[str, ...] = ()

    def as_type(self, media_type: str) -> Wish:
        """The wish for this media type; raises Invalid (QUERY) when it cannot hold the colour profile."""
        if self.profile is None:
            return replace(self.wish, media_type=media_type)
        return replace(self.wish, media_type=media_type, icc_profile=parse_icc_profile(self.profile, [media_type]))


def wished(request: Request) -> Wished:
    """The parameters of a rendered resource (PS3.18 8.3.5.1); raises Invalid (QUERY), Refused (400)."""
    window, viewport, quality, annotation, profile = (
        parameter(request.scope["query_string"], name)
        for name in ("window", "viewport", "quality", "annotation", "iccprofile")
    )
    annotations, unknown = ((), ()) if annotation is None else parse_annotation(annotation)
    wish = Wish(annotations=annotations)
    if window is not None:
        wish = replace(wish, window=parse_window(window))
    if viewport is not None:
        wish = replace(wish, viewport=parse_viewport(viewport))
    if quality is not None:
        wish = replace(wish, quality=parse_quality(quality))
    if profile is not None:
        parse_icc_profile(profile)
    return Wished(wish, profile, unknown)


def wished_thumbnail(request: Request) -> Wished:
    """A thumbnail takes a viewport and nothing else (10.4.1.1.4), and never shows who it is of."""
    viewport = parameter(request.scope["query_string"], "viewport")
    return Wished(Wish(viewport=THUMBNAIL if viewport is None else parse_viewport(viewport, whole=True)))


def accepted(request: Request) -> Sequence[MediaRange]:
    """What a request for a rendering accepts.

    Raises Refused (400) when it mixes media types of DICOM and rendered ones (8.7.5), or names a transfer syntax for a
    rendered one, which has none (8.7.4).
    """
    ranges = accept.ranges(request.headers.get("accept"), parameter(request.scope["query_string"], "accept"))
    refuse_mixed(ranges)
    if any(entry.transfer_syntax not in (None, "*") for entry in ranges):
        raise Refused(400, "accept", "rendered media types have no transfer-syntax")
    return ranges


def refuse_mixed(ranges: Sequence[MediaRange]) -> None:
    """Raise Refused (400) when media types of DICOM and rendered ones are mixed (8.7.5)."""
    named = {entry.media_type for entry in ranges}
    if named & _DICOM_ONLY and named & _RENDERED:
        raise Refused(400, "accept", "media types of DICOM and rendered ones are not mixed in one request")
