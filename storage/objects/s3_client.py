"""The boto3 client of one bucket: for all requests that carry no objects (lists, deletions, the frame of uploads)."""

import base64
import hashlib
import os
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path
from botocore.loaders import Loader

from storage.errors import Unavailable
from storage.objects.s3_errors import no_credentials
from storage.objects.s3_settings import S3Settings
from storage.objects.s3_wire import Wire

_DEFAULT_REGION = "us-east-1"
_MODELS = Loader()  # what boto3 knows of S3: large, slow to read, and the same for every store


def connect(settings: S3Settings) -> tuple[Any, Wire]:
    """boto3's client and our own wire, with the same address and credentials. Sends nothing to the store yet.

    Raises Unavailable when there are no credentials, or the files or the profile that the settings name cannot be read.
    """
    try:
        core = botocore.session.Session(profile=settings.profile or None)
        core.register_component("data_loader", _MODELS)
        session = boto3.session.Session(
            botocore_session=core,
            aws_access_key_id=_secret(settings.access_key_file),
            aws_secret_access_key=_secret(settings.secret_key_file),
            region_name=settings.region or None,
        )
        region = session.region_name or _DEFAULT_REGION
        settings = replace(settings, ca_file=_authority(settings, core.get_config_variable("ca_bundle")))
        credentials = session.get_credentials()
        if credentials is None:  # the client would look for them once more: seconds, when a metadata service is silent
            raise Unavailable(f"the bucket {settings.bucket} cannot be used: {no_credentials()}")
        client = session.client(
            "s3",
            endpoint_url=settings.endpoint or None,
            region_name=region,
            verify=str(settings.ca_file),
            config=_config(settings),
        )
        client.meta.events.register("before-call.s3.DeleteObjects", _with_md5)
        return client, Wire(settings, str(client.meta.endpoint_url), region, credentials)
    except BotoCoreError as error:
        raise Unavailable(f"the S3 store cannot be used: {error}") from error
    except OSError as error:
        which = f"the file {error.filename}" if error.filename else "a file"
        raise Unavailable(f"{which}, which the S3 store needs, cannot be read: {error.strerror}") from error


def _config(settings: S3Settings) -> Config:
    """What every S3 server understands: no checksums in trailers; the retries are ours, and no proxy is asked."""
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": settings.addressing},
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        proxies={},  # else those of the environment, which our wire knows nothing of
        max_pool_connections=settings.max_connections,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _with_md5(params: dict[str, Any], **_: Any) -> None:
    """Send Content-MD5 for the checksum of newer Amazon: other servers insist on the one and know not the other."""
    params["context"].pop("checksum", None)
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def _authority(settings: S3Settings, of_environment: str | None) -> Path:
    """The certificates that both clients trust: the file that is named, else those that come with boto3.

    Raises Unavailable when the one named cannot be used: TLS itself would not say which.
    """
    named = settings.ca_file or of_environment
    if not named:
        return Path(get_cert_path(True))
    file = Path(named)
    if settings.ca_file or not settings.endpoint.startswith("http://"):
        _check_authority(file)
    return file


def _check_authority(file: Path) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # SSLError is one
        why = "it holds no certificate (PEM)" if isinstance(error, ssl.SSLError) else error.strerror
        raise Unavailable(f"the ca_file {os.fspath(file)} of the S3 store cannot be used: {why}") from error


def _secret(file: Path | None) -> str | None:
    if file is None:
        return None
    text = file.read_text(encoding="ascii", errors="replace").strip()
    if not text or not text.isprintable() or len(text.split()) != 1:
        raise Unavailable(f"{os.fspath(file)} does not hold a key for the S3 store: one line with nothing else")
    return text
