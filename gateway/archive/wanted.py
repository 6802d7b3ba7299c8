"""Which transfer syntax an instance or frame goes out in, of those that are accepted (PS3.18 8.7.3, 8.7.8)."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from gateway.archive import AS_STORED, BY_DEFAULT, RATHER_THAN
from storage.dicom import syntax
from storage.dicom.pixels.conversion import can
from storage.dicom.pixels.description import PixelDescription
from storage.dicom.pixels.syntaxes import (
    ENCAPSULATED_UNCOMPRESSED,
    JPEG_XL_RECOMPRESSION,
    Coding,
    coding_of,
    is_encoded_here,
    is_the_same,
)
from storage.errors import NotAcceptable

Described = Callable[[], PixelDescription | None]  # None: no description that pixels could be read by

_UNCOMPRESSED = frozenset({syntax.EXPLICIT_LITTLE, ENCAPSULATED_UNCOMPRESSED})


def chosen(accept: Sequence[str], stored: str, described: Described) -> str:
    """The transfer syntax for pixels that are stored in `stored`; that itself when it may go out as it is.

    Nothing that was compressed with a loss is compressed anew: it goes out as it is, or uncompressed when that is asked
    for. `described` is asked only when something would have to be done. Raises NotAcceptable.
    """
    for equals in _groups(accept):
        found = _first(equals, stored, described)
        if found is not None:
            return found
    raise NotAcceptable(f"it is stored in transfer syntax {stored}, and cannot be had in any of those accepted")


def _groups(accept: Sequence[str]) -> Iterator[list[str]]:
    """Those that are liked equally, the best first."""
    for is_divider, group in groupby(accept, key=RATHER_THAN.__eq__):
        if not is_divider:
            yield list(group)


def _first(accept: Sequence[str], stored: str, described: Described) -> str | None:
    never_sent = is_never_sent(stored)
    if not never_sent and (stored in accept or AS_STORED in accept):
        return stored
    for wanted in accept:
        if wanted == AS_STORED:
            return syntax.EXPLICIT_LITTLE
        if wanted == BY_DEFAULT:
            return _by_default(stored, described)
        if is_possible(stored, wanted, described):
            return wanted
    return None


def is_never_sent(stored: str) -> bool:
    """Whether it is one of those in which nothing goes out on the web: implicit VR, big endian (PS3.18 8.7.3)."""
    return syntax.is_native(stored) and stored not in (syntax.EXPLICIT_LITTLE, syntax.DEFLATED)


def _by_default(stored: str, described: Described) -> str:
    """Explicit VR Little Endian; but what has lost something already, or cannot be decoded, as it is stored."""
    if stored == syntax.EXPLICIT_LITTLE:
        return stored
    if _always_loses(stored) or not is_possible(stored, syntax.EXPLICIT_LITTLE, described):
        return stored
    description = None if syntax.is_native(stored) else described()
    return stored if description is not None and description.lossy else syntax.EXPLICIT_LITTLE


def is_possible(stored: str, wanted: str, described: Described) -> bool:
    """Whether pixels can go from one to the other here without another loss."""
    if is_never_sent(wanted) or wanted == syntax.DEFLATED or not is_encoded_here(wanted):
        return False
    if is_the_same(stored, wanted):
        return True
    if wanted not in _UNCOMPRESSED and _always_loses(stored):
        return False
    description = described()
    if description is None or not can(stored, wanted, description):
        return False
    return wanted in _UNCOMPRESSED or not description.lossy


def _always_loses(stored: str) -> bool:
    return coding_of(stored) is Coding.JPEG or stored == JPEG_XL_RECOMPRESSION or syntax.is_stream(stored)


def passes(accept: Sequence[str], stored: str) -> bool:
    """Whether what is stored in `stored` certainly goes out as it is; otherwise `chosen` has to look at it."""
    liked_best = next(_groups(accept), [])
    if is_never_sent(stored):
        return False
    by_default = BY_DEFAULT in liked_best and (stored == syntax.EXPLICIT_LITTLE or _always_loses(stored))
    return by_default or stored in liked_best or AS_STORED in liked_best
