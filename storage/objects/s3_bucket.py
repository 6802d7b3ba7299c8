"""What is asked of a bucket in documents: lists, deletions by the thousand, the frame of uploads. One attempt each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote_plus, urlencode
from xml.etree.ElementTree import Element

from storage.errors import Unavailable
from storage.objects import ObjectMeta
from storage.objects.s3_documents import document, each, fields
from storage.objects.s3_errors import refusal
from storage.objects.s3_payload import Payload, opened
from storage.objects.s3_wire import Wire

MOST = 1000  # that one request lists or deletes
_GONE = ("NoSuchKey", "NoSuchVersion")

Marker = tuple[str, str]  # the key, and the version or the upload of it, behind which a list goes on


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects in the order of the server; `cut`: there are more behind them."""

    found: Sequence[ObjectMeta]
    cut: bool


@dataclass(frozen=True, slots=True)
class Versions:
    """Keys with the names of their versions, and of the marks that they were deleted; None: there are no more."""

    found: Sequence[Marker]
    next: Marker | None


@dataclass(frozen=True, slots=True)
class Uploads:
    """Keys and names of uploads that are not completed, each with when it began (microseconds since 1970 UTC)."""

    found: Sequence[tuple[Marker, int]]
    next: Marker | None


class Bucket:
    """Keys are those below `prefix`. All raise what `s3_errors` makes of refusals. Safe under threads."""

    def __init__(self, wire: Wire, prefix: str) -> None:
        self._wire = wire
        self._prefix = prefix

    def objects(self, prefix: str, *, after: str = "", most: int = MOST) -> Objects:
        """The first objects whose keys begin with `prefix`, behind `after` if that is given."""
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(most), "prefix": self._prefix + prefix}
        if after:
            query["start-after"] = self._prefix + after
        page = self._page("list", "ListBucketResult", query)
        found = [
            ObjectMeta(page.key(one), _number(one.get("Size")), _microseconds(one.get("LastModified")))
            for one in each(page.document, "Contents")
        ]
        return Objects(found, page.cut)

    def versions(self, prefix: str, after: Marker | None = None) -> Versions:
        """The first versions of keys that begin with `prefix`, behind `after` if that is given."""
        query = {"encoding-type": "url", "max-keys": str(MOST), "prefix": self._prefix + prefix}
        if after is not None:
            query |= {"key-marker": self._prefix + after[0], "version-id-marker": after[1]}
        page = self._page("list_versions", "ListVersionsResult", query, "versions&")
        versions = each(page.document, "Version", "DeleteMarker")
        found = [(page.key(one), one.get("VersionId", "null")) for one in versions]
        return Versions(found, page.next("NextVersionIdMarker", found))

    def uploads(self, after: Marker | None = None) -> Uploads:
        """The first uploads that are not completed, behind `after` if that is given."""
        query = {"prefix": self._prefix}
        if after is not None:
            query |= {"key-marker": self._prefix + after[0], "upload-id-marker": after[1]}
        page = self._page("list_uploads", "ListMultipartUploadsResult", query, "uploads&")
        uploads = each(page.document, "Upload")
        found = [((page.key(one), one.get("UploadId", "")), _microseconds(one.get("Initiated"))) for one in uploads]
        return Uploads(found, page.next("NextUploadIdMarker", [marker for marker, _ in found]))

    def _page(self, operation: str, root: str, query: Mapping[str, str], what: str = "") -> "_Page":
        words = urlencode(query, quote_via=quote, safe="")
        answer = self._wire.ask_document(operation, "GET", None, root, query=what + words)
        return _Page(answer, fields(answer), self._prefix)

    def delete(self, objects: Sequence[tuple[str, str]]) -> None:
        """Delete up to 1,000 keys, or those of their versions that are named. What is not there is fine."""
        names = [{"Key": self._prefix + key, **({"VersionId": version} if version else {})} for key, version in objects]
        body = _payload(document("Delete", [("Quiet", "true"), *(("Object", name) for name in names)]))
        answer = self._wire.ask_document(
            "delete_many", "POST", None, "DeleteResult", query="delete", headers=body.check, payload=body
        )
        failed = [code for one in each(answer, "Error") if (code := one.get("Code", "")) not in _GONE]
        if failed:
            raise refusal(403 if failed[0] == "AccessDenied" else 500, failed[0], "delete")

    def create_upload(self, key: str, headers: Mapping[str, str]) -> str:
        """Begin an upload in parts; its name."""
        root = "InitiateMultipartUploadResult"
        answer = self._wire.ask_document("create_upload", "POST", key, root, query="uploads", headers=headers)
        if not (upload_id := fields(answer).get("UploadId", "")):
            raise Unavailable("the S3 store does not name the upload that it was to begin")
        return upload_id

    def complete_upload(self, key: str, upload_id: str, etags: Sequence[str], *, if_absent: bool) -> str:
        """Join the parts, which have these ETags; the ETag of the object, empty when it is not told."""
        parts = [("Part", {"PartNumber": str(number), "ETag": etag}) for number, etag in enumerate(etags, start=1)]
        answer = self._wire.ask_document(
            "complete_upload",
            "POST",
            key,
            "CompleteMultipartUploadResult",
            query=upload_query(upload_id),
            headers={"If-None-Match": "*"} if if_absent else {},
            payload=_payload(document("CompleteMultipartUpload", parts)),
        )
        return fields(answer).get("ETag", "")

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Give up an upload. Raises NotFound when there is none."""
        self._wire.ask("DELETE", key, operation="abort_upload", query=upload_query(upload_id))


def upload_query(upload_id: str) -> str:
    """What names an upload in a request."""
    return f"uploadId={quote(upload_id, safe='')}"


def _payload(body: bytes) -> Payload:
    with opened([body]) as whole:
        return whole.payload(0, whole.length, signed=True)


@dataclass(frozen=True, slots=True)
class _Page:
    """A part of a list: the answer, its own fields, and what all its keys begin with."""

    document: Element
    said: Mapping[str, str]
    prefix: str

    @property
    def cut(self) -> bool:
        return self.said.get("IsTruncated", "").lower() == "true"

    def key(self, one: Mapping[str, str], name: str = "Key") -> str:
        """The key that stands in the field `name`, without the prefix."""
        text = one.get(name, "")
        key = unquote_plus(text) if self.said.get("EncodingType") == "url" else text
        if not key.startswith(self.prefix):
            raise Unavailable("the S3 store lists other objects than it was asked for")
        return key[len(self.prefix) :]

    def next(self, name: str, found: Sequence[Marker]) -> Marker | None:
        """Where the list goes on: where the answer says (the field `name`), else behind the last that was `found`."""
        if not self.cut or not found:
            return None
        if "NextKeyMarker" not in self.said:
            return found[-1]
        return self.key(self.said, "NextKeyMarker"), self.said.get(name, "")


def _number(text: str | None) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise Unavailable("the S3 store does not tell the length of an object") from None


def _microseconds(text: str | None) -> int:
    """An instant of ISO 8601, as microseconds since 1970-01-01 UTC."""
    try:
        instant = datetime.fromisoformat(text or "")
    except ValueError:
        raise Unavailable("the S3 store does not tell when an object was written") from None
    return int(instant.replace(tzinfo=instant.tzinfo or UTC).timestamp() * 1_000_000)
