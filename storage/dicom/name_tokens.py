"""The tokens by which a person's name is found fuzzily: in characters, in pinyin, by initials (PS3.18 8.3.4.2).

A name is a row of units: a character of Chinese, Japanese or Korean, or a word of letters. From each unit on, the rest
of the name is a token: as it is written, as it is read, and its initials. What is asked for fits a token's beginning.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from itertools import islice, pairwise, product
from typing import NamedTuple

from storage.dicom.names import folded, groups
from storage.dicom.surnames import DOUBLE_SURNAMES, SURNAMES

MAX_TOKENS = 64
MAX_LENGTH = 64  # characters of a token
_MAX_NAMES = 16
_MAX_MADE = 192  # tokens, many of them more than once
_MAX_GROUP = 256  # characters of a component group that are looked at
_MAX_READINGS = 2  # of a character: the most common ones
_MAX_COMBINED = 8  # readings of one rest of a name
_KEPT_READINGS = 8192  # characters
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SYLLABIC = "\u3041-\u30ff\uac00-\ud7a3"  # kana and Hangul
_IS_CHARACTER = re.compile(f"[{_HAN}{_SYLLABIC}]")
_IS_HAN = re.compile(f"[{_HAN}]")
_UNIT = re.compile(rf"[{_HAN}{_SYLLABIC}]|[^\W_{_HAN}{_SYLLABIC}]+")
_SEPARATORS = re.compile(r"[\W_]+")
_INNER_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")  # XiaoDong
_UMLAUT = re.compile("^([ln])v")


class _Unit(NamedTuple):
    text: str
    readings: tuple[str, ...]


def tokens(names: Iterable[str]) -> frozenset[str]:
    """The tokens of PN values, at most MAX_TOKENS of at most MAX_LENGTH characters, folded as by `wanted`.

    One that is the beginning of another is left out: whatever finds it, finds the other.
    """
    found = sorted(islice(dict.fromkeys(islice(_tokens(names), _MAX_MADE)), MAX_TOKENS))
    return frozenset(found) - {one for one, following in pairwise(found) if following.startswith(one)}


def wanted(text: str) -> str:
    """What a token must begin with to be found by `text`: without case, accents, widths, separators. "" for nothing."""
    return _SEPARATORS.sub("", _plain(text))[:MAX_LENGTH]


def is_of_characters(text: str) -> bool:
    """Whether each character of `text` is a unit, so that any part of a name that is written so begins a token."""
    return all(len(unit) == 1 and _IS_CHARACTER.match(unit) for unit in _texts(text))


def _plain(text: str) -> str:
    """As literal matching folds, lest fuzzy matching lose what that finds; and full and half width as one."""
    return folded(unicodedata.normalize("NFKC", folded(text)))


def _tokens(names: Iterable[str]) -> Iterator[str]:
    """Whole groups first, so that the bound cuts off none of them."""
    found = [group[:_MAX_GROUP] for name in islice(names, _MAX_NAMES) for group in groups(name)]
    yield from filter(None, map(wanted, found))
    for group in found:
        yield from _group_tokens(group)


def _group_tokens(group: str) -> Iterator[str]:
    units = _units(group)
    rests = [units[start:] for start in range(len(units))]
    family, _, given = group.partition("^")
    if given and not _IS_HAN.search(group):  # Smith^John, asked for as John Smith
        rests.append(_units(f"^{given.partition('^')[0]} {family}"))
    for rest in rests:
        yield from filter(None, _rest_tokens(rest))


def _rest_tokens(units: list[_Unit]) -> Iterator[str]:
    """The tokens of what begins with `units[0]`, some more than once."""
    yield "".join([unit.text for unit in units])[:MAX_LENGTH]
    for read in islice(product(*[unit.readings for unit in units]), _MAX_COMBINED):
        yield "".join(read)[:MAX_LENGTH]
        yield "".join([syllable[:1] for syllable in read])


def _units(group: str) -> list[_Unit]:
    texts = _texts(_INNER_WORD.sub(" ", group))[:MAX_LENGTH]
    units = [_Unit(text, _readings(text) if _IS_HAN.match(text) else (text,)) for text in texts]
    if not group.startswith("^"):  # that has no family name
        _read_as_surname(units)
    return units


def _texts(text: str) -> list[str]:
    return _UNIT.findall(_SEPARATORS.sub(" ", _plain(text)))


def _read_as_surname(units: list[_Unit]) -> None:
    """Give the characters that begin a name the readings that they have in surnames."""
    if not units or not _IS_HAN.match(units[0].text):
        return
    first = units[0].text
    readings = SURNAMES.get(first) or _common_readings(first)[:1]
    double = DOUBLE_SURNAMES.get(first + units[1].text) if len(units) > 1 else None
    if double is not None:
        readings = (double[0], *readings)
        units[1] = _Unit(units[1].text, (double[1],))
    units[0] = _Unit(first, _spelled(readings))


@lru_cache(maxsize=_KEPT_READINGS)
def _readings(character: str) -> tuple[str, ...]:
    return _spelled(_common_readings(character)[:_MAX_READINGS])


def _spelled(readings: Iterable[str]) -> tuple[str, ...]:
    """With all that is written for Ü after L and N: lv, lu, and lyu as in passports."""
    ways = ((reading, _UMLAUT.sub(r"\1u", reading), _UMLAUT.sub(r"\1yu", reading)) for reading in readings)
    return tuple(dict.fromkeys(way for three in ways for way in three)) or ("",)


@lru_cache(maxsize=_KEPT_READINGS)
def _common_readings(character: str) -> tuple[str, ...]:
    """The readings of a character without tones, the most common one first; none when nobody knows it."""
    found = _pinyin()(character)
    return () if found == [character] else tuple(dict.fromkeys(reading for reading in found if reading.isascii()))


@cache
def _pinyin() -> Callable[[str], list[str]]:
    """The readings that pypinyin knows. It is loaded at the first Chinese name, because that takes tenths of a second,
    and without its phrases, which no name needs and which take 45 MB.
    """
    os.environ.setdefault("PYPINYIN_NO_PHRASES", "1")
    import pypinyin

    return lambda character: pypinyin.pinyin(character, style=pypinyin.Style.NORMAL, heteronym=True)[0]
