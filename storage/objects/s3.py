"""Objects in a bucket of any S3-compatible server: whole or not at all, confirmed by length and MD5 when written.

What is read is complete, but only whoever holds a digest can tell that it is right. See docs/decisions/0014-s3.md.
"""

import re
import secrets
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from functools import partial

from urllib3 import BaseHTTPResponse

from storage.errors import Conflict, NotFound, Unavailable
from storage.objects import Body, ObjectMeta, Source, keys, s3_check, s3_deletion, s3_parts
from storage.objects.s3_body import S3Body
from storage.objects.s3_bucket import Bucket
from storage.objects.s3_errors import Passing
from storage.objects.s3_listing import Listing
from storage.objects.s3_patience import Patience
from storage.objects.s3_payload import Payload, Whole, opened
from storage.objects.s3_settings import S3Settings
from storage.objects.s3_tally import Tally
from storage.objects.s3_wire import release
from storage.objects.spans import outside

__all__ = ["S3Settings", "S3Store"]

_PART_BYTES = 128 << 20
_TOKEN = "x-amz-meta-put"  # tells whose put an object is when the answer to it was lost
_UNCOUNTED = Tally()
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class S3Store:
    """An ObjectStore in a bucket. Safe under threads; share one, it keeps the connections.

    Objects larger than `part_bytes` are sent in parts of at least that size.
    """

    def __init__(self, settings: S3Settings, *, part_bytes: int = _PART_BYTES, tally: Tally = _UNCOUNTED) -> None:
        """Send nothing to the store yet. Raises Unavailable when there are no credentials."""
        # boto3 takes long to be imported: a gateway whose stores are folders need not wait for it.
        from storage.objects.s3_client import connect

        self._settings = settings
        self._part_bytes = part_bytes
        self._wire = connect(settings, tally)
        self._bucket = Bucket(self._wire, settings.prefix)
        self._patiently = Patience(settings.retry_seconds, settings.read_retry_seconds)
        self._listing = Listing(self._bucket, self._patiently, lambda: self._known_traits().ordered)
        self._watch = s3_check.Watch(self._bucket, self._wire, settings)

    @property
    def exclusive(self) -> bool:
        """Whether of two that put one key at once exactly one wins; if not, they are told apart only by a look before.

        Asks the server once. Raises as `check`.
        """
        return self._known_traits().exclusive

    def _known_traits(self) -> s3_check.Traits:
        return self._watch.known or self._patiently(self._watch.traits)

    def put(self, key: str, source: Source, *, if_absent: bool = True) -> ObjectMeta:
        """See `ObjectStore`. One request up to the size of a part."""
        keys.checked(key)
        with opened(source) as whole:
            if if_absent and (whole.length > self._part_bytes or not self.exclusive):
                self._refuse_present(key)
            condition = if_absent and self.exclusive
            if whole.length > self._part_bytes:
                self._put_parts(key, whole, condition)
            else:
                self._put_whole(key, whole, condition)
        return ObjectMeta(key, whole.length)

    def _put_whole(self, key: str, whole: Whole, condition: bool) -> None:
        payload = whole.payload(0, whole.length, signed=self._wire.signs_payloads)
        token = secrets.token_hex(8)
        headers = payload.check | {_TOKEN: token}
        if condition:
            headers["If-None-Match"] = "*"
        unsure = False

        def attempt() -> BaseHTTPResponse | None:
            nonlocal unsure
            try:
                return self._wire.ask("PUT", key, headers=headers, payload=payload)
            except Conflict:
                if unsure and self._is_ours(key, token, payload.length):
                    return None
                raise
            except Passing:
                unsure = True
                raise

        answer = self._patiently(attempt)
        if answer is not None:
            self._confirm(key, answer, payload, token)

    def _confirm(self, key: str, answer: BaseHTTPResponse, payload: Payload, token: str) -> None:
        """Raise Unavailable unless the server has what we sent: its ETag is our MD5, where it is one."""
        etag = answer.headers.get("ETag", "")
        encrypted = answer.headers.get("x-amz-server-side-encryption", "").startswith("aws:")
        if s3_parts.is_md5(etag) and not encrypted:
            confirmed = etag.strip('"') == payload.md5.hex()
        else:
            confirmed = self._is_ours(key, token, payload.length)
        if not confirmed:
            raise Unavailable("the S3 store has stored an object other than it was sent")

    def _put_parts(self, key: str, whole: Whole, condition: bool) -> None:
        token = secrets.token_hex(8)
        mine = partial(self._is_ours, key, token, whole.length)
        upload = s3_parts.Upload(self._bucket, self._wire, self._patiently, key, {_TOKEN: token}, mine)
        upload.send(whole, self._part_bytes, if_absent=condition)

    def _is_ours(self, key: str, token: str, length: int) -> bool:
        try:
            answer = self._patiently(lambda: self._wire.ask("HEAD", key))
        except NotFound:
            return False
        return answer.headers.get(_TOKEN) == token and _length(answer) == length

    def _refuse_present(self, key: str) -> None:
        try:
            self._patiently(lambda: self._wire.ask("HEAD", key))
        except NotFound:
            return
        raise Conflict("an object with this key is there already")

    def get(self, key: str, span: tuple[int, int] | None = None) -> Body:
        """See `ObjectStore`. One request; a connection that breaks while the body is read costs another."""
        keys.checked(key)
        if span is None:
            answer = self._patiently(lambda: self._wire.ask("GET", key, stream=True), reading=True)
            return self._body(key, answer, 0, _length(answer))
        offset, length = span
        if offset < 0 or length < 0:
            raise outside()
        if length == 0:  # no range can say this
            if offset > self.head(key).length:
                raise outside()
            return S3Body(None, 0, partial(self._range, key, "", 0, 0))
        answer = self._range(key, "", offset, length, 0)
        first, last, total = _content_range(answer)
        if offset + length > total:
            release(answer)
            raise outside()
        return self._body(key, answer, first, last - first + 1)

    def _body(self, key: str, answer: BaseHTTPResponse, offset: int, length: int) -> S3Body:
        etag = answer.headers.get("ETag", "")
        again = partial(self._range, key, etag, offset, length)
        slow_seconds = self._settings.read_timeout_seconds
        return S3Body(answer, length, again, slow_seconds=slow_seconds, moved=self._wire.tally.moved)

    def _range(self, key: str, etag: str, offset: int, length: int, done: int) -> BaseHTTPResponse:
        """The open answer with what of the span is left after `done` bytes, of the object that has `etag`, if any."""
        headers = {"Range": f"bytes={offset + done}-{offset + length - 1}"}
        if etag:
            headers["If-Match"] = etag
        try:
            answer = self._patiently(lambda: self._wire.ask("GET", key, headers=headers, stream=True), reading=True)
        except (NotFound, Conflict) as error:
            if not etag:
                raise
            raise Unavailable("the object was removed or replaced while it was read") from error
        if answer.status != 206 or _content_range(answer)[0] != offset + done:
            release(answer)
            raise Unavailable("the S3 store does not give the part of an object that it was asked for")
        return answer

    def head(self, key: str) -> ObjectMeta:
        """See `ObjectStore`."""
        keys.checked(key)
        try:
            answer = self._patiently(lambda: self._wire.ask("HEAD", key), reading=True)
        except NotFound:  # the answer looks the same when the whole bucket is missing
            self._patiently(self._require_bucket, reading=True)
            raise
        return ObjectMeta(key, _length(answer), _modified_at(answer))

    def _require_bucket(self) -> None:
        self._bucket.objects("", most=1)

    def delete(self, names: Iterable[str]) -> None:
        """See `ObjectStore`. One request for up to 1,000 keys; where the bucket keeps versions, one more for each."""
        safe = map(keys.checked, names)
        versioned = self._known_traits().versioned
        s3_deletion.remove(self._bucket, self._patiently, safe, versioned=versioned)

    def scan(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectMeta]:
        """See `ObjectStore`. One request for 1,000 objects; other names than keys of ours are passed over."""
        return self._listing.scan(prefix, after)

    def check(self) -> None:
        """See `ObjectStore` and `s3_check.Watch`: at most nine small requests, each tried once."""
        self._watch.check(doubtful=self._patiently.is_away)

    def remove_stale_uploads(self, older_than_seconds: float) -> int:
        """Abort what began so long ago to be written in parts and never came to its end; how many.

        Must be longer than the largest object takes. Raises Unavailable.
        """
        return s3_parts.remove_stale_uploads(self._bucket, self._patiently, older_than_seconds)

    def hang_up(self) -> None:
        """Break off what waits for the store (Unavailable); nothing is tried again. The store is of no use after."""
        self._patiently.close()
        self._wire.hang_up()

    def close(self) -> None:
        """Close the connections; the store is of no use after."""
        self.hang_up()
        self._wire.close()


def _length(answer: BaseHTTPResponse) -> int:
    try:
        return int(answer.headers["Content-Length"])
    except (KeyError, ValueError):
        release(answer)
        raise Unavailable("the S3 store does not tell the length of an object") from None


def _content_range(answer: BaseHTTPResponse) -> tuple[int, int, int]:
    """First and last byte that are given, and the length of the whole object."""
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is None:
        release(answer)
        raise Unavailable("the S3 store does not tell which part of an object it gives")
    return int(found[1]), int(found[2]), int(found[3])


def _modified_at(answer: BaseHTTPResponse) -> int:
    try:
        return int(parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()) * 1_000_000
    except (KeyError, ValueError):
        return 0
