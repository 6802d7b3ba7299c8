"""A DICOMweb server as a destination: STOW-RS, several instances in a request, streamed from disk (PS3.18 10.5)."""

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from gateway.cli import statuses
from gateway.cli.delivery import Fate, Rejected, Sent, Unreachable
from gateway.cli.files import DicomFile
from gateway.cli.web_client import Answer, WebClient, no_answer

_CHUNK_BYTES = 1 << 20
_LINE_END = b"\r\n"
_MAX_RETRY_AFTER_SECONDS = 60.0
_TRY_AGAIN = (408, 425, 429, 502, 503, 504, 507)
_HOPELESS = {
    401: "a token is needed, or this one is not valid (--token-file)",
    403: "this caller may not store",
    404: "there is no DICOMweb root",
    405: "there is no DICOMweb root that can store",
    415: "the server does not take multipart/related application/dicom",
}


class _Changed(Exception):
    """A file is not what it was when it was found."""

    def __init__(self, file: DicomFile, reason: str) -> None:
        super().__init__(reason)
        self.file = file


class StowDestination:
    """Sends each batch as one request; files whose fate the answer leaves open are sent again, each alone."""

    max_files = 100
    max_bytes = 64 << 20

    def __init__(self, client: WebClient) -> None:
        self._client = client

    def send(self, files: Sequence[DicomFile]) -> Iterator[Sent]:
        """See `Destination`. A file that is found changed ends its request; the others are sent again without it."""
        try:
            answer = self._post(files)
        except _Changed as error:
            yield Sent(error.file, Fate.REFUSED, str(error))
            others = [file for file in files if file is not error.file]
            if others:
                yield from self.send(others)
            return
        if answer.status in _HOPELESS:
            raise Rejected(f"{self._client.root}: {_HOPELESS[answer.status]} (status {answer.status})")
        if answer.status in _TRY_AGAIN:
            pause = _retry_after(answer)
            yield from (Sent(file, Fate.LATER, f"the server answered {answer.status}", pause) for file in files)
            return
        unclear = []
        for file, sent in _fates(files, answer):
            if sent is None:
                unclear.append(file)
            else:
                yield sent
        for file in unclear:
            yield from self.send([file])

    def close(self) -> None:
        self._client.close()

    def _post(self, files: Sequence[DicomFile]) -> Answer:
        boundary = secrets.token_hex(16)
        opening = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        closing = f"--{boundary}--\r\n".encode()
        length = sum(len(opening) + file.size + len(_LINE_END) for file in files) + len(closing)
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(length),
        }
        try:
            return self._client.post("/studies", _multipart(files, opening, closing), headers)
        except httpx.RequestError as error:
            raise Unreachable(no_answer(self._client.root, error)) from error


def _multipart(files: Sequence[DicomFile], opening: bytes, closing: bytes) -> Iterator[bytes]:
    for file in files:
        yield opening
        yield from _content(file)
        yield _LINE_END
    yield closing


def _content(file: DicomFile) -> Iterator[bytes]:
    """The bytes of the file; a file that is shorter or longer than it was must not be taken for the whole of it."""
    left = file.size
    try:
        with file.path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
    except OSError as error:
        raise _Changed(file, f"cannot be read: {error.strerror}") from error
    if left:
        raise _Changed(file, "was changed while it was sent")


def _fates(files: Sequence[DicomFile], answer: Answer) -> Iterator[tuple[DicomFile, Sent | None]]:
    """Each file's fate by the Store Instances Response Module (PS3.18 Annex I.2); None when it does not tell.

    Stored is what the answer names as stored and nothing else: a status of 200 alone vouches for no instance.
    """
    module = _module(answer)
    stored = {uid for item in _items(module, "00081199") if (uid := _value(item, "00081155"))}
    failed = {_value(item, "00081155"): _value(item, "00081197") for item in _items(module, "00081198")}
    others = [_value(item, "00081197") for item in _items(module, "0008119A")]
    namesakes = Counter(file.sop_uid for file in files)
    for file in files:
        if namesakes[file.sop_uid] > 1:  # which of them the answer speaks of cannot be told
            yield file, None
        elif file.sop_uid in failed:
            yield file, _failed(file, failed[file.sop_uid])
        elif file.sop_uid in stored:
            yield file, Sent(file, Fate.STORED)
        elif len(files) > 1:
            yield file, None
        else:
            yield file, _alone(file, answer, stored, [*failed.values(), *others])


def _alone(file: DicomFile, answer: Answer, stored: set[str | int], reasons: list[str | int | None]) -> Sent:
    """The fate of the only instance of a request, which the answer may name by another UID than its file meta does."""
    if reasons:
        return _failed(file, reasons[0])
    if answer.status in (200, 202):
        if len(stored) == 1:
            return Sent(file, Fate.STORED)
        return Sent(file, Fate.REFUSED, f"the server answered {answer.status} but does not name it as stored")
    return Sent(file, Fate.REFUSED, f"the server answered {answer.status}")


def _failed(file: DicomFile, reason: str | int | None) -> Sent:
    if not isinstance(reason, int):
        return Sent(file, Fate.REFUSED, "the server gave no reason")
    return Sent(file, Fate.LATER if statuses.is_temporary(reason) else Fate.REFUSED, statuses.describe(reason))


def _module(answer: Answer) -> Mapping[str, Any]:
    """The answer's data set; some servers wrap it in an array of one. A server error vouches for nothing."""
    if answer.status >= 500:
        return {}
    document = answer.json()
    if isinstance(document, list) and document:
        document = document[0]
    return document if isinstance(document, dict) else {}


def _items(dataset: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    return [item for item in _values(dataset.get(tag)) if isinstance(item, dict)]


def _value(dataset: Mapping[str, Any], tag: str) -> str | int | None:
    """The first value of a UID or number; None when there is none, or something else in its place."""
    values = _values(dataset.get(tag))
    return values[0] if values and isinstance(values[0], str | int) else None


def _values(element: Any) -> list[Any]:
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _retry_after(answer: Answer) -> float:
    stated = answer.headers.get("Retry-After", "")
    return min(float(stated), _MAX_RETRY_AFTER_SECONDS) if stated.isdecimal() else 0.0
