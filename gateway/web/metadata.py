"""WADO-RS metadata: the attributes of every instance in scope, streamed as they come (PS3.18 10.4.1.1.2).

In the DICOM JSON Model as it is stored, or made into the Native DICOM Model (XML), one document an instance.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.archive import Archive
from gateway.config import Web
from gateway.web import accept, compression, delivery, media, paths
from gateway.web.accept import Offer
from gateway.web.address import base_url, url
from gateway.web.multipart_out import Multipart, single
from gateway.web.parameters import parameter
from storage.dicom import xmlmodel
from storage.dicom.identity import Identity

JSON_OFFERS = (Offer(media.DICOM_JSON), Offer(media.JSON))
_XML_OFFERS = (Offer(media.DICOM_XML, multipart=True), Offer(media.DICOM_XML))
# A quotation mark inside a JSON string is escaped, so these bytes can only be a name and the start of its value.
_RELATIVE = b'"BulkDataURI":"'

Datasets = Iterator[tuple[Identity, bytes]]


@dataclass(slots=True)
class _Document:
    """The XML of one instance, as a Part."""

    identity: Identity
    data: bytes
    transfer_syntax: str = ""
    place: str = "metadata"

    @property
    def length(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[bytes]:
        yield self.data

    def close(self) -> None:
        """Nothing is held open."""


async def metadata(archive: Archive, settings: Web, request: Request) -> Response:
    """All attributes but bulk values, which are named by absolute BulkDataURI.

    Raises Invalid for a path that holds no UIDs, NotFound, NotAcceptable.
    """
    scope, by = paths.scope(request), paths.caller(request)
    asked = parameter(request.scope["query_string"], "accept")
    offers = (*JSON_OFFERS, *(_XML_OFFERS if scope.sop_uid is not None else _XML_OFFERS[:1]))
    accepted = accept.ranges(request.headers.get("accept"), asked)
    accept.refuse_mixed(accepted)
    offer = accept.choose(accepted, offers)
    coded = compression.takes_gzip(request.headers.get("accept-encoding", ""))
    base = base_url(request, settings)

    def answer() -> Response:
        content_type, chunks = _answer(offer, _located(archive.metadata(scope, by=by), base), base)
        headers = {"content-type": content_type, **delivery.PRIVATE_JSON}
        if coded:
            chunks, headers["content-encoding"] = compression.gzipped(chunks), "gzip"
        return delivery.Delivered(delivery.Body(chunks), headers)

    return await delivery.in_thread(answer)


def _answer(offer: Offer, datasets: Datasets, base: str) -> tuple[str, Generator[bytes, None, None]]:
    if offer.media_type != media.DICOM_XML:
        return offer.media_type, _array(datasets)
    if offer.multipart:
        framing = Multipart(offer, base)
        return framing.content_type, framing.chunks(_documents(datasets))
    return offer.media_type, single(_documents(datasets))


def _located(datasets: Datasets, base: str) -> Datasets:
    """The same with bulk values named by absolute URIs."""
    with delivery.released(datasets):
        for identity, dataset in datasets:
            yield identity, dataset.replace(_RELATIVE, _RELATIVE + url(base, identity).encode() + b"/")


def _array(datasets: Datasets) -> Generator[bytes, None, None]:
    before = b"["
    with delivery.released(datasets):
        for _, dataset in datasets:
            yield before + dataset
            before = b","
    yield b"[]" if before == b"[" else b"]"


def _documents(datasets: Datasets) -> Iterator[_Document]:
    with delivery.released(datasets):
        for identity, dataset in datasets:
            yield _Document(identity, xmlmodel.write(orjson.loads(dataset)))
