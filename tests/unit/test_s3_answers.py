"""Answers that a good S3 server does not give: each is noticed, and nothing wrong is taken for success."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, cast
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element, fromstring

import pytest

from storage.errors import Conflict, NotFound, Unavailable
from storage.objects import s3_listing
from storage.objects.s3 import S3Store
from storage.objects.s3_bucket import Bucket
from storage.objects.s3_check import Traits
from storage.objects.s3_errors import Passing
from storage.objects.s3_payload import Payload
from storage.objects.s3_settings import parse_s3_url
from storage.objects.s3_tally import Tally

DATA = b"0123456789"
ETAG = f'"{hashlib.md5(DATA, usedforsecurity=False).hexdigest()}"'
OTHER = f'"{hashlib.md5(b"other", usedforsecurity=False).hexdigest()}"'


class Answer:
    def __init__(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        self.status = status
        self.body = body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def read1(self, most: int) -> bytes:
        given, self.body = self.body[:most], self.body[most:]
        return given

    def close(self) -> None: ...

    def release_conn(self) -> None: ...


class Wire:
    """Gives what `answers` make of each request, and remembers what was sent."""

    signs_payloads = False
    tally = Tally()

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], Answer]] = {}
        self.sent: list[tuple[str, dict[str, str]]] = []

    def ask(self, method: str, key: str, *, headers: dict[str, str] | None = None, **_: Any) -> Answer:
        self.sent.append((method, dict(headers or {})))
        return self.answers[method]()

    @property
    def token(self) -> str:
        """Of the last put."""
        return next(headers["x-amz-meta-put"] for method, headers in reversed(self.sent) if method == "PUT")

    def hang_up(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def store(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    one = S3Store(parse_s3_url("s3://bucket/own?endpoint=http://127.0.0.1:1&retry_seconds=0"))
    one._wire.close()
    one._wire = wire  # type: ignore[assignment]
    one._watch.known = Traits(exclusive=True, ordered=True, versioned=False)
    yield one
    one.close()


def test_an_object_stored_other_than_sent_is_no_success(store: S3Store, wire: Wire) -> None:
    wire.answers["PUT"] = lambda: Answer(ETag=ETAG)
    store.put("a", [DATA])
    wire.answers["PUT"] = lambda: Answer(ETag=OTHER)
    with pytest.raises(Unavailable, match="other than it was sent"):
        store.put("a", [DATA])


@pytest.mark.parametrize(
    ("length", "ours", "confirmed"), [("10", True, True), ("9", True, False), ("10", False, False)]
)
@pytest.mark.parametrize("kms", [True, False])
def test_where_an_etag_is_no_digest_length_and_mark_must_be_ours(
    store: S3Store, wire: Wire, length: str, ours: bool, confirmed: bool, kms: bool
) -> None:
    stored = {"ETag": OTHER, "x_amz_server_side_encryption": "aws:kms"} if kms else {"ETag": '"opaque"'}
    wire.answers["PUT"] = lambda: Answer(200, b"", **stored)
    wire.answers["HEAD"] = lambda: Answer(Content_Length=length, x_amz_meta_put=wire.token if ours else "another")
    if confirmed:
        store.put("a", [DATA])
    else:
        with pytest.raises(Unavailable, match="other than it was sent"):
            store.put("a", [DATA])


def test_a_key_is_written_only_when_it_is_free_unless_told_otherwise(store: S3Store, wire: Wire) -> None:
    wire.answers["PUT"] = lambda: Answer(ETag=ETAG)
    store.put("a", [DATA])
    store.put("a", [DATA], if_absent=False)
    assert [headers.get("If-None-Match") for _, headers in wire.sent] == ["*", None]


def test_another_part_of_an_object_than_asked_for_is_refused(store: S3Store, wire: Wire) -> None:
    for answer in (
        Answer(200, DATA, Content_Length="10"),  # Range was not heeded, and nothing says which bytes these are
        Answer(200, DATA, Content_Length="10", Content_Range="bytes 2-4/10"),
        Answer(206, b"123", Content_Length="3", Content_Range="bytes 1-3/10"),
        Answer(206, b"234", Content_Length="3"),
    ):
        wire.answers["GET"] = lambda answer=answer: answer  # type: ignore[misc]
        with pytest.raises(Unavailable):
            store.get("a", (2, 3))
    wire.answers["GET"] = lambda: Answer(206, b"234", Content_Length="3", Content_Range="bytes 2-4/10")
    assert store.get("a", (2, 3)).read() == b"234"
    assert wire.sent[-1] == ("GET", {"Range": "bytes=2-4"})


def test_a_length_that_is_not_told_is_not_guessed(store: S3Store, wire: Wire) -> None:
    wire.answers = {"GET": lambda: Answer(200, DATA), "HEAD": Answer}
    for act in (lambda: store.get("a"), lambda: store.head("a")):
        with pytest.raises(Unavailable, match="length"):
            act()


def test_a_body_goes_on_at_its_offset_and_of_the_same_object_only(store: S3Store, wire: Wire) -> None:
    answers = [
        Answer(206, b"23", ETag=ETAG, Content_Range="bytes 2-6/10"),
        Answer(206, b"456", ETag=ETAG, Content_Range="bytes 4-6/10"),
    ]
    wire.answers["GET"] = lambda: answers.pop(0)
    assert b"".join(store.get("a", (2, 5)).chunks(2)) == b"23456"
    assert wire.sent[-1] == ("GET", {"Range": "bytes=4-6", "If-Match": ETAG})


# Lists and deletions


class Documents(Wire):
    """Answers lists of `names` in key order, and deletions with `errors`; remembers what was asked to be deleted."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = sorted(names)
        self.errors: list[str] = []
        self.batches: list[list[str]] = []

    def ask_document(self, operation: str, method: str, key: str | None, root: str, **options: Any) -> Element:
        return fromstring(getattr(self, f"answer_{operation}")(root, **options))

    def answer_list(self, root: str, *, query: str, **_: Any) -> str:
        asked = dict(parse_qsl(query))
        found = [
            name for name in self.names if name.startswith(asked["prefix"]) and name > asked.get("start-after", "")
        ]
        most = int(asked["max-keys"])
        written = "<LastModified>2026-01-02T03:04:05.678Z</LastModified>"
        contents = (f"<Contents><Key>{name}</Key><Size>1</Size>{written}</Contents>" for name in found[:most])
        cut = str(len(found) > most).lower()
        return f"<{root}><IsTruncated>{cut}</IsTruncated>{''.join(contents)}</{root}>"

    def answer_delete_many(self, root: str, *, payload: Payload, **_: Any) -> str:
        sent = fromstring(b"".join(payload.pieces()))
        self.batches.append([str(key.text) for key in sent.iter() if key.tag.endswith("}Key")])
        return f"<{root}>{''.join(f'<Error><Code>{code}</Code></Error>' for code in self.errors)}</{root}>"


def asking(store: S3Store, wire: Documents) -> Documents:
    """Lists and deletions of `store` are sent over `wire`."""
    store._bucket = Bucket(cast("Any", wire), store._settings.prefix)
    return wire


def test_a_list_goes_on_after_its_last_key_and_stays_below_the_prefix(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_listing, "PAGE", 2)
    asking(store, Documents("own/a", "own/b", "own/b/c", "own/d", "own/e", "own-too/a", "owner", "a"))
    listing = s3_listing.Listing(store._bucket, store._patiently, lambda: True)
    assert [meta.key for meta in listing.scan("", "")] == ["a", "b", "b/c", "d", "e"]
    assert [meta.key for meta in listing.scan("", "b")] == ["b/c", "d", "e"]
    assert [meta.key for meta in listing.scan("b", "a")] == ["b", "b/c"]
    assert {meta.modified_at for meta in listing.scan("", "")} == {1767323045678000}


@pytest.mark.parametrize(
    ("codes", "error"),
    [
        (["AccessDenied"], Unavailable),
        (["NoSuchKey", "InternalError"], Passing),
        (["NoSuchKey", "NoSuchVersion"], None),
    ],
)
def test_an_object_that_was_not_deleted_is_an_error(
    store: S3Store, codes: list[str], error: type[Unavailable] | None
) -> None:
    documents = asking(store, Documents())
    documents.errors = codes
    if error is None:
        store.delete(["a"])
    else:
        with pytest.raises(Unavailable) as caught:
            store.delete(["a"])
        assert type(caught.value) is error
    assert documents.batches == [["own/a"]]


def test_deletions_are_sent_a_thousand_at_once(store: S3Store) -> None:
    documents = asking(store, Documents())
    store.delete(str(number) for number in range(2001))
    assert [len(batch) for batch in documents.batches] == [1000, 1000, 1]


@pytest.mark.parametrize("error", [NotFound("gone"), Conflict("changed")])
def test_an_object_that_goes_while_it_is_read_is_not_a_short_one(store: S3Store, wire: Wire, error: Exception) -> None:
    def once() -> Answer:
        if len(wire.sent) > 1:
            raise error
        return Answer(200, DATA[:4], Content_Length="10", ETag=ETAG)

    wire.answers["GET"] = once
    with pytest.raises(Unavailable, match="removed or replaced"):
        store.get("a").read()


# Parts


class Frame(Documents):
    """For the frame of an upload whose completion answers `etag`."""

    def __init__(self, etag: str) -> None:
        super().__init__()
        self.etag = etag
        self.aborted: list[str] = []
        self.completed: list[list[int]] = []

    def answer_create_upload(self, root: str, **_: Any) -> str:
        return f"<{root}><UploadId>upload</UploadId></{root}>"

    def answer_complete_upload(self, root: str, *, payload: Payload, **_: Any) -> str:
        sent = fromstring(b"".join(payload.pieces()))
        self.completed.append([int(str(one.text)) for one in sent.iter() if one.tag.endswith("}PartNumber")])
        return f"<{root}><ETag>{self.etag}</ETag></{root}>"

    def ask(self, method: str, key: str, *, query: str = "", **_: Any) -> Answer:
        assert method == "DELETE"
        self.aborted.append(query)
        return Answer(204)


MIB = 1 << 20
PARTS = [bytes([number]) * MIB for number in range(3)]
DIGESTS = [hashlib.md5(part, usedforsecurity=False) for part in PARTS]
JOINED = hashlib.md5(b"".join(digest.digest() for digest in DIGESTS), usedforsecurity=False).hexdigest()


def in_parts(store: S3Store, wire: Wire, etag: str, *etags: str) -> Frame:
    """A store whose server has nothing else under the key, and answers so to the parts and to the completion."""
    frame = Frame(etag)
    asking(store, frame)
    store._part_bytes = MIB
    answers = iter(etags)
    wire.answers["PUT"] = lambda: Answer(ETag=next(answers))

    def missing() -> Answer:
        raise NotFound("missing")

    wire.answers["HEAD"] = missing
    return frame


def test_parts_are_confirmed_each_and_together(store: S3Store, wire: Wire) -> None:
    frame = in_parts(store, wire, f'"{JOINED}-3"', *(f'"{digest.hexdigest()}"' for digest in DIGESTS))
    store.put("a", PARTS)
    assert (frame.completed, frame.aborted) == ([[1, 2, 3]], [])


def test_a_part_stored_other_than_sent_ends_the_upload(store: S3Store, wire: Wire) -> None:
    frame = in_parts(store, wire, f'"{JOINED}-3"', f'"{DIGESTS[0].hexdigest()}"', OTHER)
    with pytest.raises(Passing, match="a part of an object other than it was sent"):
        store.put("a", PARTS)
    assert (frame.completed, frame.aborted) == ([], ["uploadId=upload"])


def test_parts_joined_to_another_object_are_no_success(store: S3Store, wire: Wire) -> None:
    frame = in_parts(store, wire, f'"{JOINED}-2"', *(f'"{digest.hexdigest()}"' for digest in DIGESTS))
    with pytest.raises(Unavailable, match="cannot confirm"):
        store.put("a", PARTS)
    assert frame.aborted == ["uploadId=upload"]
