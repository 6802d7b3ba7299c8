"""Query parameters as they were sent: split first, then percent-decoded once, `+` left alone (PS3.18 8.3).

The parsers of web forms turn `+` into a space; in a URI it is an ordinary character, and a DICOM value may hold it.
"""

from urllib.parse import unquote_to_bytes

from gateway.web.errors import Refused

MAX_PARAMETERS = 1000


def parameters(query: bytes) -> list[tuple[str, str]]:
    """All parameters in order. Raises Refused (400) when a name or value is not UTF-8 (PS3.18 8.3.4.1)."""
    found = []
    for piece in query.split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            found.append((_decoded(name), _decoded(value)))
        if len(found) > MAX_PARAMETERS:
            raise Refused(400, "query", f"more than {MAX_PARAMETERS} query parameters")
    return found


def parameter(query: bytes, name: str) -> str | None:
    """One parameter, or None; raises Refused (400) when it is given more than once."""
    if not query:
        return None
    values = [value for given, value in parameters(query) if given == name]
    if len(values) > 1:
        raise Refused(400, "query", f"the parameter {name} is given more than once")
    return values[0] if values else None


def _decoded(text: bytes) -> str:
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(400, "query", "a query parameter is not percent-encoded UTF-8") from None
