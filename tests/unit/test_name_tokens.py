"""Tokens of names: what finds whom, and what it costs at most."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.dicom.name_tokens import MAX_LENGTH, MAX_TOKENS, is_of_characters, tokens, wanted
from storage.dicom.names import folded, groups


def finds(asked: str, *names: str) -> bool:
    return any(token.startswith(wanted(asked)) for token in tokens(names))


CHINESE = "Wang^XiaoDong=王^小东"
CHARACTERS = ["王小东", "王^小东", "王", "小东", "东", "王小"]
READ = ["wangxiaodong", "Wang^XiaoDong", "WANG XIAO", "xiaodong", "dong", "ｗａｎｇ", "wáng"]


@pytest.mark.parametrize("name", [CHINESE, "王^小东", "王小东", "=王^小东", "WangXiaoDong=王 小东", "王^小東=王^小东"])
@pytest.mark.parametrize("asked", [*CHARACTERS, *READ, "wxd", "xd", "WX", "w"])
def test_a_chinese_name_is_found_by_characters_pinyin_and_initials(name: str, asked: str) -> None:
    assert finds(asked, name)


@pytest.mark.parametrize("asked", ["李", "王东", "li", "wangdong", "wd", "ong", "iaodong", "xiaodongli"])
def test_and_not_by_another(asked: str) -> None:
    assert not finds(asked, CHINESE)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("单^雄信", "shan", "dan"),
        ("单雄信", "sxx", "dxx"),
        ("曾^国藩", "zengguofan", "ceng"),
        ("仇^英", "qiuying", "chou"),
        ("解^缙", "xie", "jie"),
        ("王^曾", "wangceng", "yu"),
        ("尉迟^恭", "yuchigong", "yuchi-chi"),
        ("尉迟恭", "ycg", "xcg"),
        ("万俟^卨", "moqi", "wansi"),
        ("^单", "dan", "shan"),
    ],
)
def test_surnames_are_read_as_surnames(name: str, right: str, wrong: str) -> None:
    assert finds(right, name)
    assert not finds(wrong, name)


@pytest.mark.parametrize("asked", ["张行", "zhangxing", "zhanghang", "hang", "xing", "zx", "zh"])
def test_characters_with_several_readings_are_found_by_each_common_one(asked: str) -> None:
    assert finds(asked, "张^行")


@pytest.mark.parametrize("asked", ["lv", "lu", "lyu", "Lü", "lǚ", "lvfang", "lufang", "LYU FANG"])
def test_u_umlaut_is_written_in_all_ways(asked: str) -> None:
    assert finds(asked, "吕^芳")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("Smith^John^^Dr", "john smith"),
        ("Smith^John", "Smith, John"),
        ("Smith^John", "js"),
        ("O'Brien^Mary Ann", "obrien"),
        ("O'Brien^Mary Ann", "ann"),
        ("Müller^Jörg", "muller"),
        ("Müller^Jörg", "JÖRG"),
        ("阿依古丽·买买提", "买买提"),
        ("阿依古丽·买买提", "aygl"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "길동"),
        ("홍길동", "길동"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "たろう"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ヤマダ"),
        ("ヤマダ^タロウ", "ﾔﾏﾀﾞ"),
        ("Иванов^Иван", "иван"),
        ("Ｗａｎｇ^小东", "wxd"),
        ("Ｗａｎｇ^小东", "wangxiaodong"),
    ],
)
def test_other_names(name: str, asked: str) -> None:
    assert finds(asked, name)


@pytest.mark.parametrize("names", [[], [""], ["^^"], ["==", "^"], ["-"]])
def test_nothing_has_no_tokens(names: list[str]) -> None:
    assert tokens(names) == frozenset()


def test_characters_are_told_from_words() -> None:
    assert all(map(is_of_characters, ["小东", "小^东", "やま", "길동"]))
    assert not any(map(is_of_characters, ["dong", "小dong", "Иван"]))


GROUPS = st.text("王小东行单吕阿꓿𠮷 ^-'abXYZéßｱﾞやﬁⅷİ\u0301\u0e49", max_size=12)
NAMES = st.lists(GROUPS, max_size=3).map("=".join)


@settings(deadline=None)
@given(st.lists(NAMES | st.text(), max_size=3))
def test_tokens_are_bounded_folded_and_none_begins_another(names: list[str]) -> None:
    found = tokens(names)
    assert len(found) <= MAX_TOKENS
    assert all(0 < len(token) <= MAX_LENGTH and token == wanted(token) for token in found)
    assert not any(one != other and other.startswith(one) for one in found for other in found)


@settings(deadline=None)
@given(NAMES)
def test_a_name_is_found_by_its_groups_however_they_are_written(name: str) -> None:
    for group in groups(name):
        for text in (group, folded(group), group.upper() if folded(group.upper()) == folded(group) else group):
            assert not wanted(text) or finds(text, name)


def test_long_names_are_cut() -> None:
    long = "王行" * 600 + "=" + "行" * 600 + "=" + "y z " * 300
    assert len(tokens([long] * 500)) <= MAX_TOKENS
    assert finds("王行王行", long)


def test_pinyin_is_loaded_for_chinese_names_alone() -> None:
    program = (
        "import sys; from storage.dicom.name_tokens import tokens; import storage.dicom.query\n"
        "tokens(['Smith^John']); assert 'pypinyin' not in sys.modules\n"
        "tokens(['王']); assert 'pypinyin' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
