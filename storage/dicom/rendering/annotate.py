"""Patient and technique burned into a picture, only when asked for (PS3.18 8.3.5.1.1)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from storage.dicom.instance import JsonDataset
from storage.dicom.rendering.attributes import first, number, text
from storage.dicom.rendering.fonts import runs_of
from storage.dicom.rendering.wish import Annotation

_MIN_TEXT, _MAX_TEXT = 9, 64  # the height of letters, in pixels
_LINES_IN_PICTURE = 40
_MAX_LINE = 64  # characters
_MISSING_GLYPHS = "an annotation is left out: no font here has its characters"

Line = Sequence[str]  # the same said in one way or another, the better first


def annotated(
    picture: NDArray[Any], attributes: JsonDataset, wished: Sequence[Annotation]
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The picture with what is wished in it, patient at the top and technique at the bottom; and warnings.

    A line that no font can write is left out and warned of, never drawn as boxes.
    """
    if not wished:
        return picture, ()
    size = min(max(picture.shape[0] // _LINES_IN_PICTURE, _MIN_TEXT), _MAX_TEXT)
    result, warnings = picture.copy(), []
    for annotation in wished:
        lines, missing = _writable(_LINES[annotation](attributes), size)
        if missing:
            warnings.append(_MISSING_GLYPHS)
        step = size * 5 // 4
        top = size // 2 if annotation is Annotation.PATIENT else picture.shape[0] - size // 2 - step * len(lines)
        for at, line in enumerate(lines):
            _write(result, line, size // 2, top + at * step, size)
    return result, tuple(dict.fromkeys(warnings))


def _writable(lines: Sequence[Line], size: int) -> tuple[list[str], bool]:
    """Each line as the first of its forms for which there are fonts, and whether some form has none."""
    written, missing = [], False
    for line in lines:
        forms = [form for form in line if form]
        found = [form for form in forms if runs_of(form, size)]
        missing |= len(found) < len(forms)
        written += found[:1]
    return written, missing


def _write(picture: NDArray[Any], line: str, left: int, top: int, size: int) -> None:
    """White letters with black edges, as much of them as there is room for."""
    runs = runs_of(line, size)
    if runs is None or top >= picture.shape[0] or left >= picture.shape[1]:
        return
    edge = max(1, size // 6)
    width = math.ceil(sum(font.getlength(run) for run, font in runs)) + 2 * edge
    for letters_only in (False, True):
        mask = Image.new("L", (width, size * 3 // 2))
        pen, at = ImageDraw.Draw(mask), float(edge)
        for run, font in runs:
            pen.text((at, size), run, 255, font, anchor="ls", stroke_width=0 if letters_only else edge)
            at += font.getlength(run)
        _blend(picture, np.asarray(mask), left, top, white=letters_only)


def _blend(picture: NDArray[Any], mask: NDArray[np.uint8], left: int, top: int, *, white: bool) -> None:
    mask = mask[max(-top, 0) :]
    part = picture[max(top, 0) : max(top, 0) + mask.shape[0], left : left + mask.shape[1]]
    cover = mask[: part.shape[0], : part.shape[1]].astype(np.float32) / 255
    cover = cover[..., np.newaxis] if picture.ndim == 3 else cover
    ink = np.iinfo(picture.dtype).max if white else 0
    part[...] = np.rint(part * (1 - cover) + ink * cover)


def _patient(attributes: JsonDataset) -> list[Line]:
    person = [
        text(attributes, "00100020"),
        _date(text(attributes, "00100030")),
        text(attributes, "00100040"),
        text(attributes, "00101010"),
    ]
    return _lines([_names(attributes), [" ".join(filter(None, person))]])


def _names(attributes: JsonDataset) -> Line:
    """As written where the patient lives together with the alphabetic form, or this alone."""
    name = first(attributes, "00100010")
    if not isinstance(name, dict):
        return []
    alphabetic = _spoken(name.get("Alphabetic"), " ")
    ideographic = _spoken(name.get("Ideographic"), "")
    return [" ".join(filter(None, (ideographic, alphabetic))), alphabetic]


def _spoken(group: Any, between: str) -> str:
    return between.join(filter(None, group.split("^"))) if isinstance(group, str) else ""


def _technique(attributes: JsonDataset) -> list[Line]:
    where = [text(attributes, "00080060"), text(attributes, "00180015"), text(attributes, "0008103E")]
    numbers = [f"{label} {text(attributes, key)}" for label, key in _COUNTED if text(attributes, key)]
    measures = [_measure(attributes, *one) for one in _MEASURED]
    taken = _date(text(attributes, "00080022") or text(attributes, "00080020"))
    named = [" ".join(filter(None, where)), " ".join(filter(None, where[:2]))]
    return _lines([named, [" ".join(numbers)], [" ".join(filter(None, measures))], [taken]])


_COUNTED = (("Series", "00200011"), ("Image", "00200013"))
_MEASURED = (
    ("", "00180060", "kV"),
    ("", "00181151", "mA"),
    ("", "00181152", "mAs"),
    ("", "00181150", "ms"),
    ("TR", "00180080", "ms"),
    ("TE", "00180081", "ms"),
    ("T", "00180050", "mm"),
    ("L", "00201041", "mm"),
)


def _measure(attributes: JsonDataset, label: str, key: str, unit: str) -> str:
    value = number(attributes, key)
    return "" if value is None else f"{label} {value:.6g} {unit}".strip()


def _date(value: str) -> str:
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 and value.isdigit() else ""


def _lines(lines: list[Line]) -> list[Line]:
    """Without empty ones, and without what cannot be printed or would run out of any picture."""
    return [forms for forms in ([_printable(form) for form in line] for line in lines) if any(forms)]


def _printable(line: str) -> str:
    return "".join(character for character in line if character.isprintable())[:_MAX_LINE]


_LINES: dict[Annotation, Callable[[JsonDataset], list[Line]]] = {
    Annotation.PATIENT: _patient,
    Annotation.TECHNIQUE: _technique,
}
