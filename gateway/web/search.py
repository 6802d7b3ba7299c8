"""QIDO-RS: studies, series and instances that match (PS3.18 10.6)."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.archive import Archive, Found
from gateway.config import Web
from gateway.web import accept, compression, delivery, paths, search_request
from gateway.web.address import base_url, url
from gateway.web.metadata import JSON_OFFERS
from gateway.web.parameters import parameter
from gateway.web.warnings import add_warning
from storage.dicom.identity import Scope
from storage.dicom.instance import JsonDataset
from storage.dicom.query import Level

RETRIEVE_URL = "00081190"


async def search(archive: Archive, settings: Web, level: Level, request: Request) -> Response:
    """The rows that match, 204 when there are none. Raises Invalid and Refused (400), NotAcceptable, Unavailable."""
    raw: bytes = request.scope["query_string"]
    study_uid, series_uid = paths.study_uid(request), paths.series_uid(request)
    query, warnings = search_request.read(raw, level, settings, study_uid=study_uid, series_uid=series_uid)
    offer = accept.choose(accept.ranges(request.headers.get("accept"), parameter(raw, "accept")), JSON_OFFERS)
    coded = compression.takes_gzip(request.headers.get("accept-encoding", ""))
    base, by = base_url(request, settings), paths.caller(request)

    def answer() -> Response:
        found = archive.search(query, by=by)
        response = _response(found, level, base, offer.media_type, coded)
        for text in [*warnings, *_about(found)]:
            add_warning(response, base, text)
        return response

    return await delivery.in_thread(answer)


def _response(found: Found, level: Level, base: str, content_type: str, coded: bool) -> Response:
    if not found.rows:
        return Response(status_code=204, headers=delivery.PRIVATE_JSON)
    body = orjson.dumps([_with_url(row, level, base) for row in found.rows])
    headers = {"content-type": content_type, **delivery.PRIVATE_JSON}
    if coded and len(body) >= compression.WORTHWHILE_BYTES:
        body, headers["content-encoding"] = compression.gzip(body), "gzip"
    return Response(body, headers=headers)


def _with_url(row: JsonDataset, level: Level, base: str) -> JsonDataset:
    """The row with its RetrieveURL, in ascending order of tags (PS3.18 Tables 10.6.3-3 to 10.6.3-5, F.2.2)."""
    scope = Scope(
        row["0020000D"]["Value"][0],
        row["0020000E"]["Value"][0] if level >= Level.SERIES else None,
        row["00080018"]["Value"][0] if level >= Level.INSTANCE else None,
    )
    return dict(sorted({**row, RETRIEVE_URL: {"vr": "UR", "Value": [url(base, scope)]}}.items()))


def _about(found: Found) -> list[str]:
    """What the caller must know about an answer that is not all there is (PS3.18 8.3.4.4.1)."""
    texts = [f"{name} did not answer. What it holds is missing from these results." for name in found.unanswered]
    if found.remaining:
        count = f"{found.remaining}" if found.remaining_is_exact else f"at least {found.remaining}"
        texts.append(f"There are {count} additional results that can be requested")
    return texts
