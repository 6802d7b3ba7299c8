"""QIDO-RS: studies, series and instances that match (PS3.18 10.6)."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.archive import Archive, Found
from gateway.config import Web
from gateway.web import accept, compression, delivery, paths, search_request, search_results
from gateway.web.accept import Offer
from gateway.web.address import base_url
from gateway.web.parameters import parameter
from gateway.web.warnings import add_warning
from storage.dicom.query import Level, Query

TOTAL = "X-Total-Count"  # of all matches, wherever in them the results begin and end; left out when it is not known


async def search(archive: Archive, settings: Web, level: Level, request: Request) -> Response:
    """The rows that match, 204 when there are none. Raises Invalid and Refused (400), NotAcceptable, Unavailable."""
    raw: bytes = request.scope["query_string"]
    study_uid, series_uid = paths.study_uid(request), paths.series_uid(request)
    query, warnings = search_request.read(raw, level, settings, study_uid=study_uid, series_uid=series_uid)
    accepted = accept.ranges(request.headers.get("accept"), parameter(raw, "accept"))
    offer = accept.choose(accepted, search_results.OFFERS)
    coded = compression.takes_gzip(request.headers.get("accept-encoding", ""))
    base, by = base_url(request, settings), paths.caller(request)

    def answer() -> Response:
        found = archive.search(query, by=by)
        response = _response(found, level, base, offer, coded)
        if (total := _total(found, query)) is not None:
            response.headers[TOTAL] = str(total)
        for text in [*warnings, *_about(found)]:
            add_warning(response, base, text)
        return response

    return await delivery.in_thread(answer)


def _response(found: Found, level: Level, base: str, offer: Offer, coded: bool) -> Response:
    if not found.rows:
        return Response(status_code=204, headers=delivery.PRIVATE_JSON)
    body, content_type = search_results.body(found, level, base, offer)
    headers = {"content-type": content_type, **delivery.PRIVATE_JSON}
    if coded and len(body) >= compression.WORTHWHILE_BYTES:
        body, headers["content-encoding"] = compression.gzip(body), "gzip"
    return Response(body, headers=headers)


def _total(found: Found, query: Query) -> int | None:
    """How many match in all, when that is known without counting further: not past the end, not past the bound."""
    if not found.remaining_is_exact or found.unanswered:
        return None
    if query.offset and not found.rows and not found.remaining:
        return None
    return query.offset + len(found.rows) + found.remaining


def _about(found: Found) -> list[str]:
    """What the caller must know about an answer that is not all there is (PS3.18 8.3.4.4.1)."""
    texts = [f"{name} did not answer. What it holds is missing from these results." for name in found.unanswered]
    if found.remaining:
        count = f"{found.remaining}" if found.remaining_is_exact else f"at least {found.remaining}"
        texts.append(f"There are {count} additional results that can be requested")
    return texts
