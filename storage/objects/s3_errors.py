"""What the refusals of an S3 server and of the network mean for an object store: one table, in a technician's words."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from urllib3 import exceptions as network
from urllib3.util.ssl_match_hostname import CertificateError

from storage.errors import Conflict, Exhausted, NotFound, StorageError, Unavailable
from storage.objects.spans import outside


class Passing(Unavailable):
    """A refusal that may pass by itself: worth another attempt as long as there is patience."""


class Away(Passing):
    """It is not an answer: nothing was heard from the store, or not in time."""


class Crowded(Exhausted):
    """All our connections are in use: the store was not asked."""


_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9_.]{1,64})\s*</Code>")
_TLS_WANTED = "TLSRequired"  # not of S3: what web servers say in words to who does not speak TLS
_TLS_WORDS = re.compile(rb"HTTP request to an HTTPS|plain HTTP", re.IGNORECASE)
_ABSENT = {"NoSuchKey", "NotFound", "NoSuchUpload"}
_CONFLICTS = {"PreconditionFailed", "ExistingObjectIsDirectory", "ExistingObjectIsFile"}
_NO_ROOM = {"QuotaExceeded", "InsufficientCapacity", "InsufficientStorage", "XMinioStorageFull", "EntityTooLarge"}
_PASSING = {
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "ConditionalRequestConflict",
    "OperationAborted",
    "BadDigest",  # the bytes arrived other than they were sent
    "XAmzContentSHA256Mismatch",
    "IncompleteBody",
}
_HINTS = {
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is not valid",
    "RequestTimeTooSkewed": "the clock of this machine differs from the server's",
    "AuthorizationHeaderMalformed": "the region is another one; write region=... into the URL",
    "PermanentRedirect": "the bucket is in another region; write region=... or endpoint=... into the URL",
    "NoSuchBucket": "there is no such bucket; make it, or correct its name",
    _TLS_WANTED: "it speaks TLS at this port; write endpoint=https://... into the URL",
    "NotImplemented": "the server does not know this request",
}
_UNKNOWN_AUTHORITY = (
    "its certificate is not signed by an authority that is known here; name the authority's file (PEM) by ca_file=... "
    "in the URL"
)
_OTHER_HOST = "its certificate is for another host; write the name that is in it into endpoint=... of the URL"
_CERTIFICATE = {  # by the codes of OpenSSL, X509_V_ERR_...
    9: "its certificate is not valid yet; see whether the clock of this machine is right",
    10: "its certificate has expired; have it renewed",
    18: _UNKNOWN_AUTHORITY,  # signed by itself
    19: _UNKNOWN_AUTHORITY,  # the authority's came along, signed by itself
    20: _UNKNOWN_AUTHORITY,
    21: _UNKNOWN_AUTHORITY,
    62: _OTHER_HOST,
    64: _OTHER_HOST,  # an address instead of a name
}
_NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}


def code_in(body: bytes) -> str:
    """The code in an error document; empty when there is none."""
    if found := _CODE.search(body):
        return found[1].decode()
    return _TLS_WANTED if _TLS_WORDS.search(body) else ""


def refusal(status: int, code: str, verb: str) -> StorageError:
    """What an answer of `status` (300 and more) and S3 error `code` means to one who wanted to `verb` an object."""
    if code in _NO_ROOM or status == 507:
        return Exhausted("the S3 store has no room: its quota or its disks are full")
    if code in _CONFLICTS or status == 412:
        return Conflict("an object with this key is there already")
    if code == "InvalidRange" or status == 416:
        return outside()
    if code in _ABSENT or (status == 404 and not code):
        return NotFound("there is no such object")
    said = f"{status} {code}".strip()
    if code in _PASSING or status in (408, 429) or (status >= 500 and status != 501):
        return Passing(f"the S3 store cannot {verb} now (it answers {said})")
    if status == 403 and code not in _HINTS:
        return Unavailable(f"the S3 store gives these credentials no right to {verb} (it answers {said})")
    hint = _HINTS.get(code, "which is not expected")
    return Unavailable(f"the S3 store does not {verb}: {hint} (it answers {said})")


@contextmanager
def translated(verb: str) -> Iterator[None]:
    """Turn what boto3 and the network raise into the few errors of storage."""
    try:
        yield
    except ClientError as error:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise refusal(status, "" if code.isdecimal() else code, verb) from error
    except NoCredentialsError as error:
        raise no_credentials() from error
    except (SSLError, network.SSLError) as error:
        raise _distrust(error) from error
    except network.EmptyPoolError as error:
        raise Crowded("all connections to the S3 store are in use") from error
    except (
        network.NewConnectionError,
        network.ConnectTimeoutError,
        EndpointConnectionError,
        ConnectTimeoutError,
    ) as error:
        raise Away("the S3 store cannot be reached: nothing answers at its endpoint") from error
    except (network.TimeoutError, ReadTimeoutError, TimeoutError) as error:
        raise Away(f"the S3 store does not answer in time (to {verb})") from error
    except (network.HTTPError, HTTPClientError, ConnectionError, OSError) as error:
        raise Away(f"the connection to the S3 store broke ({type(error).__name__})") from error
    except BotoCoreError as error:
        raise Unavailable(f"the S3 store cannot be used to {verb} ({type(error).__name__})") from error


def _distrust(error: BaseException) -> Unavailable:
    """For a connection that TLS did not come to or keep up: only a break of it may pass by itself."""
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, ssl.SSLError | CertificateError):
        reason = reason.__cause__ or reason.__context__
    if isinstance(reason, CertificateError):  # boto3 compares names by itself
        return Unavailable(f"the S3 store is not trusted: {_OTHER_HOST}")
    if isinstance(reason, ssl.SSLCertVerificationError):
        said = _CERTIFICATE.get(reason.verify_code, f"its certificate is not accepted ({reason.verify_message})")
        return Unavailable(f"the S3 store is not trusted: {said}")
    if reason is not None and reason.reason in _NOT_TLS:
        return Unavailable(
            "the S3 store does not speak TLS at its endpoint: write endpoint=http://..., or its TLS port"
        )
    return Away("the connection to the S3 store broke (TLS)")


def no_credentials() -> Unavailable:
    """For a store that found none."""
    return Unavailable(
        "there are no credentials for the S3 store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write "
        "profile=... or access_key_file=...&secret_key_file=... into its URL"
    )
