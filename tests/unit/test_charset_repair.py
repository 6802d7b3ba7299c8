"""Wrongly declared text: what must be repaired, and what must be left alone."""

import random
import unicodedata
from collections.abc import Sequence

import pytest

from storage.dicom.charset import Charset, repaired


def words(text: str) -> list[str]:
    return text.split()


CHINESE = words("""
    王小东 李娜 张伟 王芳 刘洋 陈静 杨洁 黄磊 赵敏 吴刚 周杰伦 徐克 孙悟空 马云 朱镕基 胡歌 郭靖 何炅 高圆圆 林黛玉
    罗翔 郑和 梁朝伟 谢霆锋 宋江 唐伯虎 许仙 韩红 冯小刚 邓丽君 曹操 彭于晏 曾国藩 肖战 田雨 董卿 袁隆平 潘玮柏 于谦
    蒋欣 蔡元培 余华 杜甫 叶问 程潇 苏轼 魏征 吕布 丁一 任贤齐 沈从文 姚明 卢俊义 欧阳修 司马迁 诸葛亮 上官婉儿 尉迟恭
    夏侯惇 爨宝子 王芃 王玥 赵喆 陈堃 陈淼 龚玥 仝卓 晏殊 佘诗曼 闫妮 丛珊 么红 綦江 买买提·艾力 阿依古丽·买买提
""")
DESCRIPTIONS = words("""
    胸部CT平扫 T2加权FLAIR CT平扫MR 头颅MR增强 左侧Hip 第1次复查 北京协和医院 河北省人民医院放射科 腹部（上）平扫+增强
""")
EUROPEAN = words("""
    Müller José Øystein Français Noël Zoë Muñoz Muñóz MUÑÓZ Conceição CONCEIÇÃO Assunção Gonçalves MÄÄTTÄ SÄÄSKI PÄÄ
    Hääyö Müßig Größe Weiß GRÖSSE Äneas^Rüdiger Buc^Jérôme Þórður ÞÓRÐUR Óðinn Ásdís^Óðinsdóttir créée Ängström Åse
    Jürgen Íñigo Peña^Íñigo Björk^Guðmundsdóttir François Éléonore Eléa Çelik Über naïveté L'Haÿ Ñandú Niño^Ángel João
    São^Tomé Ibáñez Núñez Muñiz Günther^Jörg Schäuble Mölders Hervé Zoé André Loïc Gaël Maëlle Søren Kjærgård Ågård
    Öström ÄÄNEKOSKI jäääär Töötsi Jõõpre ÉTÉ Ærø Magalhães^Antônio Brontë Citroën Kärkkäinen Strömbäck Sjöö Nørgaard
""")
OTHER_LATIN = [
    *("25 °C", "50 µm", "±5 mm", "1·10³/µl", "mm²·s", "Nº 5", "½ Dosis", "a\xa0\xa0\xa0b", "l\x92hôpital"),
    *("«Général»", "dossier «\xa0/\xa0»", "¡¿pero no?!", "¡¡¡Atención!!!", "non è il caso", "pyyntöä", "«dépôt à 2 %»"),
]


def reading(declared: Sequence[str], *samples: bytes) -> str | None:
    _, note = repaired(declared, samples)
    return note and note.rpartition(" read as ")[2]


@pytest.mark.parametrize("declared", [[], [""], ["ISO_IR 6"], ["ISO_IR 100"], ["ISO_IR 192"], ["nonsense"]], ids=str)
@pytest.mark.parametrize("codec", ["gb18030", "gbk"])
def test_chinese_in_gbk_under_another_name(declared: list[str], codec: str) -> None:
    in_groups = [name for name in CHINESE if len(name) > 2]
    for name in (*CHINESE, *DESCRIPTIONS, *(f"Wang^Xiao={name[0]}^{name[1:]}=wang^xiao" for name in in_groups)):
        charset, note = repaired(declared, [name.encode(codec)])
        assert charset.person_name(name.encode(codec)) == [name]
        assert note is not None and note.endswith(" read as GB18030")


@pytest.mark.parametrize("declared", [[], ["ISO_IR 100"], ["GB18030"], ["GBK"], ["", "ISO 2022 IR 58"]], ids=str)
def test_utf8_under_another_name(declared: list[str]) -> None:
    for name in (
        *CHINESE,
        *DESCRIPTIONS,
        *EUROPEAN,
        "Люк^Иван",
        "Διονύσιος",
        "שרון^דבורה",
        "قباني^لنزار",
        "홍^길동",
        "やまだ",
    ):
        charset, note = repaired(declared, [name.encode()])
        assert charset.person_name(name.encode()) == [name]
        assert note is not None and note.endswith(" read as ISO_IR 192")


def test_the_note_names_both_sets() -> None:
    raw = "王^小东".encode("gb18030")
    assert repaired(["ISO_IR 100"], [raw])[1] == "ISO_IR 100 read as GB18030"
    assert repaired([], [raw])[1] == "ISO_IR 6 read as GB18030"
    assert repaired(["iso_ir 192"], [raw])[1] == "ISO_IR 192 read as GB18030"
    assert repaired(["GBK"], ["王^小东".encode()])[1] == "GBK read as ISO_IR 192"
    assert (
        repaired(["ISO 2022 IR 100", "ISO 2022 IR 58"], [raw])[1] == r"ISO 2022 IR 100\ISO 2022 IR 58 read as GB18030"
    )


@pytest.mark.parametrize("text", [*EUROPEAN, *OTHER_LATIN])
def test_true_latin1_is_left_alone(text: str) -> None:
    for value in (text, text.upper(), f"{text}^{text}", f"{text} {text}\\{text}"):
        raw = value.encode("latin-1", "ignore")
        for declared in (["ISO_IR 100"], ["ISO 2022 IR 100"], ["ISO 2022 IR 100", "ISO 2022 IR 144"]):
            assert repaired(declared, [raw]) == (Charset.of(declared), None)


@pytest.mark.parametrize("text", ["Ää", "ÅÄ", "Åå", "ÀÉ", "Æø", "Øå", "Bøå", "Aÿ"])
def test_two_accented_letters_by_themselves_are_too_little_to_go_by(text: str) -> None:
    assert reading(["ISO_IR 100"], text.encode("latin-1")) is None


SHOUTED = [
    "GROßÄÖÜ",
    "ÀÈÌ^ÓÕ",
    "PÄÄSKYNEN^ÖÖ",
    "GRÖßÄCKER^ÄÖÜ",
    "ÄÖÜß",
    "STÖÄÜ",
    "ÈÉ^ÀÁ",
    "ÅÄÖ",
    "ÂÊÎ ÔÛ",
    "åäö",
    "äöüß",
]


@pytest.mark.parametrize("text", SHOUTED)
def test_accented_capitals_side_by_side_are_too_little_to_go_by(text: str) -> None:
    assert reading(["ISO_IR 100"], text.encode("latin-1")) is None
    assert reading(["ISO_IR 100"], text.encode("latin-1"), b"CT", "Größe".encode("latin-1")) is None


def test_what_could_be_accented_capitals_is_chinese_when_there_is_enough_of_it() -> None:
    name = "赵览".encode("gb18030")  # a surname, and each byte is an accented capital too
    assert name.decode("latin-1").isupper()
    assert reading(["ISO_IR 100"], name) == "GB18030"
    words = "演艺".encode("gb18030"), "优酪".encode("gb18030")
    assert all(word.decode("latin-1").isupper() for word in words)
    assert reading(["ISO_IR 100"], words[1]) is None
    assert reading(["ISO_IR 100"], *words) == "GB18030"


@pytest.mark.parametrize("text", ["Ôë", "Åå", "Ææ", "Øå", "Íñ"])
def test_a_capital_before_a_small_letter_is_the_start_of_a_word(text: str) -> None:
    assert reading([], text.encode("latin-1")) == "ISO_IR 100"


def test_undeclared_european_text_is_read_as_latin1() -> None:
    assert {reading([], text.encode("latin-1")) for text in EUROPEAN} == {"ISO_IR 100"}
    assert {reading(["ISO_IR 192"], text.encode("latin-1")) for text in EUROPEAN} == {"ISO_IR 100"}


@pytest.mark.parametrize(
    ("declared", "codec", "text"),
    [
        (["ISO_IR 101"], "iso8859_2", "Dvořák^Antonín"),
        (["ISO_IR 109"], "iso8859_3", "Ċensu^Ġorġ"),
        (["ISO_IR 110"], "iso8859_4", "Bērziņš^Jānis"),
        (["ISO_IR 126"], "iso8859_7", "Διονύσιος^Παπαδόπουλος"),
        (["ISO_IR 127"], "iso8859_6", "قباني^لنزار"),
        (["ISO_IR 138"], "iso8859_8", "שרון^דבורה"),
        (["ISO_IR 144"], "iso8859_5", "Люкceмбypг^Иванов"),
        (["ISO_IR 148"], "iso8859_9", "Çavuşoğlu^İbrahim"),
        (["ISO_IR 166"], "iso8859_11", "สมชาย^ใจดี"),
        (["ISO_IR 203"], "iso8859_15", "Šœur^Ÿves"),
        (["ISO_IR 13"], "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        (["ISO_IR 192"], "utf-8", "Müller^王小东^김희중^やまだ^Люк"),
        (["ISO_IR 192"], "utf-8", "Dvořák^Antonín"),
        (["ISO_IR 192"], "utf-8", "Çavuşoğlu^İbrahim"),
        (["ISO_IR 192"], "utf-8", "Trương^Phương"),
        (["ISO_IR 192"], "utf-8", "Διονύσιος^Παπαδόπουλος"),
        (["ISO_IR 192"], "utf-8", "Люк^Иван^Ёлкин"),
        (["ISO_IR 192"], "utf-8", "שרון^דבורה"),
        (["ISO_IR 192"], "utf-8", "قباني^لنزار"),
        (["ISO_IR 192"], "utf-8", "Արամ^Խաչատրյան"),
        (["ISO_IR 192"], "utf-8", "25 °C, 50 µm, ¿?, «non è, non è, non è»"),
        (["GB18030"], "gb18030", "一^丁=王^小东"),
        (["GBK"], "gbk", "王^小东=芦茅禄"),
        (["", "ISO 2022 IR 149"], "euc_kr", "김^희중"),
        (["ISO 2022 IR 149"], "euc_kr", "김^희중"),
        (["", "ISO 2022 IR 58"], "gb2312", "王^小东"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_true_declarations_stand(declared: list[str], codec: str, text: str) -> None:
    assert repaired(declared, [text.encode(codec)]) == (Charset.of(declared), None)


def test_every_chinese_name_declared_truly_stands() -> None:
    for name in (*CHINESE, *DESCRIPTIONS):
        assert reading(["GB18030"], name.encode("gb18030")) is None
        assert reading(["ISO_IR 192"], name.encode()) is None


def test_code_extensions_at_work_are_left_alone() -> None:
    korean = b"\x1b$)C\xb1\xe8^\x1b$)C\xc8\xf1\xc1\xdf"
    assert reading(["", "ISO 2022 IR 149"], korean) is None
    assert reading(["ISO_IR 100"], b"\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab") is None
    assert reading([], b"\x1b$)A\xcd\xf5") is None


def test_all_samples_are_weighed_together() -> None:
    name, place = "一".encode("gb18030"), "北京协和医院".encode("gb18030")
    assert reading(["ISO_IR 100"], name) is None  # one character by itself is too little to go by
    assert reading(["ISO_IR 100"], name, b"CT", place) == "GB18030"
    assert reading(["ISO_IR 100"], "Müller".encode("latin-1"), "Größe".encode("latin-1")) is None


def test_values_cut_in_half_a_character_are_still_recognised() -> None:
    cut = "河北省人民医院放射科".encode("gb18030")[:15]
    assert reading(["ISO_IR 100"], cut) == "GB18030"
    assert reading(["GB18030"], cut) is None
    in_utf8 = "河北省人民医院放射科".encode()[:16]
    assert reading(["GB18030"], in_utf8) == "ISO_IR 192"
    assert reading(["ISO_IR 192"], in_utf8) is None


def test_bytes_that_are_nothing_known_stay_as_declared() -> None:
    assert repaired([], [b"\x81\x8d\x8f\x90 \xff\xff\x9d"]) == (Charset.of([]), None)
    assert repaired([], [b"plain", b""]) == (Charset.of([]), None)
    assert repaired(["GB18030"], []) == (Charset.of(["GB18030"]), None)


def test_the_evidence_is_bounded() -> None:
    raw = "王小东".encode("gb18030")
    assert reading([], *(str(n).encode() + raw for n in range(100_000))) == "GB18030"
    for codec, term in (("gb18030", "GB18030"), ("utf-8", "ISO_IR 192")):
        report = ("a" + "双肺纹理清晰。" * 10_000).encode(codec)
        assert {reading(declared, report) for declared in ([], ["ISO_IR 100"])} == {term}
        assert reading([term], report) is None


def hanzi(chance: random.Random) -> str:
    """A character of GB 2312 level 1, the 3,755 common ones."""
    while True:
        text = bytes((chance.randrange(0xB0, 0xD8), chance.randrange(0xA1, 0xFF))).decode("gb2312", "ignore")
        if text:
            return text


def test_invented_chinese_names() -> None:
    chance = random.Random(7)
    surnames = [name[0] for name in CHINESE]
    names = [chance.choice(surnames) + hanzi(chance) + hanzi(chance) * chance.randrange(2) for _ in range(3000)]
    for declared, least in (([], 0.999), (["ISO_IR 100"], 0.999), (["ISO_IR 192"], 0.99)):
        right = sum(reading(declared, name.encode("gb18030")) == "GB18030" for name in names)
        assert right / len(names) >= least
    assert all(reading(["GB18030"], name.encode("gb18030")) is None for name in names)


def test_invented_european_names() -> None:
    """ASCII words with an accented letter here and there, seldom two side by side."""
    chance = random.Random(8)
    accented = [char for char in map(chr, range(0xC0, 0x100)) if unicodedata.category(char).startswith("L")]

    def word() -> str:
        letters = [chance.choice("aeinorstlmu") for _ in range(chance.randrange(2, 9))]
        for _ in range(chance.randrange(1, 3)):
            letters[chance.randrange(len(letters))] = chance.choice(accented)
        return "".join(letters).capitalize()

    names = [f"{word()}^{word()}" for _ in range(3000)]
    wrong = [name for name in names if reading(["ISO_IR 100"], name.encode("latin-1", "ignore"))]
    assert len(wrong) / len(names) < 0.001
    lost = [name for name in names if reading([], name.encode("latin-1", "ignore")) == "GB18030"]
    assert len(lost) / len(names) < 0.01
    assert not [name for name in names if reading(["ISO_IR 192"], name.encode())]
