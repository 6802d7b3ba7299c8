"""Signatures of requests, by botocore. Apart from the wire: only who opens a bucket waits for it to be imported."""

from collections.abc import Mapping
from typing import Any

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest

from storage.objects.s3_wire import Signed

_NOTHING_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_UNSIGNED = "UNSIGNED-PAYLOAD"


def signer(credentials: Any, region: str) -> Signed:
    """Signs for S3 in `region` with botocore's `credentials`, which it renews; raises its own errors when it cannot."""

    def signed(method: str, url: str, headers: Mapping[str, str], sha256: str | None) -> dict[str, str]:
        request = AWSRequest(method=method, url=url, headers=dict(headers))
        request.context["payload"] = _NOTHING_SHA256 if sha256 is None else sha256 or _UNSIGNED
        _Signer(credentials.get_frozen_credentials(), "s3", region).add_auth(request)
        return dict(request.headers.items())

    return signed


class _Signer(S3SigV4Auth):  # type: ignore[misc]  # botocore is not typed
    """Signs the digest that is known already instead of reading the body for it."""

    def payload(self, request: Any) -> str:
        return str(request.context["payload"])
