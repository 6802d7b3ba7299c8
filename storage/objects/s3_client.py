"""What boto3 finds out before a bucket can be asked: credentials, region, address, trusted certificates."""

import os
import ssl
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path
from botocore.loaders import Loader

from storage.errors import Unavailable
from storage.objects.s3_errors import no_credentials
from storage.objects.s3_settings import S3Settings
from storage.objects.s3_signing import signer
from storage.objects.s3_tally import Tally
from storage.objects.s3_wire import Wire

_DEFAULT_REGION = "us-east-1"
_MODELS = Loader()  # what boto3 knows of S3: large, slow to read, and the same for every store


def connect(settings: S3Settings, tally: Tally) -> Wire:
    """The wire to the bucket. Sends nothing to the store yet.

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
        if credentials is None:
            raise Unavailable(f"the bucket {settings.bucket} cannot be used: {no_credentials()}")
        endpoint = settings.endpoint or _address(session, region)
        return Wire(settings, endpoint, signer(credentials, region), tally)
    except BotoCoreError as error:
        raise Unavailable(f"the S3 store cannot be used: {error}") from error
    except OSError as error:
        which = f"the file {error.filename}" if error.filename else "a file"
        raise Unavailable(f"{which}, which the S3 store needs, cannot be read: {error.strerror}") from error


def _address(session: Any, region: str) -> str:
    """Of Amazon's S3 in `region`, or of the service that the environment or the profile names instead."""
    client = session.client("s3", region_name=region, config=Config(signature_version=UNSIGNED))
    with closing(client):
        return str(client.meta.endpoint_url)


def _authority(settings: S3Settings, of_environment: str | None) -> Path:
    """The certificates that are trusted: the file that is named, else those that come with boto3.

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
