"""The HTTP client of the command: where the DICOMweb root is, who we are, and answers of bounded size."""

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson

DICOM_JSON = "application/dicom+json"
MAX_ANSWER_BYTES = 64 << 20
# Connecting fails fast; an answer may wait until a whole batch is on stable storage.
TIMEOUTS = httpx.Timeout(10.0, read=300.0, write=60.0)


class CannotUse(Exception):
    """An option or an answer that cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, read whole."""

    status: int
    headers: httpx.Headers
    body: bytes

    def json(self) -> object:
        """The body as JSON, or None when it is none."""
        try:
            return orjson.loads(self.body) if self.body else None
        except orjson.JSONDecodeError:
            return None


def no_answer(root: str, error: httpx.RequestError) -> str:
    """What to tell a person about a request that got no answer."""
    reason = str(error) or type(error).__name__
    hint = "; is a gateway running there?" if isinstance(error, httpx.ConnectError) else ""
    return f"no answer from {root}: {reason}{hint}"


class WebClient:
    """Requests below one DICOMweb root. Raises httpx.RequestError when there is no connection, or it is lost."""

    def __init__(self, root: str, token: str | None) -> None:
        self.root = _checked(root).rstrip("/")
        headers = {"User-Agent": "gateway", "Accept": DICOM_JSON}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        # The certificates that the system trusts, a hospital's own among them; without TLS there is nothing to verify.
        trusted = ssl.create_default_context() if self.root.lower().startswith("https:") else False
        self._client = httpx.Client(headers=headers, timeout=TIMEOUTS, verify=trusted)

    def get(self, path: str, parameters: Iterable[tuple[str, str]] = ()) -> Answer:
        return self._answer("GET", path, params=httpx.QueryParams(list(parameters)))

    def post(self, path: str, content: Iterable[bytes], headers: Mapping[str, str]) -> Answer:
        return self._answer("POST", path, content=content, headers=headers)

    def _answer(self, method: str, path: str, **request: object) -> Answer:
        with self._client.stream(method, self.root + path, **request) as response:  # type: ignore[arg-type]
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise CannotUse(f"the answer of {self.root}{path} is larger than {MAX_ANSWER_BYTES} bytes")
            return Answer(response.status_code, response.headers, bytes(body))

    def close(self) -> None:
        self._client.close()


def _checked(root: str) -> str:
    try:
        url = httpx.URL(root)
    except httpx.InvalidURL:
        url = httpx.URL()
    usable = url.scheme in ("http", "https") and url.host and (url.port or 0) <= 65535
    if not usable or url.query or url.fragment:
        raise CannotUse(f"{root} is not the URL of a DICOMweb root, such as http://127.0.0.1:8080/dicomweb")
    return root


def read_token(file: Path | None) -> str | None:
    """The bearer token that a file holds; None without a file. Raises CannotUse."""
    if file is None:
        return None
    try:
        token = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotUse(f"cannot read a token from {file}: {error}") from error
    if not token or not token.isprintable() or " " in token:
        raise CannotUse(f"{file} does not hold one token")
    return token
