"""The Store Instances Response Module (PS3.18 I.1): what became of each instance of a request, as JSON or XML."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.archive import Receipt
from gateway.web import accept, delivery, failures, media
from gateway.web.accept import Offer
from gateway.web.address import url
from gateway.web.errors import RETRY_AFTER_SECONDS
from gateway.web.failures import Failure
from gateway.web.warnings import add_warning
from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import JsonDataset
from storage.errors import NotAcceptable

_KEYWORDS = {
    "00081150": "ReferencedSOPClassUID",
    "00081155": "ReferencedSOPInstanceUID",
    "00081190": "RetrieveURL",
    "00081196": "WarningReason",
    "00081197": "FailureReason",
    "00081198": "FailedSOPSequence",
    "00081199": "ReferencedSOPSequence",
    "0008119A": "OtherFailuresSequence",
}


@dataclass(frozen=True, slots=True)
class Failed:
    """A part that was not stored; without `identity` when it cannot be told which instance it would have been."""

    failure: Failure
    message: str
    identity: Identity | None = None


Result = Receipt | Failed


def response(request: Request, base: str, results: Sequence[Result]) -> Response:
    """The answer to a store: each part of the request in it exactly once, in the order of the request.

    The module has no attribute for a text, so the first message of each kind is a Warning header.
    """
    stored = [result for result in results if isinstance(result, Receipt)]
    failed = [result for result in results if isinstance(result, Failed)]
    warned = [receipt for receipt in stored if receipt.warnings]
    status = failures.status(len(stored), bool(warned), [result.failure for result in failed])
    content_type, body = _encoded(request, _module(base, stored, failed))
    headers = {"content-type": content_type, **delivery.PRIVATE}
    if status == 503:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    if stored and _one_study(stored):
        headers["location"] = url(base, Scope(stored[0].identity.study_uid))
    answer = Response(body, status, headers)
    if failed:
        add_warning(answer, base, f"{len(failed)} of {len(results)} instances failed, the first: {failed[0].message}")
    if warned:
        texts = f"{len(warned)} of {len(results)} instances stored with warnings, the first: {warned[0].warnings[0]}"
        add_warning(answer, base, texts)
    return answer


def _module(base: str, stored: Sequence[Receipt], failed: Sequence[Failed]) -> JsonDataset:
    study = url(base, Scope(stored[0].identity.study_uid)) if _one_study(stored) else None
    named = [_failed_item(each.identity, each.failure) for each in failed if each.identity is not None]
    others = [{"00081197": _us(each.failure.reason)} for each in failed if each.identity is None]
    module: JsonDataset = {"00081190": {"vr": "UR", "Value": [study]} if study else {"vr": "UR"}}
    sequences = {"00081198": named, "00081199": [_stored_item(base, receipt) for receipt in stored], "0008119A": others}
    return module | {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}


def _one_study(stored: Sequence[Receipt]) -> bool:
    return len({receipt.identity.study_uid for receipt in stored}) == 1


def _stored_item(base: str, receipt: Receipt) -> JsonDataset:
    item = _reference(receipt.identity) | {"00081190": {"vr": "UR", "Value": [url(base, receipt.identity)]}}
    return item | ({"00081196": _us(failures.DATA_SET_ODD)} if receipt.warnings else {})


def _failed_item(identity: Identity, failure: Failure) -> JsonDataset:
    return _reference(identity) | {"00081197": _us(failure.reason)}


def _reference(identity: Identity) -> JsonDataset:
    return {
        "00081150": {"vr": "UI", "Value": [identity.sop_class]},
        "00081155": {"vr": "UI", "Value": [identity.sop_uid]},
    }


def _us(number: int) -> JsonDataset:
    return {"vr": "US", "Value": [number]}


def _encoded(request: Request, module: JsonDataset) -> tuple[str, bytes]:
    """In the form the caller prefers; in JSON when it takes neither, for the instances are stored by now."""
    offers = [Offer(media.DICOM_JSON), Offer(media.JSON), Offer(media.DICOM_XML), Offer("application/xml")]
    try:
        offer = accept.choose(accept.ranges(request.headers.get("accept")), offers)
    except NotAcceptable:
        offer = offers[0]
    if "xml" in offer.media_type:
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xml:space="preserve">{_xml(module)}'
        return offer.media_type, f"{text}</NativeDicomModel>".encode()
    return offer.media_type, orjson.dumps(module)


def _xml(dataset: JsonDataset) -> str:
    """The attributes of this module in the Native DICOM Model (PS3.19 A.1)."""
    return "".join(
        f'<DicomAttribute tag="{tag}" vr="{element["vr"]}" keyword="{_KEYWORDS[tag]}">'
        f"{''.join(_xml_value(number, value) for number, value in enumerate(element.get('Value', ()), 1))}"
        "</DicomAttribute>"
        for tag, element in dataset.items()
    )


def _xml_value(number: int, value: JsonDataset | str | int) -> str:
    if isinstance(value, dict):
        return f'<Item number="{number}">{_xml(value)}</Item>'
    return f'<Value number="{number}">{escape(str(value))}</Value>'
