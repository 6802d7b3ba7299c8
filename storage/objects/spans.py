"""The one meaning of a span of an object for every store."""

from storage.errors import Fault, Invalid


def checked_span(span: tuple[int, int] | None, length: int) -> tuple[int, int]:
    """Offset and length to read of an object of `length` bytes; Invalid for a span that is not inside it."""
    if span is None:
        return 0, length
    offset, wanted = span
    if offset < 0 or wanted < 0 or offset + wanted > length:
        raise outside()
    return offset, wanted


def outside() -> Invalid:
    """What is raised for such a span."""
    return Invalid(Fault.MALFORMED, "the span lies outside the object")
