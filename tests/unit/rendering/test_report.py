"""Structured reports as text (PS3.18 8.7.4)."""

import re
from html.parser import HTMLParser
from typing import Any

import defusedxml.ElementTree
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.dicom.rendering.report import MAX_DEPTH, as_html, as_text, as_xml, entries
from storage.errors import NotAcceptable

EVIL = "<script>alert('x')</script>\"&\x00\x1b[31m\u202e"
VOID_TAGS = ("meta",)


def el(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


def code(meaning: str) -> dict[str, Any]:
    return el("SQ", {"00080100": el("SH", "X-1"), "00080102": el("SH", "99T"), "00080104": el("LO", meaning)})


def content(kind: str, name: str = "", *children: Any, **more: Any) -> dict[str, Any]:
    found = {"0040A040": el("CS", kind)} | ({"0040A043": code(name)} if name else {})
    found |= {key.removeprefix("x"): value for key, value in more.items()}
    return found | ({"0040A730": el("SQ", *children)} if children else {})


def report(*children: Any, title: str = "CT报告") -> dict[str, Any]:
    person = {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}
    return {
        "00080060": el("CS", "SR"),
        "00080020": el("DA", "20260311"),
        "00100010": el("PN", person),
        "00100020": el("LO", "P1"),
    } | content("CONTAINER", title, *children)


WHOLE = report(
    content(
        "CONTAINER",
        "Findings",
        content("TEXT", "Finding", x0040A160=el("UT", "右肺上叶结节\nsecond line")),
        content(
            "NUM",
            "Diameter",
            content("INFERRED", "", x0040DB73=el("UL", 1, 2)),
            x0040A300=el("SQ", {"0040A30A": el("DS", "8.5"), "004008EA": code("mm")}),
        ),
        content("NUM", "Volume", x0040A301=code("not measured")),
    ),
    content("CODE", "Conclusion", x0040A168=code("No acute finding")),
    content("PNAME", "Observer", x0040A123=el("PN", {"Alphabetic": "Zhao^Min"})),
    content("DATETIME", "Seen", x0040A120=el("DT", "20260311120000")),
    content("DATE", "On", x0040A121=el("DA", "20260312")),
    content("TIME", "At", x0040A122=el("TM", "0930")),
    content("UIDREF", "Of", x0040A124=el("UI", "2.25.77")),
    content("IMAGE", "Key", x00081199=el("SQ", {"00081155": el("UI", "2.25.99"), "00081160": el("IS", 2, "5")})),
    content("SCOORD", "Where", x00700023=el("CS", "POINT"), x00700022=el("FL", 1.5, 2)),
    content("TCOORD", "When", x0040A130=el("CS", "POINT")),
)
SAID = (
    *("CT报告", "王 小东", "Wang XiaoDong", "P1", "20260311", "Findings", "右肺上叶结节", "second line", "8.5 mm"),
    *("not measured", "No acute finding", "Zhao Min", "20260311120000", "20260312", "0930", "2.25.77"),
    *("2.25.99 (frames 2, 5)", "POINT 1.5, 2", "see item 1.2", "When"),
)


class Page(HTMLParser):
    """Tags as they open and close, and the text between."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("said", SAID)
def test_w_render_text_says_all_that_the_report_does(said: str) -> None:
    assert said in as_text(WHOLE)
    assert said in Page(as_html(WHOLE)).text
    assert said in " ".join("".join(x) for x in re.findall(r">([^<]*)<|\"([^\"]*)\"", as_xml(WHOLE)))


def test_w_render_text_keeps_the_order_and_the_nesting() -> None:
    found = [(entry.depth, entry.name) for entry in entries(WHOLE)]
    assert found[:6] == [(0, "CT报告"), (1, "Findings"), (2, "Finding"), (2, "Diameter"), (3, ""), (2, "Volume")]
    assert found[6:8] == [(1, "Conclusion"), (1, "Observer")]
    lines = as_text(WHOLE).splitlines()
    assert "    Diameter: 8.5 mm" in lines
    assert "  Conclusion: No acute finding" in lines
    assert "    second line" in lines


def test_u_sr_is_one_well_formed_page_without_script() -> None:
    page = Page(as_html(WHOLE))
    assert not page.open
    assert page.seen == {"html", "head", "meta", "title", "style", "body", "h1", "dl", "dt", "dd", "ul", "li", "span"}
    assert "default-src 'none'" in as_html(WHOLE)


def test_w_render_text_xml_is_well_formed_and_nested() -> None:
    root = defusedxml.ElementTree.fromstring(as_xml(WHOLE).encode("utf-8"))
    assert root.get("title") == "CT报告"
    assert [item.findtext("value") for item in root.findall("item/item[name='Conclusion']")] == ["No acute finding"]
    assert len(root.findall("item/item/item")) == 3


def test_w_render_text_nothing_said_becomes_markup() -> None:
    evil = report(
        content("TEXT", EVIL, x0040A160=el("UT", EVIL)),
        content("PNAME", EVIL, x0040A123=el("PN", {"Alphabetic": EVIL})),
        content("NUM", EVIL, x0040A300=el("SQ", {"0040A30A": el("DS", EVIL), "004008EA": code(EVIL)})),
        content("IMAGE", EVIL, x00081199=el("SQ", {"00081155": el("UI", EVIL), "00081160": el("IS", EVIL)})),
        content("SCOORD", EVIL, x00700023=el("CS", EVIL)),
        content(EVIL, EVIL, x0040DB73=el("UL", EVIL)),
        title=EVIL,
    ) | {"00100010": el("PN", {"Alphabetic": EVIL}), "00100020": el("LO", EVIL), "00081030": el("LO", EVIL)}
    page = as_html(evil)
    assert "script" not in Page(page).seen
    assert "<script" not in page
    assert not any(control in page for control in "\x00\x1b\u202e")
    defusedxml.ElementTree.fromstring(as_xml(evil).encode("utf-8"))


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["vr", "Value", "0040A730", "0040A040", "0040A043", "00080104", "0040A160", "Alphabetic"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=5), odd=json_values)
def test_w_render_text_of_whatever_was_stored(texts: list[str], odd: Any) -> None:
    dataset = report(*(content("TEXT", text, x0040A160=el("UT", text)) for text in texts))
    dataset["0040A730"]["Value"].append(
        {"0040A040": {"vr": "CS", "Value": [odd]}, "0040A160": {"vr": "UT", "Value": odd}}
    )
    assert not Page(as_html(dataset)).open
    defusedxml.ElementTree.fromstring(as_xml(dataset).encode("utf-8"))
    assert as_text(dataset)


def test_w_render_text_ends_where_nobody_reads_on() -> None:
    deep = content("TEXT", "bottom")
    for _ in range(MAX_DEPTH + 5):
        deep = content("CONTAINER", "level", deep)
    assert "bottom" not in as_text(deep)
    assert "too large" in as_text(deep)
    assert not Page(as_html(deep)).open


def test_w_render_text_of_an_instance_without_content_is_refused() -> None:
    for render in (as_html, as_text, as_xml):
        with pytest.raises(NotAcceptable):
            render({"00080060": el("CS", "CT")})
