"""Person names: their component groups, and the form in which names are compared (PS3.5 6.2.1; PS3.4 C.2.2.2.1)."""

import re
import unicodedata

_PADDING = " \0"
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
# Accents of Latin, Greek and Cyrillic. The marks of other scripts (Thai vowels, voiced kana) are letters, not accents.
_ACCENTS = re.compile("[\u0300-\u036f]")
_STROKED = str.maketrans("øØłŁđĐħĦıŧŦ", "oOlLdDhHitT")


def groups(name: str) -> tuple[str, str, str]:
    """The alphabetic, ideographic and phonetic group of one PN value; "" where there is none.

    Padding and empty components at the end carry no meaning and are left out (PS3.5 6.2.1.1).
    """
    alphabetic, ideographic, phonetic = (group.rstrip(_PADDING + "^") for group in _split(name))
    return alphabetic, ideographic, phonetic


def json_person_name(name: str) -> dict[str, str] | None:
    """One PN value in the DICOM JSON Model (PS3.18 F.2.2): the groups it has as sent, or None when all are empty."""
    found = {key: group for key, group in zip(_GROUPS, _split(name), strict=True) if group}
    return found or None


def folded(text: str) -> str:
    """`text` without case and accents, for comparing names on both sides (PS3.4 C.2.2.2.1).

    Each character stays one character, so that the wildcard `?` counts true: ß is not made ss. Full-width forms stay
    what they are.
    """
    if text.isascii():
        return text.lower()
    bare = _ACCENTS.sub("", unicodedata.normalize("NFD", text)).translate(_STROKED)
    bare = unicodedata.normalize("NFC", bare)
    plain = bare.casefold()
    return plain if len(plain) == len(bare) else "".join(map(_folded_character, bare))


def _folded_character(char: str) -> str:
    plain = char.casefold()
    return plain if len(plain) == 1 else char


def _split(name: str) -> list[str]:
    found = [group.rstrip(_PADDING) for group in name.split("=", 3)[:3]]
    return found + [""] * (3 - len(found))
