"""Character sets: the bytes of SH, LO, ST, LT, UC, UT and PN as text (PS3.5 6.1; PS3.3 C.12.1.1.2).

Reading never fails: the stored bytes are the truth, the text is made for search and JSON. Callers strip padding.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from storage.dicom import charset_repair, iso2022
from storage.dicom.iso2022 import PERSON_NAMES, TEXT, VALUES, GraphicSet, State

_MAX_VALUES = 32
_UTF8 = GraphicSet("ISO_IR 192", iso2022.codec("utf-8"), iso2022.codec("utf-8"))
_GB18030 = GraphicSet("GB18030", iso2022.codec("gb18030"), iso2022.codec("gb18030"))
# The codec of GB 18030 reads GBK too; the two differ only in what GBK leaves open.
_GBK = GraphicSet("GBK", _GB18030.decode, iso2022.codec("gbk"))
_WITHOUT_EXTENSIONS = {sets.term: sets for sets in (_UTF8, _GB18030, _GBK)}
_MULTI_BYTE = {"87": iso2022.KANJI, "159": iso2022.SUPPLEMENTARY_KANJI, "149": iso2022.KOREAN, "58": iso2022.CHINESE}
_EXTENSIONS = iso2022.SINGLE_BYTE | _MULTI_BYTE | {"6": iso2022.ASCII, "13": iso2022.KATAKANA}

_TERM = re.compile(r"ISO(2022)?(?:IR)?([0-9]+)")
# What else senders write, without separators and in capitals.
_ALIASES = {
    "UTF8": "ISO_IR 192",
    "GB18030": "GB18030",
    "ISO2022GB18030": "GB18030",
    "GBK": "GBK",
    "ISO2022GBK": "GBK",
    "CP936": "GBK",
    "GB2312": "GBK",
    "LATIN1": "ISO_IR 100",
    "ISO88591": "ISO_IR 100",
    "ASCII": "ISO_IR 6",
}


class Charset:
    """What Specific Character Set (0008,0005) declares; immutable and shared, so use `of`."""

    __slots__ = ("_initial", "_plain", "values", "warnings")

    def __init__(self, terms: tuple[str, ...]) -> None:
        normal = [_defined_term(term, extended=len(terms) > 1) for term in terms]
        self.values = tuple(term or "" for term in normal)
        self.warnings = tuple(_warnings(normal))
        self._initial = _initial_state(self.values)
        self._plain = self._initial.g0 is iso2022.ASCII

    @staticmethod
    def of(values: Sequence[str]) -> "Charset":
        """The character set that the values of Specific Character Set name; none at all is the default repertoire.

        Other spellings of the defined terms are understood; unknown terms are passed over and noted in `warnings`.
        """
        return _charset(tuple(values[:_MAX_VALUES]))

    def text(self, raw: bytes) -> str:
        """One value as text. What cannot be decoded becomes U+FFFD; escape sequences are removed."""
        if self._plain and raw.isascii() and iso2022.ESCAPE not in raw:
            return raw.decode("ascii")
        return iso2022.decode(raw, self._initial, TEXT)

    def split(self, raw: bytes) -> list[str]:
        r"""The values of a multi-valued text: cut at each `\` that is not half of a character."""
        if self._plain and raw.isascii() and iso2022.ESCAPE not in raw:
            return raw.decode("ascii").split("\\")
        return iso2022.decode(raw, self._initial, VALUES).split("\\")

    def person_name(self, raw: bytes) -> list[str]:
        """The values of a PN, each with its component groups separated by `=` (PS3.5 6.2.1)."""
        if self._plain and raw.isascii() and iso2022.ESCAPE not in raw:
            return raw.decode("ascii").split("\\")
        return iso2022.decode(raw, self._initial, PERSON_NAMES).split("\\")

    def decodes(self, raw: bytes) -> bool:
        """Whether every byte is valid in this set, with declared escape sequences only."""
        if any(term not in self.values for term in iso2022.escapes(raw) if term != "ISO 2022 IR 6"):
            return False
        try:
            iso2022.check(raw, self._initial, TEXT)
        except UnicodeDecodeError:
            return False
        return True

    def __repr__(self) -> str:
        return f"Charset.of({list(self.values)!r})"


def repaired(declared: Sequence[str], samples: Iterable[bytes]) -> tuple[Charset, str | None]:
    """The character set in which the text of a data set really is, and how it was read against its declaration.

    `samples` are values of its text attributes as stored. Recognised are GB 18030, GBK and UTF-8 under a declaration
    that cannot be true; the note, such as "ISO_IR 100 read as GB18030", is None when the declaration stands.
    """
    charset = Charset.of(declared)
    term = charset_repair.real_term(charset.values, samples)
    if term is None:
        return charset, None
    named = "\\".join(charset.values).strip("\\") or "ISO_IR 6"
    return Charset.of((term,)), f"{named} read as {term}"


@lru_cache(maxsize=256)
def _charset(terms: tuple[str, ...]) -> Charset:
    return Charset(terms)


def _defined_term(spelling: str, *, extended: bool) -> str | None:
    """The defined term that `spelling` means, "" for an empty value, None when it is unknown."""
    bare = re.sub(r"[^A-Z0-9]", "", spelling.upper())
    if not bare or bare in _ALIASES:
        return _ALIASES.get(bare, "")
    found = _TERM.fullmatch(bare)
    if found is None:
        return None
    number = found[2]
    if number == "192":
        return "ISO_IR 192"
    if number not in _EXTENSIONS:
        return None
    return f"ISO 2022 IR {number}" if found[1] or extended or number in _MULTI_BYTE else f"ISO_IR {number}"


def _warnings(terms: Sequence[str | None]) -> Iterator[str]:
    if None in terms:
        yield "Specific Character Set has a term that is not defined"
    if len(terms) > 1 and any(term in _WITHOUT_EXTENSIONS for term in terms):
        yield "Specific Character Set combines others with one that allows no code extensions; it is used for all text"


def _initial_state(terms: tuple[str, ...]) -> State:
    """What is active before any escape sequence: value 1; sets without code extensions are used for everything."""
    for term in terms:
        if term in _WITHOUT_EXTENSIONS:
            return State(iso2022.ASCII, _WITHOUT_EXTENSIONS[term])
    numbers = [term.rpartition(" ")[2] for term in terms]
    if numbers[:1] == ["13"]:
        return State(iso2022.ROMAJI, iso2022.KATAKANA)
    # The default repertoire has no G1. Senders that omit an escape sequence mean the first declared set that has one.
    for number in numbers:
        graphic_set = _EXTENSIONS.get(number, iso2022.ASCII)
        if graphic_set is not iso2022.ASCII and not graphic_set.pairs:
            return State(iso2022.ASCII, graphic_set)
    return State(iso2022.ASCII, iso2022.ASCII)
