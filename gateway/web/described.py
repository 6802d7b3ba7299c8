"""STOW-RS of instances that come as metadata and bulk data (PS3.18 10.5.1.4): gathered, then made and stored.

Bulk data goes to the staging folder as it comes. Which values belong to which instance is known for certain only when
the request is whole: one that is cut short stores nothing.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import Any

import orjson

from gateway.archive.incoming import Incoming
from gateway.web import accept, delivery, failures, media
from gateway.web.bulk_parts import BulkPart, BulkParts, Values
from gateway.web.errors import Refused
from gateway.web.failures import CANNOT_UNDERSTAND, Failure
from gateway.web.multipart_in import MultipartParser, PartBegun, PartData
from gateway.web.reception import FLUSH_BYTES, MAX_PARTS, Reception
from gateway.web.store_response import Failed
from storage.dicom import wrap, xmlreading
from storage.dicom.aroundpixels import Encapsulated, fragment_header, fragment_padding
from storage.dicom.encode import encode
from storage.dicom.identity import Identity, is_uid
from storage.dicom.instance import JsonDataset
from storage.errors import Fault, Invalid

MAX_METADATA_BYTES = 32 << 20  # of all metadata of one request
TYPES = (media.DICOM_JSON, media.DICOM_XML)

# What says that a part is metadata when it has no Content-Location; "" when its sender left it out.
_ALSO_METADATA = {media.JSON: media.DICOM_JSON, "application/xml": media.DICOM_XML, "text/xml": media.DICOM_XML}
_COMPRESSED = (
    *("image/jpeg", "image/dicom-rle", "image/jls", "image/jp2", "image/jpx", "image/jphc", "image/jxl"),
    *("video/mpeg2", "video/mp4", "video/h265"),
)
_UIDS = ("0020000D", "0020000E", "00080018", "00080016")
_NOT_OURS = Failed(
    Failure(CANNOT_UNDERSTAND, 415), "the part is neither metadata nor bulk data with a Content-Location"
)
_ORPHAN = Failed(
    Failure(CANNOT_UNDERSTAND, 409), "no BulkDataURI of the metadata names the Content-Location of the part"
)
_NO_OBJECT = Invalid(Fault.MALFORMED, "the metadata of an instance is not a JSON object of attributes")


class Gathering:
    """The parts of one request: metadata in memory, bulk data on disk, what is neither counted."""

    def __init__(self, media_type: str, bulk: BulkParts) -> None:
        self.bulk = bulk
        self.parts = 0
        self.passed_over = 0
        self._media_type = media_type
        self._documents: list[tuple[str, bytearray]] = []
        self._metadata_bytes = 0
        self._document: bytearray | None = None
        self._part: BulkPart | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def begin(self, headers: Mapping[str, str]) -> None:
        """A part begins. Raises Refused (413) when there are more than one request may have."""
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise Refused(413, "too-large", f"more than {MAX_PARTS} parts in one request: send several")
        media_type, parameters = accept.media_type(headers.get("content-type", ""))
        location = headers.get("content-location", "").strip()
        document_type = self._document_type(media_type, location)
        if document_type is not None:
            self._document = bytearray()
            self._documents.append((document_type, self._document))
        elif location:
            named = parameters.get("transfer-syntax", "*")
            kind = media.canonical(media_type) or media.OCTETS
            self._part = self.bulk.begin(self.parts, location, kind, None if named == "*" else named)
        else:
            self.passed_over += 1

    def _document_type(self, media_type: str, location: str) -> str | None:
        if media_type in TYPES:
            return media_type
        if location:
            return None
        return _ALSO_METADATA.get(media_type, None if media_type else self._media_type)

    async def data(self, data: bytes) -> None:
        """More bytes of the part. Raises Refused (413), Exhausted, Unavailable."""
        if self._document is not None:
            self._metadata_bytes += len(data)
            if self._metadata_bytes > MAX_METADATA_BYTES:
                raise Refused(
                    413, "too-large", f"the metadata takes more than {MAX_METADATA_BYTES} bytes: send several"
                )
            self._document += data
        elif self._part is not None:
            self._pending.append(data)
            self._pending_bytes += len(data)
            if self._pending_bytes >= FLUSH_BYTES:
                await self._flush(self._part)

    async def end(self) -> None:
        """The part is whole."""
        if self._part is not None:
            await self._flush(self._part)
        self._document = self._part = None

    async def _flush(self, part: BulkPart) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        try:
            await delivery.in_storing_thread(self.bulk.write, part, pending)
        except Invalid as error:
            raise Refused(413, "too-large", f"all bulk data of one request counts as one instance: {error}") from None

    def instances(self) -> list[JsonDataset | Invalid]:
        """The data sets that the metadata describes; for one that cannot be read, why."""
        found: list[JsonDataset | Invalid] = []
        for media_type, document in self._documents:
            try:
                found += _json(document) if media_type == media.DICOM_JSON else [xmlreading.read(bytes(document))]
            except Invalid as error:
                found.append(error)
            document.clear()
        return found


async def receive(
    reception: Reception, gathering: Gathering, chunks: AsyncIterator[bytes], parser: MultipartParser
) -> None:
    """Gather the parts of the request, then store what they make; each failure goes to `reception`.

    Raises Refused (400, 413), Exhausted, Unavailable: then nothing has been stored.
    """
    async for chunk in chunks:
        for event in parser.feed(chunk):
            match event:
                case PartBegun(headers):
                    gathering.begin(headers)
                case PartData(data):
                    await gathering.data(data)
                case _:
                    await gathering.end()
    if gathering.parts and not parser.finished:
        raise Refused(400, "multipart", "the body ends before the closing delimiter of its last part")
    uris: set[str] = set()
    all_readable = True
    for instance in await delivery.in_storing_thread(gathering.instances):
        if isinstance(instance, Invalid):
            all_readable = False
            await reception.give_up(Failed(failures.of(instance), str(instance)))
        else:
            uris.update(_uris(instance))
            await reception.make(partial(write, instance, gathering.bulk), _identity(instance))
    # What metadata that cannot be read refers to is not known: its failure stands for its bulk data too.
    for _ in gathering.bulk.orphans(uris) if all_readable else ():
        await reception.give_up(_ORPHAN)
    for _ in range(gathering.passed_over):
        await reception.give_up(_NOT_OURS)


def write(dataset: JsonDataset, bulk: BulkParts, incoming: Incoming) -> None:
    """Write the Part 10 file of the instance that `dataset` and the bulk parts make. Raises Invalid."""
    streamed = [key for key in wrap.STREAMED if _uri(dataset.get(key)) is not None]
    if len(streamed) > 1:
        raise Invalid(Fault.MALFORMED, "the instance has more than one value of pixel data or document")
    if not streamed:
        whole = encode(dataset, Values(bulk))
        incoming.write(whole.head)
        return
    parts = bulk.named(_uri(dataset[streamed[0]]) or "")
    wrapped = _wrapped(dataset, streamed[0], parts, bulk)
    around = encode(wrapped.dataset, Values(bulk), transfer_syntax=wrapped.transfer_syntax, pixels=wrapped.pixels)
    incoming.write(around.head)
    in_fragments = isinstance(wrapped.pixels, Encapsulated)
    for part in parts:
        if in_fragments:
            incoming.write(fragment_header(part.length))
        for chunk in bulk.chunks(part):
            incoming.write(chunk)
        if in_fragments:
            incoming.write(fragment_padding(part.length))
    incoming.write(around.tail)


def _wrapped(dataset: JsonDataset, key: str, parts: list[BulkPart], bulk: BulkParts) -> wrap.Wrapped:
    first = parts[0]
    if any((part.media_type, part.transfer_syntax) != (first.media_type, first.transfer_syntax) for part in parts):
        raise Invalid(Fault.TRANSFER_SYNTAX, "the parts of one value are of different types")
    if key == wrap.ENCAPSULATED_DOCUMENT:
        if len(parts) > 1:
            raise Invalid(Fault.MALFORMED, "several parts have the Content-Location of one document")
        return wrap.with_document(dataset, first.media_type, first.length)
    syntaxes = _syntaxes(first.media_type)
    if not syntaxes:
        raise Invalid(Fault.TRANSFER_SYNTAX, "the pixel data came in a media type that no transfer syntax here is for")
    lengths = [part.length for part in parts]
    sent = wrap.Sent(lengths, syntaxes, first.transfer_syntax, bulk.head(first, wrap.HEAD_BYTES))
    return wrap.with_pixels(dataset, key, sent)


def _syntaxes(media_type: str) -> tuple[str, ...]:
    """The transfer syntaxes that pixel data of this type may be in; octets that name one may be in any."""
    own = media.syntaxes_of(media_type)
    if media_type != media.OCTETS:
        return own
    return own + tuple(each for compressed in _COMPRESSED for each in media.syntaxes_of(compressed))


def _json(document: bytearray) -> list[JsonDataset | Invalid]:
    try:
        found = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise Invalid(Fault.MALFORMED, "the metadata is not JSON") from None
    instances = found if isinstance(found, list) else [found]
    if not instances:
        raise Invalid(Fault.MALFORMED, "the metadata describes no instance")
    if len(instances) > MAX_PARTS:
        raise Refused(
            413, "too-large", f"the metadata describes more than {MAX_PARTS} instances: send several requests"
        )
    return [_in_upper_case(each) for each in instances]


def _in_upper_case(instance: Any) -> JsonDataset | Invalid:
    """A data set with its tags as the standard spells them."""
    if not isinstance(instance, dict):
        return _NO_OBJECT
    upper = {key.upper(): entry for key, entry in instance.items()}
    return (
        upper
        if len(upper) == len(instance)
        else Invalid(Fault.MALFORMED, "an attribute of the metadata is there twice")
    )


def _uris(dataset: JsonDataset) -> Iterator[str]:
    """Each BulkDataURI at whatever depth."""
    stack: list[Any] = [dataset]
    while stack:
        each = stack.pop()
        for entry in each.values() if isinstance(each, dict) else ():
            uri = _uri(entry)
            if uri is not None:
                yield uri
            values = entry.get("Value") if isinstance(entry, dict) else None
            if isinstance(values, list):
                stack += values


def _uri(entry: Any) -> str | None:
    uri = entry.get("BulkDataURI") if isinstance(entry, dict) else None
    return uri if isinstance(uri, str) else None


def _identity(dataset: JsonDataset) -> Identity | None:
    """What the instance would be, when SOP Class and Instance can be told: a failure names them (PS3.18 I.2.2)."""
    study, series, sop, sop_class = (_uid(dataset.get(key)) for key in _UIDS)
    return Identity(study, series, sop, sop_class) if sop and sop_class else None


def _uid(entry: Any) -> str:
    values = entry.get("Value") if isinstance(entry, dict) else None
    first = values[0] if isinstance(values, list) and values else None
    return first if isinstance(first, str) and is_uid(first) else ""
