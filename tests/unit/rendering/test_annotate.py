"""Annotations that are burned in, and what fonts can write (PS3.18 8.3.5.1.1)."""

from typing import Any

import numpy as np
import pytest
from PIL import ImageFont

from storage.dicom.rendering import annotate
from storage.dicom.rendering.fonts import runs_of
from storage.dicom.rendering.wish import Annotation, Wish
from tests.unit.rendering.shown import colour, drawn, grey, opened, rendered

BLACK = np.zeros((240, 240), np.uint16)
BOTH = (Annotation.PATIENT, Annotation.TECHNIQUE)


def marked(wish: Wish, **changes: Any) -> tuple[Any, tuple[str, ...]]:
    ds = grey(BLACK, **changes)
    result = rendered(ds, Wish(media_type="image/png", annotations=wish.annotations, bits=wish.bits))
    return np.asarray(opened(result.body)), result.warnings


@pytest.fixture
def latin_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No fonts but Pillow's own, which has no Chinese."""
    monkeypatch.setattr(annotate, "runs_of", lambda text, size: runs_of(text, size, ()))


def test_w_render_annot_only_when_asked() -> None:
    picture, warnings = marked(Wish())
    assert not picture.any()
    assert warnings == ()


@pytest.mark.parametrize(("annotation", "top"), [(Annotation.PATIENT, True), (Annotation.TECHNIQUE, False)])
def test_w_render_annot_patient_above_technique_below(annotation: Annotation, top: bool) -> None:
    picture, _ = marked(Wish(annotations=(annotation,)))
    above, below = picture[:80].any(), picture[160:].any()
    assert (above, below) == (top, not top)
    assert not picture[80:160].any()


def test_w_render_annot_differs_by_patient() -> None:
    wish = Wish(annotations=(Annotation.PATIENT,))
    one, _ = marked(wish)
    assert not np.array_equal(one, marked(wish, PatientID="Q999")[0])
    assert not np.array_equal(one, marked(wish, PatientName="Li^Na")[0])
    assert np.array_equal(one, marked(wish, SeriesNumber=77)[0])


@pytest.mark.usefixtures("latin_only")
def test_w_render_annot_chinese_name_without_a_font_is_written_in_letters_with_a_warning() -> None:
    wish = Wish(annotations=(Annotation.PATIENT,))
    picture, warnings = marked(wish)
    assert warnings == ("an annotation is left out: no font here has its characters",)
    alone, none_left_out = marked(wish, PatientName="Wang^XiaoDong")
    assert np.array_equal(picture, alone)
    assert none_left_out == ()


@pytest.mark.usefixtures("latin_only")
def test_w_render_annot_no_boxes_for_a_name_that_nothing_here_can_write() -> None:
    wish = Wish(annotations=(Annotation.PATIENT,))
    picture, warnings = marked(wish, PatientName="王^小东", PatientID="", PatientBirthDate="", PatientSex="")
    assert not picture.any()
    assert len(warnings) == 1
    assert "王" not in warnings[0]


def test_w_render_annot_takes_each_character_from_a_font_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    chinese, latin = ImageFont.load_default(12), ImageFont.load_default(13)
    monkeypatch.setattr(
        "storage.dicom.rendering.fonts._font", lambda file, size: chinese if file == "chinese" else latin
    )
    monkeypatch.setattr("storage.dicom.rendering.fonts._has", lambda font, c: (font is chinese) == ("一" <= c <= "龥"))
    assert runs_of("王小东 Wang 东", 11, ("chinese",)) == [("王小东", chinese), (" Wang ", latin), ("东", chinese)]


def test_w_render_annot_fonts_know_what_they_have() -> None:
    assert runs_of("Wang 12", 12, ()) is not None
    assert runs_of("王", 12, ()) is None
    assert runs_of("a王", 12, ("/no/such/font.ttf",)) is None


@pytest.mark.skipif(runs_of("王", 12) is None, reason="no font with Chinese characters is installed")
def test_w_render_annot_chinese_with_a_font() -> None:
    _, warnings = marked(Wish(annotations=BOTH))
    assert warnings == ()


@pytest.mark.parametrize("ds", [grey(BLACK), colour(np.zeros((240, 240, 3), np.uint8))])
def test_w_render_annot_on_grey_and_colour(ds: Any) -> None:
    plain = drawn(ds)
    picture, _ = annotate.annotated(plain, {"00100020": {"vr": "LO", "Value": ["P1"]}}, BOTH)
    assert picture.shape == plain.shape
    assert picture.max() > 200
    assert not plain.any()


def test_w_render_annot_in_16_bits() -> None:
    picture, _ = marked(Wish(annotations=BOTH, bits=16))
    assert picture.max() > 60_000


def test_w_render_annot_can_be_read_on_white() -> None:
    white = np.full((240, 240), 255, np.uint8)
    picture, _ = annotate.annotated(white, {"00100020": {"vr": "LO", "Value": ["P1"]}}, (Annotation.PATIENT,))
    assert picture.min() < 50


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (20, 20)])
def test_w_render_annot_in_pictures_that_have_no_room(size: tuple[int, int]) -> None:
    picture, _ = annotate.annotated(np.zeros(size, np.uint8), {"00100020": {"vr": "LO", "Value": ["P" * 64]}}, BOTH)
    assert picture.shape == size


def test_w_render_annot_of_odd_values() -> None:
    odd = {
        "00100010": {"vr": "PN", "Value": ["no object"]},
        "00100020": {"vr": "LO", "Value": ["\x1b[31m\n" + "x" * 5000]},
        "00100030": {"vr": "DA", "Value": ["20"]},
        "00180050": {"vr": "DS", "Value": ["1,5"]},
    }
    picture, warnings = annotate.annotated(np.zeros((64, 64), np.uint8), odd, BOTH)
    assert picture.any()
    assert warnings == ()
