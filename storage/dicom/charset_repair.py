"""Which character set wrongly declared text is really in."""

from collections.abc import Iterable, Sequence
from itertools import islice

_MAX_SAMPLES = 256


def real_term(declared: Sequence[str], samples: Iterable[bytes]) -> str | None:
    """The term of the set in which undeclared bytes are valid, UTF-8 before GB 18030; None when none is needed."""
    suspects = [raw for raw in islice(samples, _MAX_SAMPLES) if not raw.isascii()]
    if suspects and all(value in ("", "ISO_IR 6") for value in declared):
        for term, codec in (("ISO_IR 192", "utf-8"), ("GB18030", "gb18030")):
            if all(_valid(raw, codec) for raw in suspects):
                return term
    return None


def _valid(raw: bytes, codec: str) -> bool:
    try:
        raw.decode(codec)
    except UnicodeDecodeError:
        return False
    return True
