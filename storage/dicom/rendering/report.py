"""Structured reports and key object selections as text for people (PS3.18 8.7.4, PS3.3 C.17.3, C.17.6)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

from storage.dicom.instance import JsonDataset
from storage.dicom.rendering.attributes import first, item, text, values
from storage.errors import NotAcceptable

MAX_DEPTH = 64
MAX_ITEMS = 50_000
_CONTENT, _VALUE_TYPE, _CONCEPT_NAME = "0040A730", "0040A040", "0040A043"
_MEANING, _CODE_VALUE, _LONG_CODE, _URN_CODE = "00080104", "00080100", "00080119", "00080120"
_CODE, _MEASURED, _NUMERIC_VALUE, _UNITS = "0040A168", "0040A300", "0040A30A", "004008EA"
_REFERENCED_SOP, _SOP_CLASS, _SOP_INSTANCE, _FRAMES = "00081199", "00081150", "00081155", "00081160"
_QUALIFIER, _REFERENCED_ITEM = "0040A301", "0040DB73"
_COMPLETION, _VERIFICATION = "0040A491", "0040A493"
_CUT_SHORT = "The report goes on: it is too large to be shown whole."


@dataclass(frozen=True, slots=True)
class Entry:
    """One content item: how deep it lies, the name of its concept, and its value; both may be empty."""

    depth: int
    name: str
    value: str


def is_report(dataset: JsonDataset) -> bool:
    """Whether the data set has a content tree that can be shown as text."""
    return _CONTENT in dataset or _VALUE_TYPE in dataset


def entries(dataset: JsonDataset) -> Iterator[Entry]:
    """The content tree in reading order, no deeper than MAX_DEPTH and no longer than MAX_ITEMS.

    Raises NotAcceptable when the data set has no content tree.
    """
    if not is_report(dataset):
        raise NotAcceptable("this instance has no content that can be shown as text")
    waiting, left = [(0, dataset)], MAX_ITEMS
    while waiting:
        depth, content = waiting.pop()
        if left == 0 or depth > MAX_DEPTH:
            yield Entry(0, "", _CUT_SHORT)
            return
        left -= 1
        yield Entry(depth, _concept(item(content, _CONCEPT_NAME)), _value(content))
        nested = [(depth + 1, child) for child in values(content, _CONTENT) if isinstance(child, dict)]
        waiting += reversed(nested)


def as_text(dataset: JsonDataset) -> str:
    """The report as plain text, what is nested indented; raises as `entries` does."""
    lines = [f"{name}: {value}" for name, value in _heading(dataset)] + [""]
    for entry in entries(dataset):
        indent = "  " * entry.depth
        said = ": ".join(filter(None, (entry.name, entry.value))) or "-"
        lines += [indent + line for line in _lines(said)]
    return "\n".join(lines) + "\n"


def as_html(dataset: JsonDataset) -> str:
    """The report as one HTML page without script, whatever it says escaped; raises as `entries` does."""
    title = _escaped(_title(dataset))
    facts = "".join(f"<dt>{_escaped(name)}</dt><dd>{_escaped(value)}</dd>" for name, value in _heading(dataset))
    tree = "".join(_nested(entries(dataset), ("<ul>", "</ul>"), ("<li>", "</li>"), _html_of))
    return f"{_PAGE_START.format(title=title)}{facts}</dl>{tree}</body></html>\n"


def as_xml(dataset: JsonDataset) -> str:
    """The report as XML for UTF-8: its heading, then nested items with names and values; raises as `entries` does."""
    facts = "".join(f'<fact name="{_escaped(name)}">{_escaped(value)}</fact>' for name, value in _heading(dataset))
    tree = "".join(_nested(entries(dataset), ("", ""), ("<item>", "</item>"), _xml_of))
    title = _escaped(_title(dataset))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<report title="{title}">{facts}{tree}</report>\n'


def _title(dataset: JsonDataset) -> str:
    return _concept(item(dataset, _CONCEPT_NAME)) or "Report"


def _nested(
    found: Iterator[Entry], around: tuple[str, str], each: tuple[str, str], inner: Callable[[Entry], str]
) -> Iterator[str]:
    """Markup of a tree: `around` those of one level, `each` with what is nested in it."""
    depth = -1
    for entry in found:
        yield around[0] if entry.depth > depth else each[1] + (around[1] + each[1]) * (depth - entry.depth)
        depth = entry.depth
        yield each[0] + inner(entry)
    yield (each[1] + around[1]) * (depth + 1)


_PAGE_START = (
    '<!DOCTYPE html><html><head><meta charset="utf-8">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    "<title>{title}</title><style>body{{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}}"
    "dt{{float:left;clear:left;width:12em;color:#555}}ul{{list-style:none;padding-left:1.2em}}li{{margin:.3em 0}}"
    ".name{{color:#555}}.value{{white-space:pre-wrap}}</style></head><body><h1>{title}</h1><dl>"
)


def _html_of(entry: Entry) -> str:
    name = f'<span class="name">{_escaped(entry.name)}</span>' if entry.name else ""
    value = f'<span class="value">{_escaped(entry.value)}</span>' if entry.value else ""
    return ": ".join(filter(None, (name, value)))


def _xml_of(entry: Entry) -> str:
    return f"<name>{_escaped(entry.name)}</name><value>{_escaped(entry.value)}</value>"


def _escaped(value: str) -> str:
    """For HTML and XML, also within attributes; without the control characters that neither may have."""
    return escape("".join(char for char in value if char.isprintable() or char in "\t\n\r\u2028\u2029\u00a0\u3000"))


def _heading(dataset: JsonDataset) -> list[tuple[str, str]]:
    """Who and when, as far as it is known."""
    rows = (
        ("Patient", _person(dataset, "00100010")),
        ("Patient ID", text(dataset, "00100020")),
        ("Birth date", text(dataset, "00100030")),
        ("Sex", text(dataset, "00100040")),
        ("Study date", text(dataset, "00080020")),
        ("Study", text(dataset, "00081030")),
        ("Accession number", text(dataset, "00080050")),
        ("Referring physician", _person(dataset, "00080090")),
        ("Content date", " ".join(filter(None, (text(dataset, "00080023"), text(dataset, "00080033"))))),
        ("Completion", text(dataset, _COMPLETION)),
        ("Verification", text(dataset, _VERIFICATION)),
    )
    return [(name, value) for name, value in rows if value]


def _concept(code: JsonDataset) -> str:
    """What a code means, or the code itself where its meaning is missing."""
    return next(filter(None, (text(code, key) for key in (_MEANING, _CODE_VALUE, _LONG_CODE, _URN_CODE))), "")


def _value(content: JsonDataset) -> str:
    describe = _VALUES.get(text(content, _VALUE_TYPE).upper())
    if describe is not None:
        return describe(content)
    steps = values(content, _REFERENCED_ITEM)
    return f"see item {'.'.join(map(str, steps))}" if steps else ""


def _number(content: JsonDataset) -> str:
    """With its unit; where nothing could be measured, why."""
    measured = item(content, _MEASURED)
    if not measured:
        return _concept(item(content, _QUALIFIER))
    return " ".join(filter(None, (text(measured, _NUMERIC_VALUE), _concept(item(measured, _UNITS)))))


def _person(content: JsonDataset, key: str) -> str:
    name = first(content, key)
    if not isinstance(name, dict):
        return ""
    groups = (name.get(group) for group in ("Ideographic", "Alphabetic", "Phonetic"))
    return " ".join(" ".join(filter(None, group.split("^"))) for group in groups if isinstance(group, str))


def _reference(content: JsonDataset) -> str:
    referenced = item(content, _REFERENCED_SOP)
    frames = ", ".join(str(frame) for frame in values(referenced, _FRAMES))
    said = text(referenced, _SOP_INSTANCE)
    return f"{said} (frames {frames})" if frames else said


def _coordinates(content: JsonDataset) -> str:
    points = ", ".join(f"{value:g}" for value in values(content, "00700022") if isinstance(value, int | float))
    return f"{text(content, '00700023')} {points}".strip()


def _text_of(*keys: str) -> Callable[[JsonDataset], str]:
    return lambda content: next(filter(None, (text(content, key) for key in keys)), "")


_VALUES: dict[str, Callable[[JsonDataset], str]] = {
    "TEXT": _text_of("0040A160"),
    "CODE": lambda content: _concept(item(content, _CODE)),
    "NUM": _number,
    "PNAME": lambda content: _person(content, "0040A123"),
    "DATETIME": _text_of("0040A120"),
    "DATE": _text_of("0040A121"),
    "TIME": _text_of("0040A122"),
    "UIDREF": _text_of("0040A124"),
    "IMAGE": _reference,
    "COMPOSITE": _reference,
    "WAVEFORM": _reference,
    "SCOORD": _coordinates,
    "SCOORD3D": _coordinates,
    "TCOORD": _text_of("0040A130"),
}


def _lines(said: str) -> list[str]:
    return [line.rstrip() for line in said.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
