"""Where this service is seen from outside, so that every URL in an answer can be followed (PS3.18 8.2).

A configured public URL wins. Forwarded headers count only when the peer is on this machine, where a reverse proxy
would be; from anywhere else they are what the caller pleases to write.
"""

import ipaddress
import re
from functools import lru_cache

from starlette.requests import Request

from gateway.config import Web
from gateway.web.errors import Refused
from storage.dicom.identity import Identity, Scope

PREFIX = "/dicomweb"
WADO = "/wado"
SERVICES = (PREFIX, WADO)  # below which is patient data: nobody gets there unknown

_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?", re.ASCII)
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)
_FORWARDED = frozenset([b"forwarded", *(b"x-forwarded-" + name for name in (b"for", b"proto", b"host", b"prefix"))])
_PROXY_SIGNS = frozenset([b"via", b"x-real-ip"])
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ELEMENT = re.compile(r'(\w+)=("[^"]*"|[^;,\s]*)', re.ASCII)


def base_url(request: Request, settings: Web) -> str:
    """The absolute URL of the DICOMweb service as the caller knows it, without a slash at its end."""
    if settings.public_url:
        return settings.public_url.rstrip("/") + PREFIX
    forwarded = _forwarded(request)
    scheme = forwarded.get("proto", "").lower()
    if scheme not in ("http", "https"):
        scheme = request.scope["scheme"]
    host = forwarded.get("host") or _host(request)
    if _HOST.fullmatch(host) is None:
        raise Refused(400, "host", "the Host header is not a host name or address with an optional port")
    prefix = forwarded.get("prefix", "").rstrip("/")
    return f"{scheme}://{host}{prefix if _PATH.fullmatch(prefix) else ''}{PREFIX}"


def client_address(request: Request) -> str:
    """The address of the caller; behind a proxy on this machine, the last one that the proxy names."""
    peer = request.client.host if request.client else ""
    named = _forwarded(request).get("for")
    if not named:
        return peer
    try:
        return str(ipaddress.ip_address(_without_port(named)))
    except ValueError:
        return peer


def url(base: str, of: Identity | Scope, place: str = "") -> str:
    """The URL of a study, series or instance, or of a place below an instance ("frames/3")."""
    path = f"{base}/studies/{of.study_uid}"
    if of.series_uid is not None:
        path += f"/series/{of.series_uid}"
    if of.sop_uid is not None:
        path += f"/instances/{of.sop_uid}"
    return f"{path}/{place}" if place else path


def _forwarded(request: Request) -> dict[str, str]:
    """What a proxy on this machine says of the request it passes on: Forwarded (RFC 7239), or X-Forwarded headers."""
    given = {name: value.decode("latin-1") for name, value in request.scope["headers"] if name in _FORWARDED}
    if not given or request.client is None or not _is_loopback(request.client.host):
        return {}
    values = {
        name: _last(given.get(b"x-forwarded-" + name.encode(), "")) for name in ("for", "proto", "host", "prefix")
    }
    if b"forwarded" in given:
        elements = _ELEMENT.findall(_last(given[b"forwarded"]))
        values |= {name.lower(): value.strip('"') for name, value in elements}
    return values


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _last(values: str) -> str:
    return values.rpartition(",")[2].strip()


def _without_port(node: str) -> str:
    bracketed = re.fullmatch(r"\[([^\]]*)\](:\d+)?", node)
    if bracketed:
        return bracketed[1]
    return node.partition(":")[0] if node.count(":") == 1 else node


def _host(request: Request) -> str:
    """The Host header, with our port when it lacks one.

    Some clients leave the port out (dicomweb-client does). Behind a proxy its absence means the proxy's own port, so
    it is completed only when nothing says that there is a proxy.
    """
    name, port = request.scope.get("server") or ("localhost", None)
    host = request.headers.get("host") or (f"[{name}]" if ":" in name else str(name))
    has_port = host.rpartition(":")[2].isdecimal() and not host.endswith("]")
    behind_proxy = any(header in _PROXY_SIGNS or header in _FORWARDED for header, _ in request.scope["headers"])
    if has_port or behind_proxy or port in (None, _DEFAULT_PORTS.get(request.scope["scheme"])):
        return host
    return f"{host}:{port}"
