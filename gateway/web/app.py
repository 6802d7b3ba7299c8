"""The web door put together: which path has which resource, and what every request passes on its way there."""

from collections.abc import Callable, Sequence
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from gateway.archive import Archive
from gateway.archive.renderings import Renderings
from gateway.config import Web
from gateway.web import errors, health, rendered, retrieve, wado_uri
from gateway.web.address import PREFIX, WADO
from gateway.web.guard import Authenticate, Authenticated, CalledByName, Limited, Observed, WithoutTrailingSlash
from gateway.web.metadata import metadata
from gateway.web.resource import Resource, at_most
from gateway.web.search import TOTAL, search
from gateway.web.stow import store
from storage.dicom.query import Level

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_EXPOSED = ("Content-Type", "ETag", "Content-Location", "Location", "Warning", "Retry-After", TOTAL)
_PREFLIGHT_SECONDS = 600
# Pages that this machine serves itself, on any port: a viewer beside the gateway.
_LOCAL_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


def build(
    archive: Archive | None,
    authenticate: Authenticate,
    settings: Web,
    *,
    ready: Callable[[], str],
    metrics_text: Callable[[], bytes],
    hosts: Sequence[str] | None = None,
    renderings: Renderings | None = None,
) -> Starlette:
    """The ASGI application of the web door; without an archive, what watches a gateway alone.

    `authenticate` makes a Caller from the Authorization header and the client's address or raises Unauthenticated;
    `ready` raises Unavailable or Exhausted when the gateway cannot do its work, and says what is out of order all the
    same; `hosts` are the names by which it may be called (the Host header), None when any will do; without `renderings`
    nothing is rendered.
    """
    app = Starlette(
        routes=[
            *(_dicomweb(archive, settings) if archive is not None else ()),
            *(_rendered(archive, renderings, settings) if archive is not None and renderings is not None else ()),
            *_pages(ready, metrics_text),
        ],
        middleware=[
            Middleware(
                CORSMiddleware,  # outermost, so that a page may read errors too
                allow_origins=settings.cors_origins,
                allow_origin_regex=None if settings.cors_origins else _LOCAL_ORIGIN,
                allow_methods=["GET", "HEAD", "POST", "OPTIONS"],
                allow_headers=["Accept", "Authorization", "Content-Type"],
                expose_headers=_EXPOSED,
                max_age=_PREFLIGHT_SECONDS,
            ),
            Middleware(Observed),
            Middleware(CalledByName, hosts=hosts),
            Middleware(Authenticated, authenticate=authenticate),
            Middleware(Limited, max_concurrent_requests=settings.max_concurrent_requests),
            Middleware(WithoutTrailingSlash),
        ],
        exception_handlers={HTTPException: errors.routing_error},
    )
    app.router.redirect_slashes = False
    return app


def _dicomweb(archive: Archive, settings: Web) -> list[Route]:
    """The resources of the Studies Service (PS3.18 10.1.1), those asked for most often first."""
    at = (archive, settings)
    storing = at_most(settings.max_concurrent_store_requests, partial(store, *at))
    studies, series, instances = (partial(search, *at, level) for level in Level)
    resources = {
        _INSTANCE + "/frames/{frames}": Resource("frames", get=partial(retrieve.frames, *at)),
        _INSTANCE: Resource("instance", get=partial(retrieve.instances, *at)),
        _SERIES + "/metadata": Resource("series metadata", get=partial(metadata, *at)),
        "/studies": Resource("studies", get=studies, post=storing),
        _STUDY + "/series": Resource("series", get=series),
        _SERIES + "/instances": Resource("instances", get=instances),
        _STUDY + "/instances": Resource("instances", get=instances),
        "/series": Resource("series", get=series),
        "/instances": Resource("instances", get=instances),
        _STUDY + "/metadata": Resource("study metadata", get=partial(metadata, *at)),
        _INSTANCE + "/metadata": Resource("instance metadata", get=partial(metadata, *at)),
        _INSTANCE + "/bulkdata/{path:path}": Resource("bulkdata", get=partial(retrieve.bulk, *at)),
        _SERIES: Resource("series instances", get=partial(retrieve.instances, *at)),
        _STUDY: Resource("study", get=partial(retrieve.instances, *at), post=storing),
    }
    for name, only_pixels in (("bulkdata", False), ("pixeldata", True)):
        for place in (_INSTANCE, _SERIES, _STUDY):
            resources[f"{place}/{name}"] = Resource(name, get=partial(retrieve.all_bulk, *at, only_pixels))
    return [Route(PREFIX + path, resource) for path, resource in resources.items()]


def _rendered(archive: Archive, renderings: Renderings, settings: Web) -> list[Route]:
    """What people look at (PS3.18 10.4.1.1.3, 10.4.1.1.4), and WADO-URI, which gives that or DICOM (9)."""
    picture, frames, thumbnail = (
        partial(handler, renderings, settings) for handler in (rendered.rendered, rendered.frames, rendered.thumbnail)
    )
    frame = _INSTANCE + "/frames/{frames}"
    resources = {place + "/rendered": Resource("rendered", get=picture) for place in (_INSTANCE, _SERIES, _STUDY)}
    resources[frame + "/rendered"] = Resource("rendered frames", get=frames)
    for place in (_INSTANCE, frame, _SERIES, _STUDY):
        resources[place + "/thumbnail"] = Resource("thumbnail", get=thumbnail)
    uri = Resource("wado-uri", get=partial(wado_uri.retrieve, archive, renderings, settings))
    return [Route(WADO, uri), *(Route(PREFIX + path, resource) for path, resource in resources.items())]


def _pages(ready: Callable[[], str], metrics_text: Callable[[], bytes]) -> list[Route]:
    return [
        Route("/healthz", Resource("healthz", get=health.healthz)),
        Route("/readyz", Resource("readyz", get=partial(health.readyz, ready))),
        Route("/metrics", Resource("metrics", get=partial(health.figures, metrics_text))),
    ]
