"""Query parameters of renderings (PS3.18 8.3.5.1, 9.5)."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.dicom.rendering.wish import (
    Annotation,
    IccProfile,
    Region,
    Viewport,
    VoiFunction,
    Window,
    Wish,
    parse_annotation,
    parse_icc_profile,
    parse_quality,
    parse_uri_viewport,
    parse_uri_window,
    parse_viewport,
    parse_window,
)
from storage.errors import Fault, Invalid


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("40,400,linear", Window(40, 400)),
        ("-600.5,1.5e3,linear-exact", Window(-600.5, 1500, VoiFunction.LINEAR_EXACT)),
        ("1,.5,sigmoid", Window(1, 0.5, VoiFunction.SIGMOID)),
        ("40,1,linear", Window(40, 1)),
    ],
)
def test_w_render_window_is_parsed(text: str, window: Window) -> None:
    assert parse_window(text) == window


@pytest.mark.parametrize(
    ("text", "viewport"),
    [
        ("512,256", Viewport(512, 256)),
        ("512,256,10,20,100,50", Viewport(512, 256, Region(10, 20, 100, 50))),
        ("512,256,,,-100,50.5", Viewport(512, 256, Region(0, 0, -100, 50.5))),
        ("512,256,10", Viewport(512, 256, Region(10, 0))),
        ("512,256,,,,", Viewport(512, 256)),
    ],
)
def test_w_render_viewport_is_parsed(text: str, viewport: Viewport) -> None:
    assert parse_viewport(text) == viewport


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *(
            (parse_window, text)
            for text in ("", "40", "40,400", "40,,linear", ",400,linear", "40,400,", "a,400,linear")
        ),
        *((parse_window, text) for text in ("40,400,cubic", "40,0.5,linear", "40,0,sigmoid", "40,-1,linear-exact")),
        *((parse_window, text) for text in ("nan,400,linear", "40,inf,linear", "40,400,linear,1", "1_0,400,linear")),
        *((parse_viewport, text) for text in ("", "512", "512,", ",512", "0,512", "512,-1", "a,b", "1.5,2")),
        *((parse_viewport, text) for text in ("512,512,-1,0,10,10", "512,512,0,0,0,10", "512,512,0,0,10,x")),
        *((parse_viewport, text) for text in ("512,512,0,0,10,10,10", "16384,1", "16000,16000", "999999999999,1")),
        *((parse_quality, text) for text in ("", "0", "101", "-1", "50.0", "high", "٥٠")),
        *((parse_annotation, text) for text in ("", ",", "patient,", "pa tient", "patient;technique", "<b>")),
        *((parse_icc_profile, text) for text in ("", "true", "SRGB", "p3")),
    ],
)
def test_w_render_400_names_what_is_wrong(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse(text)
    assert raised.value.fault is Fault.QUERY
    assert any(word in str(raised.value) for word in ("window", "v", "quality", "annotation", "iccprofile"))


@pytest.mark.parametrize("parse", [parse_window, parse_viewport, parse_quality, parse_annotation, parse_icc_profile])
@settings(max_examples=50)
@given(text=st.text(max_size=40))
def test_w_render_400_for_whatever_is_sent(parse: Callable[[str], Any], text: str) -> None:
    try:
        parse(text)
    except Invalid as refused:
        assert refused.fault is Fault.QUERY


def test_w_thumbnail_viewport_has_no_region() -> None:
    assert parse_viewport("64,64", whole=True) == Viewport(64, 64)
    with pytest.raises(Invalid, match="vw,vh"):
        parse_viewport("64,64,0,0,10,10", whole=True)


def test_w_render_annot_tells_what_it_does_not_know() -> None:
    assert parse_annotation("technique,patient") == ((Annotation.PATIENT, Annotation.TECHNIQUE), ())
    assert parse_annotation("patient,Patient,room") == ((Annotation.PATIENT,), ("Patient", "room"))


def test_w_render_icc_is_refused_where_it_cannot_be_embedded() -> None:
    assert parse_icc_profile("no", ["image/gif"]) is IccProfile.NO
    assert parse_icc_profile("adobergb", ["image/jpeg", "image/png"]) is IccProfile.ADOBE_RGB
    with pytest.raises(Invalid, match="image/gif"):
        parse_icc_profile("yes", ["image/gif"])


def test_u_window_needs_both_values() -> None:
    assert parse_uri_window(None, None) is None
    assert parse_uri_window("40", "400") == Window(40, 400)
    for center, width in (("40", None), (None, "400"), ("40", "0"), ("x", "400"), ("", "")):
        with pytest.raises(Invalid):
            parse_uri_window(center, width)


def test_u_rowscols_and_region_are_parsed() -> None:
    assert parse_uri_viewport(None, None, None) is None
    assert parse_uri_viewport("100", None, None) == Viewport(None, 100)
    assert parse_uri_viewport(None, "200", "0.5,0,1,0.25") == Viewport(
        200, None, Region(0.5, 0, 0.5, 0.25, relative=True)
    )


@pytest.mark.parametrize(
    ("rows", "columns", "region"),
    [
        ("0", None, None),
        (None, "-5", None),
        ("1e3", None, None),
        ("16000", "16000", None),
        (None, None, "0,0,1"),
        (None, None, "0.5,0,0.5,1"),
        (None, None, "0,1,1,0"),
        (None, None, "0,0,1.1,1"),
        (None, None, "-0.1,0,1,1"),
        (None, None, "0,0,nan,1"),
    ],
)
def test_u_rowscols_and_region_that_cannot_be_are_refused(rows: str, columns: str, region: str) -> None:
    with pytest.raises(Invalid):
        parse_uri_viewport(rows, columns, region)


def test_a_wish_is_a_key_and_goes_to_other_processes() -> None:
    wish = Wish(window=Window(1, 2), viewport=Viewport(1, 2), annotations=(Annotation.PATIENT,))
    assert pickle.loads(pickle.dumps(wish)) == wish
    assert len({wish, Wish(), Wish()}) == 2
