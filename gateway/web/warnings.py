"""The Warning header: `299 <base URI>: "text"`, several warnings as several headers (PS3.18 8.3.4, RFC 7234 5.5)."""

from starlette.responses import Response

_MAX_TEXT = 500


def add_warning(response: Response, base: str, text: str) -> None:
    """Add a warning; `text` is cut and made printable ASCII, since anything else may not stand in a header."""
    safe = (
        "".join(char if " " <= char <= "~" else "?" for char in text[:_MAX_TEXT]).replace("\\", "/").replace('"', "'")
    )
    response.headers.append("Warning", f'299 {base}: "{safe}"')
