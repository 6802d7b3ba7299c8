"""Chinese surnames that are not, or not only, read as their characters most commonly are; toneless pinyin."""

from collections.abc import Iterator

_READ = """
    不:fou 乐:yue,le 乜:nie 仇:qiu 佴:nai 区:ou 單:shan 单:shan 卜:bu 句:gou 召:shao 员:yun 員:yun 圈:juan
    宓:mi,fu 尉:wei,yu 折:she 曾:zeng 朴:piao,pu 术:zhu 查:zha 柏:bai,bo 柜:ju 樂:yue,le 洗:xian 牟:mu,mou
    祭:zhai 种:chong 秘:bi 繁:po 缪:miao 繆:miao 翟:zhai 蔚:yu,wei 藏:zang 覃:qin,tan 解:xie 谌:chen,shen
    諶:chen,shen 賁:ben 郇:xun,huan 都:du 鈄:tou 長:zhang,chang 长:zhang,chang 隗:wei,kui 阚:kan 盖:ge,gai
    蓋:ge,gai 粘:nian 薄:bo 重:chong 镡:xin,tan 鐔:xin,tan 颉:xie 黑:he,hei 區:ou 會:kuai 会:kuai 乘:sheng
    率:shuai 称:cheng,chen 角:jiao,jue
"""
_DOUBLE_READ = """
    万俟:mo,qi 萬俟:mo,qi 尉迟:yu,chi 尉遲:yu,chi 单于:chan,yu 單于:chan,yu 长孙:zhang,sun 長孫:zhang,sun
    澹台:tan,tai 澹臺:tan,tai 拓跋:tuo,ba 拓拔:tuo,ba 乐正:yue,zheng 樂正:yue,zheng 令狐:ling,hu
"""


def _entries(text: str) -> Iterator[tuple[str, list[str]]]:
    for entry in text.split():
        name, _, read = entry.partition(":")
        yield name, read.split(",")


# The readings of a surname, the most common one first; of one of two characters, the reading of each.
SURNAMES = {name: tuple(read) for name, read in _entries(_READ)}
DOUBLE_SURNAMES = {name: (first, second) for name, (first, second) in _entries(_DOUBLE_READ)}
