"""The refusals of S3 servers, and what they mean for an object store."""

import pytest

from storage.errors import Conflict, Exhausted, Invalid, NotFound, StorageError, Unavailable
from storage.objects.s3_errors import Passing, code_in, refusal


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (404, "NoSuchKey", NotFound, "no such object"),
        (404, "", NotFound, "no such object"),
        (404, "NoSuchUpload", NotFound, "no such object"),
        (404, "NoSuchBucket", Unavailable, "no such bucket"),
        (412, "PreconditionFailed", Conflict, "there already"),
        (412, "", Conflict, "there already"),
        (409, "ConditionalRequestConflict", Passing, "now"),
        (416, "InvalidRange", Invalid, "outside"),
        (507, "", Exhausted, "no room"),
        (403, "QuotaExceeded", Exhausted, "no room"),
        (500, "InternalError", Passing, "500 InternalError"),
        (503, "SlowDown", Passing, "SlowDown"),
        (429, "", Passing, "429"),
        (400, "RequestTimeout", Passing, "RequestTimeout"),
        (400, "BadDigest", Passing, "BadDigest"),
        (403, "AccessDenied", Unavailable, "no right to write"),
        (403, "", Unavailable, "no right to write"),
        (403, "InvalidAccessKeyId", Unavailable, "access key is not known"),
        (403, "SignatureDoesNotMatch", Unavailable, "secret key does not belong"),
        (403, "RequestTimeTooSkewed", Unavailable, "clock"),
        (301, "PermanentRedirect", Unavailable, "another region"),
        (501, "NotImplemented", Unavailable, "does not know"),
        (400, "Strange", Unavailable, "400 Strange"),
    ],
)
def test_a_refusal_is_one_of_the_few_errors(status: int, code: str, kind: type[StorageError], said: str) -> None:
    error = refusal(status, code, "write")
    assert type(error) is kind
    assert said in str(error)


def test_the_code_is_read_from_an_error_document() -> None:
    assert code_in(b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>x</Message></Error>') == "SlowDown"
    assert code_in(b"<html>Bad Gateway</html>") == ""


@pytest.mark.parametrize(
    "page",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<center>The plain HTTP request was sent to HTTPS port</center>",
        b"You're speaking plain HTTP to an SSL-enabled server port.",
    ],
)
def test_who_should_speak_tls_is_told_so(page: bytes) -> None:
    assert "write endpoint=https://" in str(refusal(400, code_in(page), "write"))
