"""Rendered resources and thumbnails over HTTP (PS3.18 10.4.1.1.3, 10.4.1.1.4), over a real archive."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from gateway.security.audit import Outcome
from tests import samples
from tests.web.lit import BARE, BROKEN, CT, DOC, DOCUMENT, FRAMES, HUGE, SR, Lit, grey, instance, opened, series, study
from tests.web.test_retrieve import parts


@pytest.fixture(scope="module")
def lit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lit]:
    with opened(tmp_path_factory.mktemp("lit")) as door:
        yield door


def test_w_render_types_jpeg_unless_another_is_asked_for(lit: Lit) -> None:
    assert lit.image(instance(CT) + "/rendered").format == "JPEG"
    assert not lit.image(instance(CT) + "/rendered").info.get("progressive")
    for media_type in ("image/jpeg", "image/png", "image/gif", "image/webp"):
        assert lit.get(instance(CT) + "/rendered", media_type).headers["content-type"] == media_type
        assert lit.get(f"{instance(CT)}/rendered?accept={media_type}").headers["content-type"] == media_type
    assert lit.get(instance(CT) + "/rendered", "image/bmp").status_code == 406
    assert (
        lit.get(instance(CT) + "/rendered", "image/png;q=0.2, image/gif;q=0.9").headers["content-type"] == "image/gif"
    )


def test_h_accept_star_gives_the_default_of_a_rendered_resource(lit: Lit) -> None:
    for wild in ("*/*", "image/*"):
        assert lit.get(instance(CT) + "/rendered", wild).headers["content-type"] == "image/jpeg"


def test_h_accept_mix_is_refused(lit: Lit) -> None:
    assert lit.get(instance(CT) + "/rendered", "image/png, application/dicom").status_code == 400


def test_w_render_nodicomts_no_transfer_syntax_for_rendered_types(lit: Lit) -> None:
    response = lit.get(instance(CT) + "/rendered", "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50")
    assert response.status_code == 400


def test_w_render_size_and_viewport(lit: Lit) -> None:
    assert lit.image(instance(CT) + "/rendered").size == (16, 16)
    assert lit.image(instance(CT) + "/rendered?viewport=40,80").size == (40, 40)
    crop = lit.image(instance(CT) + "/rendered?viewport=8,4,0,0,8,4", "image/png")
    whole = lit.image(instance(CT) + "/rendered", "image/png")
    assert np.array_equal(np.asarray(crop), np.asarray(whole)[:4, :8])


def test_w_render_window_is_applied_to_rescaled_values(lit: Lit) -> None:
    narrow = np.asarray(lit.image(instance(CT) + "/rendered?window=9000,1,linear", "image/png"))
    assert set(np.unique(narrow)) == {0, 255}


@pytest.mark.parametrize(
    "query",
    [
        *("viewport=", "viewport=a,b", "viewport=9", "viewport=99999999,99999999", "viewport=8,8,900,900"),
        *("window=1,2", "window=1,2,cubic", "window=,,linear", "quality=0", "quality=101", "quality=x"),
        *("annotation=", "annotation=,,", "iccprofile=maybe", "quality=5&quality=6"),
    ],
)
def test_w_render_400_for_parameters_that_make_no_sense(lit: Lit, query: str) -> None:
    response = lit.get(f"{instance(CT)}/rendered?{query}")
    assert response.status_code == 400
    assert set(response.json()) == {"error", "detail"}


def test_w_render_quality_changes_lossy_types_only(lit: Lit) -> None:
    def body(query: str, media_type: str) -> bytes:
        return lit.get(f"{instance(CT)}/rendered{query}", media_type).content

    assert len(body("?quality=5", "image/jpeg")) < len(body("?quality=100", "image/jpeg"))
    assert body("?quality=5", "image/png") == body("?quality=100", "image/png")


def test_w_render_annot_unknown_keywords_are_named_in_a_warning(lit: Lit) -> None:
    response = lit.get(instance(CT) + "/rendered?annotation=patient,zodiac")
    assert response.status_code == 200
    assert any("zodiac" in warning for warning in response.headers.get_list("warning"))
    assert response.content != lit.get(instance(CT) + "/rendered").content


def test_w_render_icc_only_in_types_that_hold_a_profile(lit: Lit) -> None:
    assert "icc_profile" in lit.image(instance(CT) + "/rendered?iccprofile=srgb", "image/png").info
    assert lit.get(instance(CT) + "/rendered?iccprofile=srgb", "image/gif").status_code == 400


def test_w_render_frame_one_as_it_is_several_as_parts(lit: Lit) -> None:
    second = np.asarray(lit.image(instance(FRAMES) + "/frames/2/rendered?window=120,240,linear", "image/png"))
    assert abs(int(second[0, 0]) - 127) <= 1
    found = parts(lit.get(instance(FRAMES) + "/frames/3,1/rendered", "multipart/related; type=image/png"))
    assert [head["content-location"].rpartition("/frames/")[2] for head, _ in found] == ["3/rendered", "1/rendered"]
    assert all(head["content-type"] == "image/png" and Image.open(io.BytesIO(body)) for head, body in found)
    assert lit.get(instance(FRAMES) + "/frames/3,1/rendered", "image/png").status_code == 406
    assert lit.get(instance(FRAMES) + "/frames/4/rendered").status_code == 404
    assert lit.get(instance(FRAMES) + "/frames/0/rendered").status_code == 400


def test_w_render_mf_the_middle_frame_all_in_motion_or_as_parts(lit: Lit) -> None:
    still = lit.get(instance(FRAMES) + "/rendered?window=120,240,linear")
    assert still.content == lit.get(instance(FRAMES) + "/frames/2/rendered?window=120,240,linear").content
    moving = lit.image(instance(FRAMES) + "/rendered", "image/gif")
    assert getattr(moving, "n_frames") == 3  # noqa: B009 (Pillow does not declare it)
    assert len(parts(lit.get(instance(FRAMES) + "/rendered", "multipart/related; type=image/jpeg"))) == 3


def test_w_render_study_multipart_only(lit: Lit) -> None:
    for path in (study(CT), series(CT)):
        found = parts(lit.get(path + "/rendered", "multipart/related; type=image/jpeg"))
        assert [head["content-location"].rpartition("/")[2] for head, _ in found] == ["rendered"] * 3
        assert lit.get(path + "/rendered", "image/jpeg").status_code == 406
    assert lit.get(study(BARE) + "/rendered").status_code == 406
    assert lit.get(study(BROKEN) + "/rendered").status_code == 406
    assert len(parts(lit.get(study(SR) + "/rendered", "multipart/related; type=text/html"))) == 1


def test_w_render_text_is_escaped_and_says_its_charset(lit: Lit) -> None:
    page = lit.get(instance(SR) + "/rendered")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in page.text
    assert "肺结节" in page.text
    assert "sandbox" in page.headers["content-security-policy"]
    for media_type in ("text/plain", "text/xml"):
        assert lit.get(instance(SR) + "/rendered", media_type).headers["content-type"].startswith(media_type)
    assert lit.get(instance(SR) + "/rendered", "image/jpeg").status_code == 406


def test_w_render_pdf_verbatim_without_the_byte_of_padding(lit: Lit) -> None:
    response = lit.get(instance(DOC) + "/rendered")
    assert (response.headers["content-type"], response.content) == ("application/pdf", DOCUMENT)
    assert response.headers["content-length"] == str(len(DOCUMENT))


def test_w_render_bomb_is_refused_before_it_is_decoded(lit: Lit) -> None:
    before = lit.pool.done
    assert lit.get(instance(HUGE) + "/rendered").status_code == 413
    assert lit.pool.done == before


def test_damaged_pixels_are_not_acceptable_and_nothing_is_no_picture(lit: Lit) -> None:
    assert lit.get(instance(BROKEN) + "/rendered").status_code == 406
    assert lit.get(instance(BARE) + "/rendered").status_code == 406
    assert lit.get(instance(99) + "/rendered").status_code == 404


@pytest.mark.parametrize("path", [study(CT), series(CT), instance(CT, 2), instance(CT, 2) + "/frames/1"])
def test_w_thumbnail_at_every_level_of_the_middle_image(lit: Lit, path: str) -> None:
    image = lit.image(path + "/thumbnail")
    assert (image.format, image.size) == ("JPEG", (200, 200))
    assert lit.image(path + "/thumbnail?viewport=8,8").size == (8, 8)
    assert lit.get(path + "/thumbnail").content == lit.get(instance(CT, 2) + "/thumbnail?annotation=patient").content
    assert lit.get(path + "/thumbnail?viewport=8,8,0,0,4,4").status_code == 400
    assert lit.get(path + "/thumbnail", "text/html").status_code == 406


def test_w_thumbnail_of_what_has_no_pixels(lit: Lit) -> None:
    assert lit.get(instance(SR) + "/thumbnail").status_code == 406
    assert lit.get(study(99) + "/thumbnail").status_code == 404
    assert lit.get(instance(FRAMES) + "/frames/1,2/thumbnail").status_code == 400


def test_w_thumbnail_and_renderings_are_made_once(lit: Lit) -> None:
    for path in (instance(CT) + "/rendered?quality=77", series(CT) + "/thumbnail?viewport=31,31"):
        first, before = lit.get(path), lit.pool.done
        assert lit.get(path).content == first.content
        assert lit.pool.done == before


def test_h_etag_of_a_rendering_answers_304_and_differs_by_what_is_asked(lit: Lit) -> None:
    path = instance(CT) + "/rendered"
    first = lit.get(path)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private"
    unchanged = lit.client.get(path, headers={"if-none-match": f'"x", W/{tag}'})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
    others = [lit.get(path, "image/png"), lit.get(path + "?quality=3"), lit.get(path + "?viewport=8,8")]
    assert len({tag, *(other.headers["etag"] for other in others)}) == 4


def test_another_version_is_never_answered_with_pictures_of_the_first(lit: Lit) -> None:
    path = instance(20) + "/rendered"
    lit.house.store(grey(20, 1, np.tile([0, 255], (16, 8))))
    first = lit.get(path, "image/png")
    lit.house.store(grey(20, 1, np.tile([255, 0], (16, 8))))
    second = lit.client.get(path, headers={"accept": "image/png", "if-none-match": first.headers["etag"]})
    assert second.status_code == 200
    assert second.content != first.content


def test_rendering_is_recorded_once_and_so_is_what_fails(lit: Lit) -> None:
    lit.audit.events.clear()
    lit.get(instance(CT) + "/rendered?quality=12")
    [event] = lit.audit.events
    assert (event.act, event.outcome, event.study_uid) == ("frames", Outcome.SUCCESS, f"{samples.ROOT}.{CT}")
    lit.get(instance(99) + "/rendered")
    assert lit.audit.events[-1].outcome is Outcome.MINOR


def test_head_gives_the_headers_alone(lit: Lit) -> None:
    head = lit.client.head(instance(CT) + "/rendered")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(lit.get(instance(CT) + "/rendered").content))
