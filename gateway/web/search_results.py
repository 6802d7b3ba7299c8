"""The forms of search results: one JSON array, or one XML document for each of them (PS3.18 Table 10.6.4-1)."""

import secrets

import orjson

from gateway.archive import Found
from gateway.web import media
from gateway.web.accept import Offer
from gateway.web.address import url
from storage.dicom import xmlmodel
from storage.dicom.identity import Scope
from storage.dicom.instance import JsonDataset
from storage.dicom.level import Level

OFFERS = (Offer(media.DICOM_JSON), Offer(media.JSON), Offer(media.DICOM_XML, multipart=True))
RETRIEVE_URL = "00081190"


def body(found: Found, level: Level, base: str, offer: Offer) -> tuple[bytes, str]:
    """The rows in the form of `offer`, each with its RetrieveURL, and the Content-Type of the whole."""
    rows = [_with_url(row, level, base) for row in found.rows]
    return _documents(rows) if offer.multipart else (orjson.dumps(rows), offer.media_type)


def _with_url(row: JsonDataset, level: Level, base: str) -> JsonDataset:
    """The row with its RetrieveURL, in ascending order of tags (PS3.18 Tables 10.6.3-3 to 10.6.3-5, F.2.2)."""
    scope = Scope(
        row["0020000D"]["Value"][0],
        row["0020000E"]["Value"][0] if level >= Level.SERIES else None,
        row["00080018"]["Value"][0] if level >= Level.INSTANCE else None,
    )
    return dict(sorted({**row, RETRIEVE_URL: {"vr": "UR", "Value": [url(base, scope)]}}.items()))


def _documents(rows: list[JsonDataset]) -> tuple[bytes, str]:
    """One part for each row; where it says that it is, the row's study, series or instance can be retrieved."""
    boundary = secrets.token_hex(24)
    pieces = []
    for row in rows:
        document = xmlmodel.write(row)
        head = (
            f"--{boundary}\r\nContent-Type: {media.DICOM_XML}\r\nContent-Length: {len(document)}\r\n"
            f"Content-Location: {row[RETRIEVE_URL]['Value'][0]}\r\n\r\n"
        )
        pieces += [head.encode(), document, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces), f'multipart/related; type="{media.DICOM_XML}"; boundary={boundary}'
