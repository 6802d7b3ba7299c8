"""Large objects in parts: created, sent part by part, completed in one step; what fails is aborted."""

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from storage.errors import NotFound, StorageError, Unavailable
from storage.objects.s3_bucket import Bucket, Marker, upload_query
from storage.objects.s3_errors import Passing
from storage.objects.s3_patience import Patience
from storage.objects.s3_payload import Payload, Whole
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

    bucket: Bucket
    wire: Wire
    patiently: Patience
    key: str
    headers: dict[str, str]
    mine: Callable[[], bool]
    _id: str = ""
    _md5s: list[bytes] = field(default_factory=list)
    _etags: list[str] = field(default_factory=list)

    def send(self, whole: Whole, least: int, *, if_absent: bool) -> None:
        """Store `whole`. Raises as `ObjectStore.put`, and then leaves no parts behind that it can remove."""
        size = part_length(whole.length, least)
        self._id = self.patiently(partial(self.bucket.create_upload, self.key, self.headers))
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

    def _part(self, payload: Payload) -> str:
        number = len(self._etags) + 1
        answer = self.wire.ask(
            "PUT",
            self.key,
            operation="put_part",
            query=f"partNumber={number}&{upload_query(self._id)}",
            headers=payload.check,
            payload=payload,
        )
        etag = answer.headers.get("ETag", "")
        if not etag or (is_md5(etag) and etag.strip('"') != payload.md5.hex()):
            raise Passing("the S3 store has stored a part of an object other than it was sent")
        return etag

    def _complete(self, if_absent: bool) -> None:
        complete = partial(self.bucket.complete_upload, self.key, self._id, self._etags, if_absent=if_absent)
        try:
            etag = self.patiently(complete)
        except StorageError:
            if not self.mine():  # an answer may have been lost: then a later attempt finds no upload, or an object
                raise
            return
        joined = hashlib.md5(b"".join(self._md5s), usedforsecurity=False).hexdigest()
        if etag.strip('"') != f"{joined}-{len(self._etags)}" and not self.mine():
            raise Unavailable("the S3 store cannot confirm the object that it was sent in parts")

    def _abort(self) -> None:
        with suppress(NotFound):
            self.bucket.abort_upload(self.key, self._id)


def is_md5(etag: str) -> bool:
    """Whether an ETag can be the MD5 of a body: 32 hexadecimal digits."""
    text = etag.strip('"')
    return len(text) == 32 and all(character in "0123456789abcdef" for character in text)


def remove_stale_uploads(bucket: Bucket, patiently: Patience, older_than_seconds: float) -> int:
    """Abort the uploads below the prefix that began so long ago; how many. Raises Unavailable."""
    before = (time.time() - older_than_seconds) * 1_000_000
    after: Marker | None = None
    removed = 0
    for _ in range(_MAX_PAGES):
        page = patiently(partial(bucket.uploads, after))
        for (key, upload_id), at in page.found:
            if at < before:
                with suppress(NotFound):
                    bucket.abort_upload(key, upload_id)
                    removed += 1
        after = page.next
        if after is None:
            break
    return removed
