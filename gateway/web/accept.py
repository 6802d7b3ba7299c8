"""Content negotiation: one reading of Accept for every resource (PS3.18 8.7.5 to 8.7.8; RFC 9110 12.5.1)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby
from typing import NamedTuple

from gateway.archive import AS_STORED, BY_DEFAULT, RATHER_THAN
from gateway.web import media
from gateway.web.errors import Refused
from storage.errors import NotAcceptable

ANY = "*/*"
_MAX_ENTRIES = 200
_BEHIND_PARAMETER = 1e-6  # what the header is worth beside the `accept` query parameter
_ESCAPED = re.compile(r"\\(.)")


class MediaRange(NamedTuple):
    """One entry of an Accept header. For multipart/related, `media_type` is its `type` parameter."""

    media_type: str  # "application/dicom", "image/*", "*/*"
    multipart: bool | None  # None: either, as `*/*` says
    transfer_syntax: str | None  # None: not named; "*": any
    q: float


class Offer(NamedTuple):
    """One form in which a resource can be sent."""

    media_type: str
    multipart: bool = False
    transfer_syntax: str | None = None  # of a frame or instance; None where it means nothing

    def __str__(self) -> str:
        text = f'multipart/related; type="{self.media_type}"' if self.multipart else self.media_type
        return text if self.transfer_syntax is None else f"{text}; transfer-syntax={self.transfer_syntax}"


@lru_cache(maxsize=512)
def parse(text: str) -> tuple[MediaRange, ...]:
    """The entries of an Accept header in their order; what is not valid is left out. Never raises."""
    ranges = []
    for entry in _split(text, ","):
        media_range = _media_range(entry)
        if media_range is not None:
            ranges.append(media_range)
        if len(ranges) == _MAX_ENTRIES:
            break
    return tuple(ranges)


def ranges(header: str | None, parameter: str | None = None) -> tuple[MediaRange, ...]:
    """What a request accepts, by its header and its `accept` query parameter (PS3.18 8.3.3.1).

    No header at all counts as `*/*`. The parameter has no wildcards and goes before whatever the header says.
    """
    accepted = parse(header) if header and header.strip() else parse(ANY)
    if parameter is None:
        return accepted
    named = tuple(entry for entry in parse(parameter) if "*" not in entry.media_type)
    return named + tuple(entry._replace(q=entry.q * _BEHIND_PARAMETER) for entry in accepted)


def choose(accepted: Sequence[MediaRange], offers: Sequence[Offer]) -> Offer:
    """The offer with the highest q, the first of equals. Raises NotAcceptable saying what is offered (406)."""
    best: Offer | None = None
    best_q = 0.0
    for offer in offers:
        q = _quality(accepted, offer)
        if q > best_q:
            best, best_q = offer, q
    if best is None:
        raise NotAcceptable("offered here: " + ", ".join(str(offer) for offer in offers))
    return best


def refuse_mixed(accepted: Iterable[MediaRange]) -> None:
    """Raise Refused (400) when DICOM and rendered media types are named together (PS3.18 8.7.5)."""
    named = [entry for entry in accepted if entry.q > 0]
    rendered = any(not entry.multipart and media.is_rendered(entry.media_type) for entry in named)
    if rendered and any(entry.media_type.startswith(media.DICOM) for entry in named):
        raise Refused(400, "accept", "DICOM and rendered media types cannot be asked for together")


def instance_syntaxes(accepted: Iterable[MediaRange]) -> list[str]:
    """Transfer syntaxes for whole instances, as `ArchiveReader` takes them; the default where none is named."""
    fitting = (entry for entry in accepted if _fits(entry.media_type, media.DICOM))
    return _in_order((entry.q, (entry.transfer_syntax or BY_DEFAULT,)) for entry in fitting)


def frame_syntaxes(accepted: Iterable[MediaRange]) -> list[str]:
    """Transfer syntaxes for frames and other pixel data, as `ArchiveReader` takes them."""
    return _in_order((entry.q, _frame_syntaxes(entry)) for entry in accepted)


def _frame_syntaxes(entry: MediaRange) -> tuple[str, ...]:
    """What an entry means for frames: its own syntaxes, of which it may name one; none for a pair that does not fit."""
    named = entry.transfer_syntax
    if entry.media_type in (ANY, media.OCTETS) and named == AS_STORED:
        return (AS_STORED,)
    if entry.media_type == ANY and named is None:
        return (BY_DEFAULT,)
    possible = tuple(map(media.frame_syntax, media.syntaxes_of(entry.media_type)))
    return possible if named in (None, AS_STORED) else tuple({media.frame_syntax(named)} & {*possible})


def _in_order(weighed: Iterable[tuple[float, Sequence[str]]]) -> list[str]:
    """Those of the same weight beside each other, those of less behind them; each once."""
    found: list[str] = []
    known: set[str] = {RATHER_THAN}
    by_weight = sorted((entry for entry in weighed if entry[0] > 0), key=lambda entry: -entry[0])
    for _, equals in groupby(by_weight, key=lambda entry: entry[0]):
        new = [each for each in dict.fromkeys(chain.from_iterable(names for _, names in equals)) if each not in known]
        known.update(new)
        found += [RATHER_THAN, *new] if found and new else new
    return found


def _quality(accepted: Sequence[MediaRange], offer: Offer) -> float:
    """The q of the most specific entries that the offer fits; 0 when it fits none."""
    best = (-1, 0.0)
    for entry in accepted:
        if _takes(entry, offer):
            best = max(best, (_specificity(entry), entry.q))
    return best[1]


def _takes(entry: MediaRange, offer: Offer) -> bool:
    if entry.multipart is not None and entry.multipart != offer.multipart:
        return False
    if offer.transfer_syntax is None:
        return _fits(entry.media_type, offer.media_type)
    if entry.media_type == media.OCTETS and entry.transfer_syntax == AS_STORED:
        return True  # how viewers ask for the stored frames, whatever they are
    if not _fits(entry.media_type, offer.media_type):
        return False
    if entry.transfer_syntax is None:
        return entry.media_type != media.OCTETS or offer.transfer_syntax in media.UNCOMPRESSED
    if offer.media_type == media.DICOM:
        return entry.transfer_syntax in (AS_STORED, offer.transfer_syntax)
    return media.frame_syntax(entry.transfer_syntax) in (AS_STORED, media.frame_syntax(offer.transfer_syntax))


def _fits(pattern: str, media_type: str) -> bool:
    if pattern in (ANY, media_type):
        return True
    return pattern.endswith("/*") and media_type.startswith(pattern[:-1])


def _specificity(entry: MediaRange) -> int:
    exactness = 0 if entry.media_type == ANY else 2 if entry.media_type.endswith("/*") else 4
    return 2 * exactness + 2 * (entry.transfer_syntax not in (None, AS_STORED)) + (entry.multipart is not None)


def media_type(text: str) -> tuple[str, dict[str, str]]:
    """A media type in lower case and its parameters, by lower-case name and unquoted; "" for an empty text."""
    name, *rest = [piece.strip() for piece in _split(text, ";")] or [""]
    return name.lower(), _parameters(rest)


def _media_range(entry: str) -> MediaRange | None:
    name, parameters = media_type(entry)
    q = _q(parameters.get("q", "1"))
    if q is None or not _is_type(name):
        return None
    multipart = None if name == ANY else name.startswith("multipart/")
    if multipart:
        if name not in ("multipart/related", "multipart/*"):
            return None
        name = parameters.get("type", ANY).lower()
        if not _is_type(name):
            return None
    return MediaRange(media.canonical(name), multipart, parameters.get("transfer-syntax") or None, q)


def _parameters(pieces: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for piece in pieces:
        name, separator, value = piece.partition("=")
        if separator:
            found.setdefault(name.strip().lower(), _unquoted(value.strip()))
    return found


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = _ESCAPED.sub(r"\1", value[1:-1])
    return value.strip()


def _q(text: str) -> float | None:
    try:
        q = float(text)
    except ValueError:
        return None
    return q if 0 <= q <= 1 else None


def _is_type(text: str) -> bool:
    main, separator, sub = text.partition("/")
    return bool(main and separator and sub) and "/" not in sub and " " not in text and (main != "*" or sub == "*")


def _split(text: str, separator: str) -> Iterator[str]:
    """`text` cut at each `separator` that is outside quotation marks; empty pieces are left out."""
    start, quoted, escaped = 0, False, False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            if text[start:position].strip():
                yield text[start:position]
            start = position + 1
    if text[start:].strip():
        yield text[start:]
