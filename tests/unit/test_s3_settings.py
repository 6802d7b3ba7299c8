"""What the URL of an S3 store can say, and what is said of one that cannot be read."""

from pathlib import Path

import pytest

from storage.objects.s3_settings import S3Settings, parse_s3_url


def test_a_bucket_alone_is_amazons() -> None:
    assert parse_s3_url("s3://imaging") == S3Settings("imaging", addressing="virtual")


def test_everything_that_can_be_said() -> None:
    url = (
        "s3://imaging/beijing/archive/?endpoint=https://s3.example.org:9000/&region=cn-north-1&addressing=virtual"
        "&access_key_file=/run/access&secret_key_file=/run/secret&ca_file=/etc/ca.pem"
        "&connect_timeout_seconds=1.5&read_timeout_seconds=7&retry_seconds=0&read_retry_seconds=2&max_connections=9"
    )
    assert parse_s3_url(url) == S3Settings(
        bucket="imaging",
        prefix="beijing/archive/",
        endpoint="https://s3.example.org:9000",
        region="cn-north-1",
        addressing="virtual",
        access_key_file=Path("/run/access"),
        secret_key_file=Path("/run/secret"),
        ca_file=Path("/etc/ca.pem"),
        connect_timeout_seconds=1.5,
        read_timeout_seconds=7,
        retry_seconds=0,
        read_retry_seconds=2,
        max_connections=9,
    )


def test_an_endpoint_is_addressed_by_path_unless_told_otherwise() -> None:
    assert parse_s3_url("s3://imaging?endpoint=http://127.0.0.1:8333").addressing == "path"
    assert parse_s3_url("s3://imaging?profile=archive").profile == "archive"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://imaging", "s3://bucket"),
        ("s3://key:secret@imaging", "credentials do not belong"),
        ("s3://", "the bucket"),
        ("s3://Imaging_1", "the bucket"),
        ("s3://imaging/a//b", "the prefix"),
        ("s3://imaging/../b", "the prefix"),
        ("s3://imaging/" + "a" * 101, "the prefix"),
        ("s3://imaging?adressing=path", "'adressing' is not known.*known are.* addressing, "),
        ("s3://imaging?bucket=other", "'bucket' is not known"),
        ("s3://imaging?region=a&region=b", "region is given twice"),
        ("s3://imaging?region=", "region is given twice or has no value"),
        ("s3://imaging?addressing=dns", "addressing is path"),
        ("s3://imaging?endpoint=127.0.0.1:8333", "endpoint is written as"),
        ("s3://imaging?endpoint=http://127.0.0.1:x", "endpoint is written as"),
        ("s3://imaging?endpoint=http://a:b@127.0.0.1", "endpoint is written as"),
        ("s3://imaging?endpoint=http://127.0.0.1/path", "endpoint is written as"),
        ("s3://imaging?access_key_file=/run/a", "both or not at all"),
        ("s3://imaging?access_key_file=/a&secret_key_file=/b&profile=c", "either profile or"),
        ("s3://imaging?retry_seconds=soon", "retry_seconds is a number"),
        ("s3://imaging?read_timeout_seconds=0", "read_timeout_seconds is a number"),
        ("s3://imaging?read_timeout_seconds=nan", "read_timeout_seconds is a number"),
        ("s3://imaging?max_connections=0", "max_connections is a number"),
    ],
)
def test_what_cannot_be_used_is_named(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_s3_url(url)
