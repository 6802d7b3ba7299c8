"""Which character set wrongly declared text is really in: UTF-8, GB 18030 and ISO 8859-1 told apart by their bytes.

Each reading of the samples is charged for what would be strange in real names and descriptions; a declaration yields
only to a reading that is cheaper by far. Only arithmetic on bytes: what to do with the answer is decided elsewhere.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

UTF8, GB18030, LATIN1, DEFAULT = "ISO_IR 192", "GB18030", "ISO_IR 100", "ISO_IR 6"
_MAX_SAMPLE_BYTES = 1024
_MAX_EVIDENCE_BYTES = 16 << 10

# A declared set gives way when another reading is cheaper by this much; one odd character is not enough.
_MARGIN = 4
# What a reading of undeclared bytes may cost for each byte beyond ASCII before it is no reading at all.
_TOLERANCE = 2
_INVALID = 20
# A value cut at its maximum length (16 bytes at least, SH) may end in half a character.
_CUT_SHORT = 2
_CUT_LENGTH = 15

_ALTERNATIVES = {
    DEFAULT: (UTF8, LATIN1, GB18030),  # the first of equals is taken
    LATIN1: (UTF8, GB18030),
    UTF8: (LATIN1, GB18030),
    GB18030: (UTF8,),
}
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_LONG_IN_UTF8 = re.compile(rb"[\xe0-\xf4]")  # characters of three bytes and more are not valid by chance
_ADJACENT_HIGH = re.compile(rb"[\x80-\xff]{2}")


def real_term(declared: Sequence[str], samples: Iterable[bytes]) -> str | None:
    """The defined term of the set that `samples` are in, when it is not what `declared` (defined terms) says."""
    claimed = _claimed(declared)
    if claimed is None:
        return None
    suspects: dict[bytes, None] = {}
    room = _MAX_EVIDENCE_BYTES
    for raw in samples:
        if b"\x1b" in raw:  # code extensions are at work
            return None
        if not raw.isascii() and raw not in suspects:
            suspects[raw[:_MAX_SAMPLE_BYTES]] = None
            room -= len(raw)
            if room < 0:
                break
    return _judged(claimed, tuple(suspects)) if suspects else None


def _claimed(declared: Sequence[str]) -> str | None:
    """The reading that the declaration means for bytes beyond ASCII; None where it is not to be doubted."""
    names = {term.replace("ISO 2022 IR", "ISO_IR") for term in declared} - {"", DEFAULT}
    if not names:
        return DEFAULT
    if UTF8 in names:
        return UTF8
    if names & {GB18030, "GBK"} or names == {"ISO_IR 58"}:
        return GB18030
    # Senders that declare ISO 2022 IR 58 beside ISO 8859-1 and leave its escape sequences out write Chinese too.
    return LATIN1 if LATIN1 in names and names <= {LATIN1, "ISO_IR 58"} else None


@lru_cache(maxsize=256)  # the instances of a series carry the same texts
def _judged(claimed: str, suspects: tuple[bytes, ...]) -> str | None:
    if _evidently(claimed, suspects):
        return None
    costs = {term: sum(map(_COST[term], suspects)) for term in _COST}
    best = min(_ALTERNATIVES[claimed], key=costs.__getitem__)
    if claimed == DEFAULT:
        beyond_ascii = sum(len(run) for raw in suspects for run in _HIGH_RUN.findall(raw))
        return best if costs[best] <= _TOLERANCE * beyond_ascii else None
    if best == GB18030 and not any(map(_cannot_be_a_word, suspects)) and not _evidently_chinese(suspects):
        return None
    return best if costs[claimed] - costs[best] >= _MARGIN else None


def _evidently(claimed: str, suspects: tuple[bytes, ...]) -> bool:
    """Whether the declaration is true at a glance, which spares most data sets the arithmetic."""
    if claimed == UTF8:
        return _all_valid(suspects, "utf-8") and any(map(_LONG_IN_UTF8.search, suspects))
    if claimed == GB18030:
        return _all_valid(suspects, "gb18030") and not _all_valid([_uncut(raw) for raw in suspects], "utf-8")
    return claimed == LATIN1 and not any(map(_ADJACENT_HIGH.search, suspects))


def _all_valid(suspects: Iterable[bytes], codec: str) -> bool:
    try:
        for raw in suspects:
            raw.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


# --- ISO 8859-1: accented letters stand alone among ASCII letters

# Section, copyright, degree, plus-minus, micro, ordinals, quotes and the like.
_COMMON_SYMBOLS = frozenset(b"\xa0\xa1\xa7\xa9\xaa\xab\xae\xb0\xb1\xb2\xb3\xb4\xb5\xb7\xba\xbb\xbd\xbf")
_UNUSED_BY_WINDOWS = frozenset(b"\x81\x8d\x8f\x90\x9d")
_PAIRS_IN_WORDS = (
    "íñ,çã,çõ,éê,ïé,ñó,ñá,ñí,ñé,ñú,öß,äß,üß,öä,äö,ýð,áð,íð,óð,öð,úð,þó,þö,þú,þý,þí,þá,Íñ,Óð,Þó,Þö,Þú,Þý,Þí,Þá"
)
_COMMON_PAIRS = frozenset((_PAIRS_IN_WORDS + "," + _PAIRS_IN_WORDS.upper()).encode("latin-1").split(b","))


def _latin1_cost(raw: bytes) -> int:
    return sum(_latin1_run_cost(run.group()) for run in _HIGH_RUN.finditer(raw))


def _latin1_run_cost(run: bytes) -> int:
    alone = len(run) <= 2
    cost = sum(_latin1_byte_cost(byte, alone) for byte in run)
    for index in range(1, len(run)):
        previous, byte = run[index - 1], run[index]
        quoted = alone and (previous in b"\xa0\xa1\xab" or byte in b"\xa0\xbb")
        if previous == byte or quoted or run[index - 1 : index + 1] in _COMMON_PAIRS:
            continue
        cost += 2 + 2 * index
        cost += 2 if previous >= 0xDF and 0xC0 <= byte < 0xDF else 0  # a capital after a small letter
    return cost


def _latin1_byte_cost(byte: int, alone: bool) -> int:
    if byte >= 0xC0:
        return 4 if byte in b"\xd7\xf7" else 0
    if byte == 0xA0:
        return 0
    if byte > 0xA0:
        return 1 if alone and byte in _COMMON_SYMBOLS else 4
    return 12 if byte in _UNUSED_BY_WINDOWS else 3


_CAPITALISED = re.compile(rb"[\xc0-\xd6\xd8-\xde][\xdf-\xf6\xf8-\xff]")  # as words begin
# Accented letters of one case side by side, as in words written in capitals.
_LETTERS_OF_ONE_CASE = re.compile(rb"[\xc0-\xd6\xd8-\xdf]+|[\xdf-\xf6\xf8-\xff]+")


def _cannot_be_a_word(raw: bytes) -> bool:
    """Whether some bytes are no letters of ISO 8859-1 that stand side by side in a word, however rare it is."""
    return not all(map(_LETTERS_OF_ONE_CASE.fullmatch, _HIGH_RUN.findall(raw)))


# --- GB 18030: pairs of bytes, most of them common hanzi, seldom between ASCII letters

_GB_RUN = re.compile(rb"(?:[\x81-\xfe](?:[\x30-\x39][\x81-\xfe][\x30-\x39]|[\x40-\x7e\x80-\xfe])|[\x80-\xff])+")
_GB_TOKEN = re.compile(rb"[\x81-\xfe](?:[\x30-\x39][\x81-\xfe][\x30-\x39]|[\x40-\x7e\x80-\xfe])|[\x80-\xff]")
_ONLY_SYMBOLS = 6
_HANZI_ENOUGH = 4  # so many are no accident where the bytes could be accented capitals too
_SURNAMES = frozenset(
    surname.encode("gb18030")
    for surname in "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏"
    "魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔"
    "向汤欧阳司马上官艾阿施关邢柳康翟祁闵柯倪牛温尤阮耿岳祝葛聂焦左骆甘鲍游童洪纪舒屈项裴涂单牟苗冉符商宁辛管柴"
    "路褚娄谷包连翁佘仝"
)


def _gb18030_cost(raw: bytes) -> int:
    return sum(_gb18030_run_cost(raw, run.start(), run.end()) for run in _GB_RUN.finditer(raw))


def _gb18030_run_cost(raw: bytes, start: int, end: int) -> int:
    tokens = _GB_TOKEN.findall(raw, start, end)
    cost = sum(map(_gb18030_token_cost, tokens, [b"", *tokens], [*tokens[1:], b""]))
    if len(tokens[-1]) == 1:
        cost += _CUT_SHORT if end == len(raw) >= _CUT_LENGTH and len(tokens) > 1 else _INVALID
    if tokens[0] in _SURNAMES and _begins_a_name(raw, start):
        cost -= 2
    elif start == 0 and len(tokens) == 1:
        cost += 4 if _CAPITALISED.fullmatch(tokens[0]) else 2
    if not any(map(_is_hanzi, tokens)):
        cost += _ONLY_SYMBOLS
    return cost + _between_letters_cost(raw[start - 1 : start], raw[end : end + 1], len(tokens))


def _evidently_chinese(suspects: Iterable[bytes]) -> bool:
    """Whether there are a surname where names begin, or hanzi enough that all of them are none by chance."""
    hanzi = 0
    for raw in suspects:
        for run in _GB_RUN.finditer(raw):
            tokens = _GB_TOKEN.findall(run.group())
            hanzi += sum(_is_hanzi(token) and _in_gb2312(token) for token in tokens)
            if len(tokens) > 1 and tokens[0] in _SURNAMES and _begins_a_name(raw, run.start()):
                return True
    return hanzi >= _HANZI_ENOUGH


def _begins_a_name(raw: bytes, position: int) -> bool:
    return position == 0 or raw[position - 1] in b"=\\"


def _gb18030_token_cost(token: bytes, before: bytes, after: bytes) -> int:
    if len(token) == 1:
        return 0 if token[0] > 0x80 else _INVALID
    if len(token) == 4:
        return 6
    lead, trail = token
    if trail < 0x80:  # as an accented letter before an ASCII letter is
        return 6 if _in_gb2312(before) or _in_gb2312(after) else 10
    if trail < 0xA1 or lead < 0xA1:
        return 4
    if 0xB0 <= lead <= 0xD7:
        return 0
    if 0xD8 <= lead <= 0xF7:
        return 2
    return 1 if lead <= 0xA3 else 12 if lead >= 0xAA else 3


def _in_gb2312(token: bytes) -> bool:
    return len(token) == 2 and token[0] >= 0xA1 and token[1] >= 0xA1


def _is_hanzi(token: bytes) -> bool:
    return len(token) > 1 and not 0xA1 <= token[0] <= 0xA9


def _between_letters_cost(before: bytes, after: bytes, characters: int) -> int:
    letters = [neighbour for neighbour in (before, after) if neighbour.isalpha()]
    if not letters:
        return 0
    word = not b"".join(letters).isupper()  # codes such as CT stand against hanzi, words do not
    if characters == 1:
        return 6 if len(letters) == 2 else 4 if word else 3
    return 4 if word else 0


# --- UTF-8: hardly ever valid by chance

_UTF8_RUN = re.compile(rb"(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}|[\x80-\xff])+")
_UTF8_TOKEN = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}|[\x80-\xff]")
_UTF8_CUT_SHORT = re.compile(rb"(?:[\xc2-\xf4]|[\xe0-\xf4][\x80-\xbf]|[\xf0-\xf4][\x80-\xbf]{2})\Z")
# The script that a lead byte belongs to: text of one script has its letters side by side.
_SCRIPT_LEADS = {
    "Latin": b"\xc3\xc4\xc5\xcc\xcd",
    "Greek": b"\xce\xcf",
    "Cyrillic": b"\xd0\xd1",
    "Armenian": b"\xd4\xd5\xd6",
    "Hebrew": b"\xd7",
    "Arabic": b"\xd8\xd9\xda\xdb",
}
_VIETNAMESE = frozenset(letter.encode() for letter in "ƠơƯư")
_SCRIPT = {lead: script for script, leads in _SCRIPT_LEADS.items() for lead in leads}


def _utf8_cost(raw: bytes) -> int:
    whole = _uncut(raw)
    cost = _CUT_SHORT if whole != raw else 0
    for run in _UTF8_RUN.finditer(whole):
        tokens = _UTF8_TOKEN.findall(run.group())
        before, after = whole[run.start() - 1 : run.start()], whole[run.end() : run.end() + 1]
        cost += sum(map(_utf8_token_cost, tokens))
        cost += _script_cost(tokens, beside_letters=before.isalpha() or after.isalpha())
    return cost


def _uncut(raw: bytes) -> bytes:
    """`raw` without the part of a character at its end, if it is of a length at which values are cut."""
    return _UTF8_CUT_SHORT.sub(b"", raw) if len(raw) >= _CUT_LENGTH else raw


def _utf8_token_cost(token: bytes) -> int:
    if len(token) == 1:
        return _INVALID
    if len(token) == 2:
        common = token[0] in _SCRIPT or token in _VIETNAMESE or (token[0] == 0xC2 and token[1] in _COMMON_SYMBOLS)
        return 0 if common else 4
    return 0 if 0xE4 <= token[0] <= 0xE9 else 1


def _script_cost(tokens: list[bytes], beside_letters: bool) -> int:
    """What two-byte characters cost that do not look like letters of a word: of several scripts, or one by itself."""
    scripts = [_SCRIPT[token[0]] for token in tokens if len(token) == 2 and token[0] in _SCRIPT]
    changes = sum(one != other for one, other in itertools.pairwise(scripts))
    lonely = len(scripts) == len(tokens) == 1 and not (beside_letters and scripts[0] == "Latin")
    lonely = lonely and tokens[0][0] != 0xC3  # words of one letter, such as the Italian for "is"
    return 4 * changes + (3 if lonely else 0)


_COST: dict[str, Callable[[bytes], int]] = {UTF8: _utf8_cost, GB18030: _gb18030_cost, LATIN1: _latin1_cost}
