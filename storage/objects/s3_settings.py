"""How to reach a bucket: what `s3://bucket/prefix?endpoint=...` can say. Credentials never stand in the URL."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from storage.objects import keys

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", re.ASCII)
_MAX_PREFIX = 100  # characters; with the longest key of ours still far below the 1,024 bytes of S3


@dataclass(frozen=True, slots=True)
class S3Settings:
    """A bucket and how to reach it.

    Credentials are those in `access_key_file` and `secret_key_file`, else of `profile`, else what boto3 finds in the
    environment. Any call ends within `retry_seconds` and one attempt more; one that reads, within
    `read_retry_seconds` and an attempt of at most 10 seconds: somebody waits for what is read.
    """

    bucket: str
    prefix: str = ""  # of all keys; ends with a slash unless it is empty
    endpoint: str = ""  # http(s)://host:port; empty: Amazon's for the region
    region: str = ""  # empty: the profile's, the environment's, us-east-1
    addressing: Literal["path", "virtual"] = "path"
    profile: str = ""
    access_key_file: Path | None = None
    secret_key_file: Path | None = None
    ca_file: Path | None = None  # PEM: trusted alone; None: AWS_CA_BUNDLE, else the authorities that boto3 knows
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0  # without a byte of an answer
    retry_seconds: float = 20.0
    read_retry_seconds: float = 3.0  # never longer than retry_seconds
    max_connections: int = 64


_DEFAULTS = S3Settings(bucket="")
_KNOWN = sorted(field.name for field in fields(S3Settings) if field.name not in ("bucket", "prefix"))


def parse_s3_url(url: str) -> S3Settings:
    """The settings that `url` spells. Raises ValueError that names what is wrong and what is known."""
    parts = urlsplit(url)
    if parts.scheme != "s3":
        raise ValueError("an S3 store is written as s3://bucket/prefix?endpoint=http://host:port")
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong into the URL: use access_key_file and secret_key_file, or profile")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError("the bucket has 3 to 63 lower-case letters, digits, dots and dashes")
    prefix = parts.path.strip("/")
    if parts.fragment or (prefix and not keys.is_safe(prefix)) or len(prefix) > _MAX_PREFIX:
        raise ValueError(f"the prefix has at most {_MAX_PREFIX} letters, digits, dots, dashes, underscores and slashes")
    given = _query(parts.query)
    endpoint = given.get("endpoint", "").rstrip("/")
    if endpoint:
        _check_endpoint(endpoint)
    if ("access_key_file" in given) != ("secret_key_file" in given):
        raise ValueError("access_key_file and secret_key_file are given both or not at all")
    if "access_key_file" in given and "profile" in given:
        raise ValueError("give either profile or access_key_file and secret_key_file")
    return S3Settings(
        bucket=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
        endpoint=endpoint,
        region=given.get("region", ""),
        addressing=_addressing(given.get("addressing", "path" if endpoint else "virtual")),
        profile=given.get("profile", ""),
        access_key_file=_file(given, "access_key_file"),
        secret_key_file=_file(given, "secret_key_file"),
        ca_file=_file(given, "ca_file"),
        connect_timeout_seconds=_number(given, "connect_timeout_seconds", _DEFAULTS.connect_timeout_seconds),
        read_timeout_seconds=_number(given, "read_timeout_seconds", _DEFAULTS.read_timeout_seconds),
        retry_seconds=_number(given, "retry_seconds", _DEFAULTS.retry_seconds, least=0.0),
        read_retry_seconds=_number(given, "read_retry_seconds", _DEFAULTS.read_retry_seconds, least=0.0),
        max_connections=int(_number(given, "max_connections", _DEFAULTS.max_connections, least=1)),
    )


def _query(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in _KNOWN:
            raise ValueError(f"{name!r} is not known in the URL of an S3 store; known are {', '.join(_KNOWN)}")
        if name in found or not value:
            raise ValueError(f"{name} is given twice or has no value in the URL of an S3 store")
        found[name] = value
    return found


def _check_endpoint(endpoint: str) -> None:
    parts = urlsplit(endpoint)
    try:
        proper = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        proper = False
    if not proper or parts.path or parts.query or "@" in parts.netloc:
        raise ValueError("endpoint is written as http://host:port or https://host:port, without a path")


def _addressing(value: str) -> Literal["path", "virtual"]:
    if value == "path":
        return "path"
    if value == "virtual":
        return "virtual"
    raise ValueError("addressing is path (host/bucket/key) or virtual (bucket.host/key)")


def _file(given: dict[str, str], name: str) -> Path | None:
    return Path(given[name]) if name in given else None


def _number(given: dict[str, str], name: str, default: float, least: float = 0.1) -> float:
    try:
        value = float(given.get(name, default))
    except ValueError:
        value = -1.0
    if not least <= value <= 3600:
        raise ValueError(f"{name} is a number from {least:g} to 3600")
    return value
