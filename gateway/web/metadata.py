"""WADO-RS metadata: the DICOM JSON of every instance in scope, streamed as it comes (PS3.18 10.4.1.1.2)."""

from collections.abc import Generator, Iterator

from starlette.requests import Request
from starlette.responses import Response

from gateway.archive import Archive
from gateway.config import Web
from gateway.web import accept, compression, delivery, media, paths
from gateway.web.accept import Offer
from gateway.web.address import base_url, url
from gateway.web.parameters import parameter
from storage.dicom.identity import Identity

JSON_OFFERS = (Offer(media.DICOM_JSON), Offer(media.JSON))
# A quotation mark inside a JSON string is escaped, so these bytes can only be a name and the start of its value.
_RELATIVE = b'"BulkDataURI":"'


async def metadata(archive: Archive, settings: Web, request: Request) -> Response:
    """All attributes but bulk values, which are named by absolute BulkDataURI. Raises Invalid, NotFound."""
    scope, by = paths.scope(request), paths.caller(request)
    asked = parameter(request.scope["query_string"], "accept")
    offer = accept.choose(accept.ranges(request.headers.get("accept"), asked), JSON_OFFERS)
    coded = compression.takes_gzip(request.headers.get("accept-encoding", ""))
    base = base_url(request, settings)

    def answer() -> Response:
        chunks = _array(archive.metadata(scope, by=by), base)
        headers = {"content-type": offer.media_type, **delivery.PRIVATE_JSON}
        if coded:
            chunks, headers["content-encoding"] = compression.gzipped(chunks), "gzip"
        return delivery.Delivered(delivery.Body(chunks), headers)

    return await delivery.in_thread(answer)


def _array(datasets: Iterator[tuple[Identity, bytes]], base: str) -> Generator[bytes, None, None]:
    before = b"["
    with delivery.released(datasets):
        for identity, dataset in datasets:
            yield before + dataset.replace(_RELATIVE, _RELATIVE + url(base, identity).encode() + b"/")
            before = b","
    yield b"[]" if before == b"[" else b"]"
