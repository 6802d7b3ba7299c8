"""Large objects in parts: created, sent part by part, completed in one step; what fails is aborted."""

import base64
import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

from storage.errors import NotFound, StorageError, Unavailable
from storage.objects.s3_errors import Passing, translated
from storage.objects.s3_patience import Patience
from storage.objects.s3_payload import Payload, Whole
from storage.objects.s3_settings import S3Settings
from storage.objects.s3_wire import Wire

MAX_PARTS = 64
_ROUND = 1 << 20
_MAX_PAGES = 1000  # of uploads that were never completed


def part_length(length: int, least: int) -> int:
    """Bytes of each part but the last one of an object of `length`."""
    share = -(-length // MAX_PARTS)
    return max(least, -(-share // _ROUND) * _ROUND)


@dataclass
class Upload:
    """One object on its way in parts. `mine` tells whether the key now holds what this upload sent."""

    client: Any
    wire: Wire
    settings: S3Settings
    patiently: Patience
    key: str
    metadata: dict[str, str]
    mine: Callable[[], bool]
    _id: str = ""
    _md5s: list[bytes] = field(default_factory=list)
    _etags: list[str] = field(default_factory=list)

    def send(self, whole: Whole, least: int, *, if_absent: bool) -> None:
        """Store `whole`. Raises as `ObjectStore.put`, and then leaves no parts behind that it can remove."""
        size = part_length(whole.length, least)
        self._id = self.patiently(self._create)
        try:
            for offset in range(0, whole.length, size):
                part = whole.payload(offset, min(size, whole.length - offset), signed=self.wire.signs_payloads)
                self._etags.append(self.patiently(partial(self._part, part)))
                self._md5s.append(part.md5)
            self._complete(if_absent)
        except BaseException:
            with suppress(StorageError):  # the first failure is the one to tell; the rest is swept as stale
                self._abort()
            raise

    def _place(self) -> dict[str, str]:
        return {"Bucket": self.settings.bucket, "Key": self.settings.prefix + self.key}

    def _create(self) -> str:
        with translated("write"):
            return str(self.client.create_multipart_upload(**self._place(), Metadata=self.metadata)["UploadId"])

    def _part(self, payload: Payload) -> str:
        number = len(self._etags) + 1
        answer = self.wire.ask(
            "PUT",
            self.key,
            query=f"partNumber={number}&uploadId={quote(self._id, safe='')}",
            headers={"Content-MD5": base64.b64encode(payload.md5).decode()},
            payload=payload,
        )
        etag = answer.headers.get("ETag", "")
        if not etag or (is_md5(etag) and etag.strip('"') != payload.md5.hex()):
            raise Passing("the S3 store has stored a part of an object other than it was sent")
        return etag

    def _complete(self, if_absent: bool) -> None:
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        parts = [{"ETag": etag, "PartNumber": number} for number, etag in enumerate(self._etags, start=1)]

        def complete() -> str:
            with translated("write"):
                answer = self.client.complete_multipart_upload(
                    **self._place(), UploadId=self._id, MultipartUpload={"Parts": parts}, **condition
                )
            return str(answer.get("ETag", ""))

        try:
            etag = self.patiently(complete)
        except StorageError:
            if not self.mine():  # an answer may have been lost: then a later attempt finds no upload, or an object
                raise
            return
        joined = hashlib.md5(b"".join(self._md5s), usedforsecurity=False).hexdigest()
        if etag.strip('"') != f"{joined}-{len(parts)}" and not self.mine():
            raise Unavailable("the S3 store cannot confirm the object that it was sent in parts")

    def _abort(self) -> None:
        with suppress(NotFound), translated("write"):
            self.client.abort_multipart_upload(**self._place(), UploadId=self._id)


def is_md5(etag: str) -> bool:
    """Whether an ETag can be the MD5 of a body: 32 hexadecimal digits."""
    text = etag.strip('"')
    return len(text) == 32 and all(character in "0123456789abcdef" for character in text)


def remove_stale_uploads(client: Any, settings: S3Settings, patiently: Patience, older_than_seconds: float) -> int:
    """Abort the uploads below the prefix that began so long ago; how many. Raises Unavailable."""
    before = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
    markers: dict[str, str] = {}
    removed = 0
    for _ in range(_MAX_PAGES):

        def page(markers: dict[str, str] = markers) -> Any:
            with translated("list"):
                return client.list_multipart_uploads(Bucket=settings.bucket, Prefix=settings.prefix, **markers)

        found = patiently(page)
        for upload in found.get("Uploads", ()):
            if upload["Initiated"] < before:
                with suppress(NotFound), translated("delete"):
                    client.abort_multipart_upload(
                        Bucket=settings.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    removed += 1
        if not found.get("IsTruncated"):
            break
        markers = {"KeyMarker": found["NextKeyMarker"], "UploadIdMarker": found["NextUploadIdMarker"]}
    return removed
